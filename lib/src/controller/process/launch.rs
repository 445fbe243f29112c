//! Starting a command detached: a session of its own, no terminal, no descriptor of ours.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::controller::CommandLine;
use crate::world::disk::{AtPath, DiskError};

/// A child that has not become the command yet. It does when the gate opens; if we die before, it ends without having
/// been the service, so a start that nobody recorded never runs beside a second one.
#[derive(Debug)]
#[must_use = "the command does not run until the gate is opened"]
pub(super) struct Gate {
    go: ChildStdin,
}

impl Gate {
    pub(super) fn open(mut self) -> Result<(), String> {
        self.go.write_all(b"go\n").map_err(|e| format!("the command ended before it began: {e}"))
    }
}

/// What waits at the gate: a shell that reads one line, takes its first argument as umask, where it has one, and
/// replaces itself by the others. No argument is read as shell text.
const WAIT_AT_GATE: &str = "read -r go && { [ -z \"$1\" ] || umask \"$1\"; } && shift && exec \"$@\" </dev/null";

/// Prepares it. setsid(1), setpriv(1) of util-linux and the shell replace themselves, so the child is the command.
pub(super) fn launch(command: &CommandLine, log: Option<&Path>) -> Result<(Child, Gate), String> {
    let Some(program) = command.argv.first() else { return Err("the command is empty".to_owned()) };
    let mut start = Command::new("setsid");
    if let Some((uid, gid, groups)) = foreign_credentials(command) {
        start.args(["setpriv", "--reuid", &uid.to_string(), "--regid", &gid.to_string()]);
        if groups.is_empty() {
            start.arg("--clear-groups");
        } else {
            let list: Vec<String> = groups.iter().map(ToString::to_string).collect();
            start.args(["--groups", &list.join(",")]);
        }
    }
    let umask = command.umask.map_or_else(String::new, |mask| format!("{:04o}", mask & 0o777));
    start.args(["sh", "-c", WAIT_AT_GATE, "svckit", &umask]);
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
    let (out, err) = match log {
        Some(path) => {
            let file = open_log(path).map_err(|e| e.to_string())?;
            let second = file.try_clone().map_err(|e| e.to_string())?;
            (Stdio::from(file), Stdio::from(second))
        }
        None => (Stdio::null(), Stdio::null()),
    };
    let child = start.stdin(Stdio::piped()).stdout(out).stderr(err).spawn();
    let mut child = child.map_err(|e| format!("can't run setsid for {}: {e}", program.0.display()))?;
    let go = child.stdin.take().ok_or("the child has no standard input")?;
    Ok((child, Gate { go }))
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
