//! Daemons and children. They are the same program started again in another role: fork(2) without exec has no place
//! in a program that may have threads.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{Error, Role};

fn again(role: Role) -> Result<Command, Error> {
    use clap::ValueEnum;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1));
    let role = role.to_possible_value().ok_or("every role has a name")?;
    command.arg("--role").arg(role.get_name());
    Ok(command)
}

/// The started process: waits for the first fork, and ends when the daemon's pid is written.
pub(super) fn fork_first() -> Result<(), Error> {
    let status = again(Role::Forked)?.status()?;
    if status.success() { Ok(()) } else { Err(format!("the first fork ended with {status}").into()) }
}

/// The first fork: leaves the session, starts the daemon and ends, so that init adopts it.
pub(super) fn fork_second(pid_file: &Path) -> Result<(), Error> {
    rustix::process::setsid()?;
    let daemon = again(Role::Daemon)?
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .spawn()?;
    std::fs::write(pid_file, format!("{}\n", daemon.id()))?;
    Ok(())
}

/// A child that lives by our side, and for a while after us.
pub(super) fn child() -> Result<Child, Error> {
    Ok(again(Role::Child)?.stdin(Stdio::piped()).spawn()?)
}
