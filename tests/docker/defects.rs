//! Defects that another tool had, where nothing else of ours looks for them. `tests/house/defects.rs` has the whole list.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use svckit_testbed::command::{Outcome, run, sh};
use svckit_testbed::docker::Engine;
use svckit_testbed::stories::Story;

use crate::servers::redis_of;

pub(crate) const STORIES: &[Story] = &[
    ("a dump onto a full disk says so as its first and only error, and keeps nothing", full_disk),
    ("a dump of three times as much takes no more memory", memory),
];

/// The goal of a dump's peak, whatever its size.
const PEAK_MAX_KIB: u64 = 64 << 10;
/// So many keys are made at once.
const PART: usize = 10_000;
const DUMP_MAX: Duration = Duration::from_secs(180);

/// A Redis server with so many keys of a kilobyte that can't be compressed.
fn filled(engine: &Engine, name: &str, keys: u32) {
    redis_of(engine, name);
    // In parts, each of which is over in seconds.
    let script = "math.randomseed(ARGV[1]) local word = {} for i = 1, 64 do word[i] = string.char(math.random(0, 255)) end \
        for n = ARGV[1] + 1, ARGV[2] do for i = 1, 1000 do word[i] = string.char(math.random(0, 255)) end \
        redis.call('SET', 'key:' .. n, table.concat(word)) end return redis.call('DBSIZE')";
    for first in (0..keys).step_by(PART) {
        let last = keys.min(first + u32::try_from(PART).unwrap());
        let range = [first.to_string(), last.to_string()];
        let made = engine.docker(["exec", name, "redis-cli", "EVAL", script, "0", &range[0], &range[1]]).expect(0);
        assert_eq!(made.stdout.trim(), range[1]);
    }
}

fn back_up(engine: &Engine, name: &str, store: &Path) -> Command {
    let store = store.display().to_string();
    let args = ["backup", "--engine", "redis", "--container", name, "--no-password", "--to", &store];
    engine.tool("svc-backup", &args)
}

fn full_disk() {
    let engine = &Engine::start();
    filled(engine, "full", 8_000);
    let store = engine.path("small");
    std::fs::create_dir(&store).unwrap();
    let at = store.to_str().unwrap();
    sh("mount", ["-t", "tmpfs", "-o", "size=4m,mode=0700", "svckit-testbed", at]).expect(0);
    let failed = run(back_up(engine, "full", &store), DUMP_MAX);
    let errors: Vec<&str> = failed.stderr.lines().filter(|line| line.starts_with("svc-backup:")).collect();
    let entries = |of: &Path| std::fs::read_dir(of).unwrap().flatten().filter(|e| e.path().is_dir()).count();
    let left = entries(&store.join("full"));
    sh("umount", [at]).expect(0);
    assert_eq!(failed.status, 30, "{failed:?}");
    assert!(errors.len() == 1 && errors[0].contains("No space left on device"), "{failed:?}");
    assert_eq!(left, 0, "half a backup is left");
    run(back_up(engine, "full", &store), DUMP_MAX).expect(0);
    assert_eq!(entries(&store.join("full")), 1);
}

/// The peak of the program, in KiB: python waits for it, and tells what the kernel counted.
fn peak(command: &Command) -> (u64, Outcome) {
    let script = "import resource, subprocess, sys\nended = subprocess.run(sys.argv[1:]).returncode\n\
        print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\nsys.exit(ended)";
    let mut measured = Command::new("python3");
    measured.args(["-c", script]).arg(command.get_program()).args(command.get_args());
    measured.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let outcome = run(measured, DUMP_MAX).expect(0);
    let last = outcome.stdout.lines().last().unwrap_or_default().parse().unwrap();
    (last, outcome)
}

fn memory() {
    let engine = &Engine::start();
    let mut peaks = Vec::new();
    for (name, keys) in [("little", 40_000), ("much", 120_000)] {
        filled(engine, name, keys);
        let store = engine.path("store");
        let (kib, outcome) = peak(&back_up(engine, name, &store));
        let stored: u64 = payloads(&store.join(name));
        assert!(stored > u64::from(keys) * 900, "it can't be compressed: {stored} bytes, {outcome:?}");
        peaks.push(kib);
        engine.docker(["rm", "-f", name]).expect(0);
    }
    assert!(peaks.iter().all(|kib| *kib < PEAK_MAX_KIB), "{peaks:?} KiB");
    assert!(peaks[1] < peaks[0] + (8 << 10), "it grows with the dump: {peaks:?} KiB");
}

fn payloads(target: &Path) -> u64 {
    let directories = std::fs::read_dir(target).unwrap().flatten().filter(|entry| entry.path().is_dir());
    let files = directories.flat_map(|directory| std::fs::read_dir(directory.path()).unwrap().flatten());
    files.map(|file| file.metadata().unwrap().len()).sum()
}
