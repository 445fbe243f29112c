//! A directory published again after some of its files have changed.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::bench::Bench;
use crate::report::Section;
use crate::samples::{Contestant, Ratio, in_turns};
use crate::tools::{shell, timed};

/// Bytes of a file.
const FILE: usize = 4096;
/// One file of so many has changed.
const CHANGED_OF: usize = 100;
/// Files of one directory.
const PER_DIRECTORY: usize = 500;

const IN_PLACE: &str = "rsync -a --delete \"$1\"/ \"$2\"/";
/// With the link replaced by a rename, and one older state kept.
const COPY_AND_SWAP: &str = "old=$(readlink \"$2/current\"); new=$((old + 1)); cp -al \"$2/$old\" \"$2/$new\"
rsync -a --delete \"$1\"/ \"$2/$new\"/
ln -s \"$new\" \"$2/next\"; mv -T \"$2/next\" \"$2/current\"; rm -rf \"$2/$((old - 1))\"";

pub(crate) fn small(bench: &Bench) -> Outcome<Section> {
    measure(bench, "publish", 2_000)
}

/// 50,000 files where the size is the default; fewer to try this out.
pub(crate) fn large(bench: &Bench) -> Outcome<Section> {
    measure(bench, "publish-large", usize::try_from(bench.size / 30_000)?.max(PER_DIRECTORY))
}

fn measure(bench: &Bench, name: &'static str, count: usize) -> Outcome<Section> {
    let scratch = bench.scratch()?;
    let at = |name: &str| scratch.path().join(name);
    let source = Source::new(at("source"), count)?;
    let path = source.root.as_path();
    let ours = |tree: &Path| -> Outcome<_> {
        let mut command = std::process::Command::new(bench.program("svc-publish")?);
        command.env("SVCKIT_STATE_DIR", at("state")).env_remove("SVCKIT_LOCK").arg("update").arg(tree);
        command.arg("--from").arg(path).args(["--keep", "2", "--grace", "0s"]);
        timed(&mut command)
    };
    let theirs = |script: &str, tree: &Path| timed(&mut shell(script, &[path, tree]));
    let synced = |script: &str| format!("{script}\nsync -f \"$2\"");
    let (in_place, swapped) = (synced(IN_PLACE), synced(COPY_AND_SWAP));
    for tree in ["swapped", "swapped-synced"] {
        let first = "mkdir -p \"$2\"; cp -a \"$1\" \"$2/1\"; ln -s 1 \"$2/current\"";
        theirs(first, &at(tree))?;
    }
    let mut contestants = vec![
        Contestant { name: "svc-publish update", run: Box::new(|| ours(&at("tree"))) },
        Contestant { name: "rsync in place", run: Box::new(|| theirs(IN_PLACE, &at("in-place"))) },
        Contestant { name: "rsync in place, sync", run: Box::new(|| theirs(&in_place, &at("in-place-synced"))) },
        Contestant { name: "cp -al, rsync, mv", run: Box::new(|| theirs(COPY_AND_SWAP, &at("swapped"))) },
        Contestant { name: "cp -al, rsync, mv, sync", run: Box::new(|| theirs(&swapped, &at("swapped-synced"))) },
    ];
    let names: Vec<&str> = contestants.iter().map(|contestant| contestant.name).collect();
    let mut turn = 0;
    // All of a round publish the same change; each begins with nothing left to write.
    let measured = in_turns(&mut contestants, bench.runs, || {
        if turn % names.len() == 0 {
            source.change(turn)?;
        }
        turn += 1;
        rustix::fs::sync();
        Ok(())
    })?;
    let rows = names.iter().zip(&measured).map(|(name, one)| {
        vec![
            (*name).to_owned(),
            one.time.seconds(),
            format!("{}", Ratio::of(&one.time, &measured[4].time)),
            format!("{:.1} MB", one.written as f64 / 1e6),
            one.cpu.seconds(),
        ]
    });
    let changed = count.div_ceil(CHANGED_OF);
    Ok(Section {
        name,
        title: format!("{count} files of 4 KiB, of which {changed} have changed"),
        columns: vec!["contestant", "time", "the last = 1 (best runs)", "written", "processor"],
        rows: rows.collect(),
        notes: vec![
            "svc-publish has synced every new file and directory, compared the whole generation with its manifest, and keeps \
             the one before; rsync in place shows readers half of an update."
                .to_owned(),
            "Written: what the programs changed in the page cache (getrusage(2), ru_oublock), without the file system's journal."
                .to_owned(),
        ],
    })
}

struct Source {
    root: PathBuf,
    count: usize,
}

impl Source {
    fn new(root: PathBuf, count: usize) -> Outcome<Self> {
        let source = Self { root, count };
        for number in 0..count {
            let path = source.file(number);
            if number % PER_DIRECTORY == 0 {
                std::fs::create_dir_all(path.parent().ok_or("a file without a directory")?)?;
            }
            let text = format!("file {number} of a published tree\n");
            std::fs::write(path, text.repeat(FILE / text.len() + 1).get(..FILE).ok_or("a short file")?)?;
        }
        Ok(source)
    }

    fn file(&self, number: usize) -> PathBuf {
        self.root.join((number / PER_DIRECTORY).to_string()).join(number.to_string())
    }

    /// Others each time, all over the tree.
    fn change(&self, turn: usize) -> Outcome<()> {
        for number in (turn % CHANGED_OF..self.count).step_by(CHANGED_OF) {
            let path = self.file(number);
            let file = std::fs::File::create(&path)?;
            file.write_all_at(format!("turn {turn} of {}\n", path.display()).repeat(FILE / 64).as_bytes(), 0)?;
        }
        Ok(())
    }
}
