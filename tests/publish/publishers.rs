//! Publishers: the real program again and again, and naive ones that are processes of their own.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use svckit_testbed::command::{Running, ended, ours, start};
use svckit_testbed::random::Random;

use crate::readers::FILES;

/// The first argument of a naive publisher.
const ACT: &str = "--publish";
/// One update on a busy machine.
pub(crate) const UPDATE_MAX: Duration = Duration::from_secs(60);

/// Makes a directory the state of that number.
pub(crate) fn state(directory: &Path, number: u64) {
    for name in FILES {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("state {number:010}\n").repeat(20)).unwrap();
    }
}

/// What the real publisher did.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Published {
    pub(crate) updates: u64,
    pub(crate) killed: u64,
}

/// Publishes with svc-publish until the readers have ended; every third update is killed, at a random moment.
pub(crate) fn real(root: &Path, keep: &[&str], kill: bool, readers: &[i32]) -> Published {
    let (mut done, mut random, mut number) = (Published::default(), Random(std::process::id().into()), 1);
    while readers.iter().any(|pid| !ended(*pid, Duration::ZERO)) {
        number += 1;
        state(&root.join("source"), number);
        let mut update = start(update(root, keep));
        if kill && number % 3 == 0 && !ended(update.pid(), Duration::from_micros(random.bits() % 60_000)) {
            update.kill();
            assert!(ended(update.pid(), UPDATE_MAX));
            drop(update.finish(UPDATE_MAX));
            done.killed += 1;
        } else {
            update.finish(UPDATE_MAX).expect(0);
            done.updates += 1;
        }
    }
    done
}

/// One update of the real program.
pub(crate) fn update(root: &Path, keep: &[&str]) -> Command {
    let mut command = ours("svc-publish", ["update", "--quiet"]);
    command.arg(root.join("tree")).arg("--from").arg(root.join("source")).args(keep);
    command.env("SVCKIT_STATE_DIR", root.join("state"));
    command
}

/// Starts a naive publisher for so long.
pub(crate) fn naive(how: &str, root: &Path, time: Duration) -> Running {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([ACT, how]).arg(root).arg(time.as_millis().to_string());
    start(command)
}

/// Publishes, if that is what we were started for.
pub(crate) fn act() -> Option<ExitCode> {
    let args: Vec<PathBuf> = std::env::args_os().map(PathBuf::from).collect();
    if args.get(1)?.as_os_str() != ACT {
        return None;
    }
    let (root, tree) = (args[3].clone(), args[3].join("tree"));
    let until = Instant::now() + Duration::from_millis(args[4].to_str().unwrap().parse().unwrap());
    let mut number = 1;
    while Instant::now() < until {
        number += 1;
        match args[2].to_str().unwrap() {
            // As rsync does by itself: each file by a temporary one and a rename.
            "in-place" => {
                state(&root.join("source"), number);
                for name in FILES {
                    let temporary = tree.join("current").join(format!("{name}.new"));
                    std::fs::copy(root.join("source").join(name), &temporary).unwrap();
                    std::fs::rename(temporary, tree.join("current").join(name)).unwrap();
                }
            }
            // Production and staging change places, and the old one is written to again.
            _ => {
                let name = if number % 2 == 0 { "staging" } else { "production" };
                state(&tree.join(name), number);
                std::os::unix::fs::symlink(name, tree.join("new")).unwrap();
                std::fs::rename(tree.join("new"), tree.join("current")).unwrap();
            }
        }
    }
    Some(ExitCode::SUCCESS)
}
