//! Starting a command detached: a session of its own, no terminal, no descriptor of ours.

use std::fs::{File, OpenOptions};
use std::io::{PipeWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::controller::CommandLine;
use crate::world::ProcessId;
use crate::world::disk::{AtPath, DiskError};
use crate::world::inherited::without_inherited;
use crate::world::process::is_gone;
use crate::world::raw_path::RawPath;

/// A child that has not become the command yet. It does when the gate opens; if we die before, it ends without having
/// been the service, so a start that nobody recorded never runs beside a second one.
#[derive(Debug)]
#[must_use = "the command does not run until the gate is opened"]
pub(super) struct Gate {
    go: PipeWriter,
}

impl Gate {
    pub(super) fn open(mut self) -> Result<(), String> {
        self.go.write_all(b"go\n").map_err(|e| format!("the command ended before it began: {e}"))
    }
}

/// What waits at the gate: a shell that reads one line, takes its first argument as umask, where it has one, and
/// replaces itself by the others. No argument is read as shell text.
const WAIT_AT_GATE: &str = "read -r go && { [ -z \"$1\" ] || umask \"$1\"; } && shift && exec \"$@\" </dev/null";

/// So long after its start a process that shows no words may still be on its way to the command: it shows none in the
/// middle of each execve(2), and a busy machine may leave it there for a while. Later they are a service's own doing.
const WORDLESS_MAX: Duration = Duration::from_secs(60);

/// Whether it is a child that waits at its gate, or one that can't be told apart from that: it has just come through
/// and is not the command yet, or it is just ending and shows no words and no program then (proc(5)).
pub(super) fn is_at_gate(process: &ProcessId) -> bool {
    let base = PathBuf::from(format!("/proc/{}", process.pid));
    let is_ending = || std::fs::read_link(base.join("exe")).is_err_and(|error| is_gone(&error));
    may_be_at_gate(&std::fs::read(base.join("cmdline")), || {
        is_ending() || process.age().is_none_or(|a| a < WORDLESS_MAX)
    })
}

fn may_be_at_gate(shown: &std::io::Result<Vec<u8>>, wordless_may: impl FnOnce() -> bool) -> bool {
    match shown {
        Ok(words) if words.is_empty() => wordless_may(),
        Ok(words) => words.split(|byte| *byte == 0).any(|word| word == WAIT_AT_GATE.as_bytes()),
        // Nobody is there any more; what can't be looked at may be anything.
        Err(error) => !is_gone(error),
    }
}

/// Where the programs lie that put a command up. Not searched in PATH: that is the service's, which may know of none.
const TOOL_DIRS: [&str; 6] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin", "/run/current-system/sw/bin"];

/// Prepares it. setsid(1), setpriv(1) of util-linux and the shell replace themselves, so the child is the command.
pub(super) fn launch(command: &CommandLine, log: Option<&Path>) -> Result<(Child, Gate), String> {
    let Some(program) = command.argv.first() else { return Err("the command is empty".to_owned()) };
    let usual = |name: &str| tool(name).unwrap_or_else(|| PathBuf::from(name));
    let mut start = Command::new(usual("setsid"));
    if let Some((uid, gid, groups)) = foreign_credentials(command) {
        start.arg(usual("setpriv")).args(["--reuid", &uid.to_string(), "--regid", &gid.to_string()]);
        if groups.is_empty() {
            start.arg("--clear-groups");
        } else {
            let list: Vec<String> = groups.iter().map(ToString::to_string).collect();
            start.args(["--groups", &list.join(",")]);
        }
    }
    match tool("bash").filter(|_| needs_bash(command.environment.as_deref().unwrap_or_default())) {
        // -p: neither functions nor a start-up file are taken from the environment.
        Some(bash) => start.arg(bash).arg("-p"),
        None => start.arg(usual("sh")),
    };
    let umask = command.umask.map_or_else(String::new, |mask| format!("{:04o}", mask & 0o777));
    start.args(["-c", WAIT_AT_GATE, "svckit", &umask]);
    start.arg(&program.0);
    start.args(command.argv.iter().skip(1).map(|word| &word.0));
    start.current_dir(command.directory.as_ref().map_or(Path::new("/"), |directory| &directory.0));
    if let Some(environment) = &command.environment {
        start.env_clear();
        for variable in environment {
            let bytes = variable.0.as_os_str().as_bytes();
            if let Some(at) = bytes.iter().position(|byte| *byte == b'=').filter(|at| *at > 0) {
                let (name, value) = (&bytes[..at], &bytes[at + 1..]);
                start.env(std::ffi::OsStr::from_bytes(name), std::ffi::OsStr::from_bytes(value));
            }
        }
    }
    let (wait, go) = std::io::pipe().map_err(|e| format!("can't make a pipe: {e}"))?;
    // The command is moved, and the pipe borrowed: see there.
    let wait = &wait;
    let spawn = move || {
        let (out, err) = match log {
            Some(path) => {
                let file = open_log(path).map_err(std::io::Error::other)?;
                (Stdio::from(file.try_clone()?), Stdio::from(file))
            }
            None => (Stdio::null(), Stdio::null()),
        };
        start.stdin(wait.try_clone()?).stdout(out).stderr(err).spawn()
    };
    let child = without_inherited(spawn).map_err(|e| format!("can't run setsid for {}: {e}", program.0.display()))?;
    if let Some(nice) = command.nice {
        set_nice(&child, nice);
    }
    Ok((child, Gate { go }))
}

/// While it waits at the gate. Only root may raise a priority: the service comes back all the same.
fn set_nice(child: &Child, nice: i32) {
    // None would be ourselves.
    let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) else { return };
    if rustix::process::getpriority_process(Some(pid)) != Ok(nice)
        && let Err(error) = rustix::process::setpriority_process(Some(pid), nice)
    {
        tracing::warn!(%error, nice, "a service that is started again has the priority of this program");
    }
}

fn tool(name: &str) -> Option<PathBuf> {
    TOOL_DIRS.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.is_file())
}

/// Whether a plain shell would lose variables: it hands on those only whose names could be its own (`a.b` could not).
fn needs_bash(environment: &[RawPath]) -> bool {
    let is_plain = |variable: &RawPath| {
        let bytes = variable.0.as_os_str().as_bytes();
        let name = bytes.split(|byte| *byte == b'=').next().unwrap_or_default();
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        name.iter().all(fits) && !name.first().is_some_and(u8::is_ascii_digit)
    };
    !environment.iter().all(is_plain)
}

/// Why such an environment can't be given to a command that we start.
pub(super) fn why_not_handed_on(environment: &[RawPath]) -> Option<&'static str> {
    let lacks = needs_bash(environment) && tool("bash").is_none();
    lacks.then_some("its environment has variables that sh does not hand on, and there is no bash: name the command")
}

/// Takes a child over from a controller that goes away: it stays a child of this process, and would stay a zombie.
pub(super) fn reap_later(mut child: Child) {
    let waits = std::thread::Builder::new().name("svckit-reap".to_owned()).spawn(move || child.wait());
    if let Err(error) = waits {
        tracing::debug!(%error, "a service's process stays a zombie until this program ends");
    }
}

fn open_log(path: &Path) -> Result<File, DiskError> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path).at("open the log", path)
}

fn foreign_credentials(command: &CommandLine) -> Option<(u32, u32, Vec<u32>)> {
    let (uid, gid, groups) = command.credentials.clone()?;
    let ours = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    ((uid, gid) != ours).then_some((uid, gid, groups))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_in_the_middle_of_an_execve_is_not_taken_for_the_service() {
        assert!(may_be_at_gate(&Ok(Vec::new()), || true));
        assert!(!may_be_at_gate(&Ok(Vec::new()), || false));
        let words = |text: &str| Ok(text.as_bytes().to_vec());
        assert!(may_be_at_gate(&words(&format!("setsid\0sh\0-c\0{WAIT_AT_GATE}\0svckit\0")), || false));
        assert!(!may_be_at_gate(&words("/usr/sbin/noted\0--daemon\0"), || true));
        let error = |errno: rustix::io::Errno| Err(errno.into());
        assert!(may_be_at_gate(&error(rustix::io::Errno::IO), || false));
        assert!(!may_be_at_gate(&error(rustix::io::Errno::NOENT), || true));
        let own = ProcessId::own().unwrap();
        assert!(own.age().unwrap() < Duration::from_secs(24 * 3600), "{:?}", own.age());
    }
}
