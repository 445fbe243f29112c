//! The service of a fixture: the test bed's, known by a pid file.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use svckit_testbed::command::program;
use svckit_testbed::record::Record;

/// What the service is told to do beside writing.
pub(crate) const ARGUMENTS: &str = "arguments";
/// How long a service may take for what it does in milliseconds when the machine is idle.
pub(crate) const QUICK: Duration = Duration::from_secs(30);

pub(crate) fn directory(root: &Path) -> PathBuf {
    root.join("svc")
}

pub(crate) fn database(root: &Path) -> PathBuf {
    directory(root).join("data.db")
}

pub(crate) fn pid_file(root: &Path) -> PathBuf {
    directory(root).join("pid")
}

pub(crate) fn record(root: &Path) -> Record {
    Record::at(root.join("record").join("rows"))
}

/// The process that the pid file names, while it lives.
pub(crate) fn pid(root: &Path) -> Option<i32> {
    let pid = std::fs::read_to_string(pid_file(root)).ok()?.trim().parse().ok()?;
    processes(root).contains(&pid).then_some(pid)
}

/// The same, once the one that the pid file names shows what it runs: in the middle of its execve a process has no words.
pub(crate) fn settled_processes(root: &Path) -> Vec<i32> {
    let until = Instant::now() + QUICK;
    let named = || std::fs::read_to_string(pid_file(root)).ok()?.trim().parse::<i32>().ok();
    // A zombie has no program any more.
    let is_wordless = |pid: i32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.is_empty())
            && std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
    };
    loop {
        let found = processes(root);
        if !found.is_empty() || !named().is_some_and(is_wordless) || Instant::now() > until {
            return found;
        }
        std::thread::yield_now();
    }
}

/// The command that runs it.
pub(crate) fn command(root: &Path) -> Command {
    let mut command = Command::new(program("testbed-service"));
    command.arg("--record").arg(record(root).path()).arg("--database").arg(database(root)).args(["--pause", "2"]);
    let more = std::fs::read_to_string(directory(root).join(ARGUMENTS)).unwrap_or_default();
    command.args(more.split_whitespace()).current_dir("/");
    command
}

/// Starts it as a launcher would, and waits for its first rows.
pub(crate) fn start(root: &Path) {
    let mut child = command(root).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::fs::write(pid_file(root), format!("{}\n", child.id())).unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    // Whoever ends it, somebody must reap it: here, as init would.
    std::thread::spawn(move || child.wait());
    record(root).wait_for("the service commits", QUICK, |events| {
        events.iter().filter(|e| e.pid == pid && e.what == "commit").count() >= 2
    });
}

/// The live processes of the service: those whose command line names its record.
pub(crate) fn processes(root: &Path) -> Vec<i32> {
    let record = record(root).path().to_string_lossy().into_owned();
    live().filter(|(_, command)| is_service(command) && command.contains(&record)).map(|(pid, _)| pid).collect()
}

/// The live processes that were started for this fixture and are not the service: the program, the guard, and what
/// they start.
pub(crate) fn helpers(root: &Path) -> Vec<i32> {
    let root = root.to_string_lossy().into_owned();
    let own = i32::try_from(std::process::id()).unwrap();
    let names_it = |pid: i32, command: &str| {
        command.contains(&root)
            || std::fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environment| String::from_utf8_lossy(&environment).contains(&root))
    };
    live()
        .filter(|(pid, command)| *pid != own && !is_service(command) && names_it(*pid, command))
        .map(|(pid, _)| pid)
        .collect()
}

/// The service, or setsid(1) and its like a moment before they become it.
fn is_service(command: &str) -> bool {
    command.split('\0').any(|word| word.ends_with("/testbed-service"))
}

/// Every process that is no zombie, with its command line.
fn live() -> impl Iterator<Item = (i32, String)> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    // A zombie, and a kernel thread, has no command line.
    pids.filter_map(|pid: i32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        (!command.is_empty()).then(|| (pid, String::from_utf8_lossy(&command).into_owned()))
    })
}
