//! Sixteen processes want one service: never two at once, and whoever is refused hears who has it.
//!
//! What is observed is the journal's directory, from outside: an operation has an entry there from before its first
//! effect until after its last, and inotify(7) gives the order of the changes as the kernel saw them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use regex::Regex;
use svckit_testbed::command::{Outcome, Running, ours, start};

use crate::engine::Fixture;
use crate::engine::is_thorough;
use crate::plain::fixture::{Guard, Plain, Work};
use crate::plain::template::TARGET;
use crate::plain::{data, service};

const CONTENDERS: usize = 16;
const WAIT_MAX: Duration = Duration::from_secs(120);

/// How the operations of one round overlapped.
#[derive(Debug, Default)]
struct Seen {
    present: BTreeSet<String>,
    /// How many operations there were.
    operations: usize,
    /// Entries that were there at once, at most.
    at_once_max: usize,
}

impl Seen {
    fn take(&mut self, watch: &Inotify) {
        while let Ok(events) = watch.read_events() {
            for event in events {
                let name = event.name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                assert!(!event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW), "the observer missed events");
                if name.starts_with('.') || !name.ends_with(".json") {
                    continue;
                }
                if event.mask.contains(AddWatchFlags::IN_DELETE) {
                    self.present.remove(&name);
                } else if self.present.insert(name) {
                    self.operations += 1;
                }
                self.at_once_max = self.at_once_max.max(self.present.len());
            }
        }
    }
}

fn contender(index: usize, root: &Path, state: &Path) -> Command {
    let (database, pid_file, store) = (service::database(root), service::pid_file(root), root.join("store"));
    let words = |text: &str| text.split(' ').map(PathBuf::from).collect::<Vec<_>>();
    let mut command = match index % 3 {
        0 => {
            let mut args = words(&format!("backup --name {TARGET} --mode cold --to"));
            args.extend([store, "--sqlite".into(), database]);
            ours("svc-backup", args)
        }
        // No restore: it has a second entry, for its copy beside the database, and operations are counted by entries.
        _ => ours("svc-ctl", ["restart"]),
    };
    if index.is_multiple_of(2) {
        // These queue up, so that operations follow each other closely.
        command.args(["--wait", "100s"]);
    }
    command.arg("--pid-file").arg(pid_file).env("SVCKIT_STATE_DIR", state);
    command
}

/// Starts all at once; every one has its state in `state(index)`.
fn contend(root: &Path, state: impl Fn(usize) -> PathBuf) -> (Inotify, Vec<Running>) {
    let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).unwrap();
    let changes = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE;
    let states: BTreeSet<PathBuf> = (0..CONTENDERS).map(&state).collect();
    for state in states {
        let journal = state.join("state/journal");
        svckit::world::disk::create_private_dir(&journal).unwrap();
        watch.add_watch(&journal, changes).unwrap();
    }
    (watch, (0..CONTENDERS).map(|index| start(contender(index, root, &state(index)))).collect())
}

pub(crate) fn never_two_at_once() {
    let refusal = Regex::new(r"(backup|restore|restart) of .+ by process \d+, since \d{4}-\d\d-\d\dT").unwrap();
    let (mut done, mut refused) = (0, 0);
    let rounds = if is_thorough() { 30 } else { 4 };
    for _ in 0..rounds {
        let mut plain = Plain::new(Work::Restore, Guard::Alive, "slow --slow-for 200");
        let root = plain.root().to_owned();
        let (watch, running) = contend(&root, |_| root.join("state"));
        let outcomes: Vec<Outcome> = running.into_iter().map(|one| one.finish(WAIT_MAX)).collect();
        let mut seen = Seen::default();
        seen.take(&watch);
        assert!(seen.at_once_max <= 1, "{seen:?}");
        for outcome in &outcomes {
            match outcome.status {
                0 => done += 1,
                20 => {
                    refused += 1;
                    assert!(refusal.is_match(&outcome.stderr), "no holder is named: {outcome:?}");
                }
                _ => panic!("neither done nor refused by the lock: {outcome:?}"),
            }
        }
        let won = outcomes.iter().filter(|outcome| outcome.status == 0).count();
        assert!(won > CONTENDERS / 2 - 1 && seen.operations == won, "{won} won: {seen:?}");
        plain.check_service().unwrap();
        data::check_whole(&service::database(&root)).unwrap();
        assert_eq!(plain.journal(), Vec::<PathBuf>::new());
        plain.tear_down();
    }
    let text =
        format!("exclusion: {rounds} rounds of {CONTENDERS}: {done} done, {refused} refused, never two at once\n");
    drop(std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()));
    assert!(refused > 0, "nobody was refused: there was no contention");
}

/// The same contenders, each with locks of its own: the observation must see them overlap.
pub(crate) fn without_a_common_lock() {
    let mut plain = Plain::new(Work::Restore, Guard::Alive, "slow --slow-for 1000");
    let root = plain.root().to_owned();
    let (watch, running) = contend(&root, |index| root.join(format!("state-{index}")));
    let mut seen = Seen::default();
    let until = Instant::now() + WAIT_MAX;
    while seen.at_once_max < 2 && Instant::now() < until {
        use std::os::fd::AsFd;
        svckit::world::wait::readable(&[watch.as_fd()], until).unwrap();
        seen.take(&watch);
    }
    for mut one in running {
        one.kill();
        let _killed_or_done = one.finish(WAIT_MAX);
    }
    plain.tear_down();
    assert!(seen.at_once_max >= 2, "the observation can't see an overlap: {seen:?}");
}
