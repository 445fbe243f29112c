//! A published tree, cut off at each step of an update, a switch and a clean-up: readers always find one whole state, and
//! the next update works and leaves nothing behind.

mod state;

use std::path::{Path, PathBuf};

use svckit_testbed::command::{ours, program, run};
use tempfile::TempDir;

use crate::actors::actor;
use crate::engine::{Fault, Fixture, Interrupted, Program, Tally, control, sweep};
use crate::plain::{scratch, service::QUICK};
use crate::power::Disk;

/// What is cut off. The tree has the states 1 and 2, and 2 is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// State 3 is published from a directory, and older generations are removed.
    Update,
    /// A command makes state 3.
    Run,
    /// Back to state 1.
    Switch,
    /// State 1 is removed.
    Collect,
    /// State 3 is copied beside, and the link is removed and made again.
    NaiveLink,
    /// The order is right, and nothing is made durable.
    NaiveUnsynced,
}

impl Work {
    /// What may be served afterwards.
    fn served(self) -> &'static [u32] {
        match self {
            Self::Update | Self::Run | Self::NaiveLink | Self::NaiveUnsynced => &[2, 3],
            Self::Switch => &[1, 2],
            Self::Collect => &[2],
        }
    }

    /// What is served where it reports success.
    fn done(self) -> u32 {
        match self {
            Self::Update | Self::Run | Self::NaiveLink | Self::NaiveUnsynced => 3,
            Self::Switch => 1,
            Self::Collect => 2,
        }
    }
}

struct Published {
    directory: TempDir,
    work: Work,
}

impl Published {
    fn within(directory: TempDir, work: Work) -> Self {
        let published = Self { directory, work };
        let root = published.directory.path();
        for state in [1, 2] {
            state::make(&root.join("source"), state);
            published.publish(&["--from".into(), root.join("source")]).unwrap();
        }
        state::make(&root.join("source"), 3);
        published
    }

    fn tree(&self) -> PathBuf {
        self.directory.path().join("tree")
    }

    /// Waits for the lock: a command that outlives its update keeps it.
    fn publish(&self, words: &[PathBuf]) -> Result<(), String> {
        let mut command = ours("svc-publish", ["--quiet", "update", "--wait", "30s"]);
        command.arg(self.tree()).args(words).env("SVCKIT_STATE_DIR", self.directory.path().join("state"));
        let outcome = run(command, QUICK);
        if outcome.status == 0 { Ok(()) } else { Err(format!("an update ends with {}: {outcome:?}", outcome.status)) }
    }

    /// Which state readers find: a whole one, and one of those that it may be.
    fn served(&self) -> Result<u32, String> {
        let served = state::of(&self.tree().join("current"))?;
        if !self.work.served().contains(&served) {
            return Err(format!("state {served} is served"));
        }
        Ok(served)
    }

    fn look(&self) -> Result<u32, String> {
        let served = self.served()?;
        state::verify(&self.tree())?;
        state::make(&self.directory.path().join("next"), 4);
        let before = state::number(&self.tree())?;
        let words = ["--keep", "1", "--grace", "0s", "--from"].map(PathBuf::from).into_iter();
        let words: Vec<PathBuf> = words.chain([self.directory.path().join("next")]).collect();
        self.publish(&words)?;
        let after = state::of(&self.tree().join("current"))?;
        if after != 4 || state::number(&self.tree())? <= before {
            return Err(format!("the next update serves state {after}"));
        }
        state::leftovers(&self.tree())?;
        Ok(served)
    }
}

impl Fixture for Published {
    fn root(&self) -> &Path {
        self.directory.path()
    }

    fn program(&self) -> Program {
        let (tree, source) = (self.tree(), self.directory.path().join("source"));
        let words = |text: &str| text.split(' ').map(PathBuf::from).collect::<Vec<_>>();
        let args = match self.work {
            Work::Update => [words("update --quiet --keep 1 --grace 0s --from"), vec![source, tree]].concat(),
            Work::Run => {
                let script = "rm -r ./* && cp -r \"$1\"/. .";
                let command = [PathBuf::from("--"), "sh".into(), "-c".into(), script.into(), "sh".into(), source];
                [words("update --quiet --run"), vec![tree], command.to_vec()].concat()
            }
            Work::Switch => [words("switch --quiet --back"), vec![tree]].concat(),
            Work::Collect => [words("gc --quiet --keep 1 --grace 0s"), vec![tree]].concat(),
            Work::NaiveLink => return actor("naive-publish", [source, tree]),
            Work::NaiveUnsynced => return actor("unsynced-publish", [source, tree]),
        };
        Program::new(&program("svc-publish"), args).env("SVCKIT_STATE_DIR", self.directory.path().join("state"))
    }

    fn check(&mut self, end: &Interrupted, fault: Fault) -> Result<Option<&'static str>, String> {
        let served = self.look()?;
        let reports_success = fault != Fault::Kill && end.outcome.status == 0;
        if reports_success && served != self.work.done() {
            return Err(format!("it reports success, and state {served} is served"));
        }
        Ok(Some(if served == self.work.done() { "the new state is served" } else { "the old state is served" }))
    }

    fn tear_down(&mut self) {}
}

/// On a file system of its own, whose power is cut together with the program.
struct Powered {
    published: Published,
    disk: Disk,
}

impl Powered {
    fn new(work: Work) -> Self {
        let disk = Disk::new();
        let directory = tempfile::tempdir_in(disk.mount_point()).unwrap();
        Self { published: Published::within(directory, work), disk }
    }
}

impl Fixture for Powered {
    // What is started in a mount namespace of its own keeps every mount that is there at that moment.
    const ALONE: bool = true;

    fn root(&self) -> &Path {
        self.published.root()
    }

    fn program(&self) -> Program {
        self.published.program()
    }

    fn check(&mut self, _end: &Interrupted, _fault: Fault) -> Result<Option<&'static str>, String> {
        // Somebody else makes a file of his own durable: that takes along every name that was changed before, and no
        // content that was not synced.
        let other = std::fs::File::create(self.root().join("other")).unwrap();
        other.sync_all().unwrap();
        drop(other);
        self.disk.cut(self.root())?;
        self.disk.mount()?;
        let _in_memory = std::fs::remove_dir_all(self.root().join("state/lock"));
        // What it reported is not known any more: only what is served counts.
        let served = self.published.look()?;
        Ok(Some(if served == self.published.work.done() {
            "the new state is served"
        } else {
            "the old state is served"
        }))
    }

    fn tear_down(&mut self) {}
}

const ERRORS: [Fault; 3] = [Fault::Error("ENOSPC"), Fault::ErrorsFromHere("ENOSPC"), Fault::Error("EIO")];

fn swept(name: &str, work: Work) {
    let killed = sweep(&format!("{name}, killed"), &[Fault::Kill], || Published::within(scratch(), work));
    let failed = sweep(&format!("{name}, failed"), &ERRORS, || Published::within(scratch(), work));
    Tally::assert_hold(&[killed, failed]);
}

pub(crate) fn update() {
    swept("update of a tree", Work::Update);
}

pub(crate) fn update_by_a_command() {
    swept("update of a tree by a command", Work::Run);
}

pub(crate) fn switch() {
    swept("switch of a tree", Work::Switch);
}

pub(crate) fn collect() {
    swept("clean-up of a tree", Work::Collect);
}

pub(crate) fn naive() {
    let build = || Published::within(scratch(), Work::NaiveLink);
    control("naive publishing", &[Fault::Kill], build, &["current"]);
}

pub(crate) fn power() {
    let update = sweep("update of a tree, power cut", &[Fault::Kill], || Powered::new(Work::Update));
    assert_eq!(update.remarks.len(), 2, "{:?}", update.remarks);
    let switch = sweep("switch of a tree, power cut", &[Fault::Kill], || Powered::new(Work::Switch));
    Tally::assert_hold(&[update, switch]);
}

pub(crate) fn power_without_syncs() {
    let build = || Powered::new(Work::NaiveUnsynced);
    control("publishing without syncs, power cut", &[Fault::Kill], build, &["half"]);
}
