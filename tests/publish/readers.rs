//! A reader: a process of its own that reads all files of a set again and again, and counts.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open, openat};
use svckit::publish::{Lease, Tree};
use svckit_testbed::command::{Running, start};

/// The first argument of a reader.
const ACT: &str = "--read";
/// The files of a set; all of one state have the same content.
pub(crate) const FILES: [&str; 4] = ["Release", "main/Packages", "main/Sources", "by-hash/index"];

/// How a reader comes to its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Under a lease, through its descriptor.
    Leased,
    /// Through a descriptor of the directory, and nothing else.
    Pinned,
    /// By the path, each file anew.
    ByPath,
}

impl How {
    fn word(self) -> &'static str {
        match self {
            Self::Leased => "leased",
            Self::Pinned => "pinned",
            Self::ByPath => "by-path",
        }
    }
}

/// What a reader has seen.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Seen {
    /// Sets read.
    pub(crate) reads: u64,
    /// Of two states.
    pub(crate) mixed: u64,
    /// With a file, or the whole set, that was not there.
    pub(crate) missing: u64,
    /// How often another state than the time before.
    pub(crate) changes: u64,
}

impl Seen {
    pub(crate) fn add(&mut self, other: Self) {
        self.reads += other.reads;
        self.mixed += other.mixed;
        self.missing += other.missing;
        self.changes += other.changes;
    }
}

/// Starts a reader for so many sets, or so long, whichever is over later; at most five minutes.
pub(crate) fn reader(how: How, tree: &Path, reads: u64, time: Duration) -> Running {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([ACT, how.word()]).arg(tree).arg(reads.to_string()).arg(time.as_millis().to_string());
    start(command)
}

/// Reads, if that is what we were started for.
pub(crate) fn act() -> Option<ExitCode> {
    let args: Vec<PathBuf> = std::env::args_os().map(PathBuf::from).collect();
    if args.get(1)?.as_os_str() != ACT {
        return None;
    }
    let number = |at: usize| args[at].to_str().unwrap().parse::<u64>().unwrap();
    let how = match args[2].to_str().unwrap() {
        "leased" => How::Leased,
        "pinned" => How::Pinned,
        _ => How::ByPath,
    };
    let (reads, until) = (number(4), Instant::now() + Duration::from_millis(number(5)));
    let bound = Instant::now() + Duration::from_secs(300);
    let (mut seen, mut before) = (Seen::default(), Vec::new());
    while (seen.reads < reads || Instant::now() < until) && Instant::now() < bound {
        seen.reads += 1;
        match set(how, &args[3]) {
            Err(_) => seen.missing += 1,
            Ok(set) if set.iter().any(|text| *text != set[0]) => seen.mixed += 1,
            Ok(mut set) => {
                let text = set.swap_remove(0);
                seen.changes += u64::from(text != before);
                before = text;
            }
        }
    }
    let line = serde_json::to_string(&seen).unwrap() + "\n";
    std::io::stdout().write_all(line.as_bytes()).unwrap();
    Some(ExitCode::SUCCESS)
}

fn set(how: How, tree: &Path) -> Result<Vec<Vec<u8>>, String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let current = tree.join("current");
    match how {
        How::Leased => {
            let lease = Tree::open(tree).and_then(|tree| Lease::take(&tree)).map_err(|error| error.to_string())?;
            through(&lease)
        }
        How::Pinned => {
            through(&open(&current, flags | OFlags::DIRECTORY, Mode::empty()).map_err(|error| error.to_string())?)
        }
        How::ByPath => {
            FILES.iter().map(|name| std::fs::read(current.join(name)).map_err(|error| error.to_string())).collect()
        }
    }
}

fn through(directory: &impl AsFd) -> Result<Vec<Vec<u8>>, String> {
    let read = |name: &&str| {
        let file = openat(directory, *name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut text = Vec::new();
        File::from(file).read_to_end(&mut text).map(|_| text)
    };
    FILES.iter().map(|name| read(name).map_err(|error| error.to_string())).collect()
}
