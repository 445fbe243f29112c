//! Commands that make or judge a generation: argument vectors, never a shell of ours.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

use super::{Generation, PublishError, Watch, Writer};
use crate::lock::TOKEN_VARIABLE;
use crate::world::program::wait_for;

/// In a command's environment: the directory of the generation that is made, which is its working directory too.
pub const STAGING_VARIABLE: &str = "SVC_PUBLISH_STAGING";
/// In a command's environment: the number of that generation.
pub const GENERATION_VARIABLE: &str = "SVC_PUBLISH_GENERATION";
/// In a command's environment: the tree.
pub const TREE_VARIABLE: &str = "SVC_PUBLISH_TREE";

/// How commands are run.
#[derive(Clone, Copy)]
pub struct Commands<'a> {
    /// How long each may take. One that does not end then is asked to by SIGTERM, and never killed.
    pub wait_max: Duration,
    /// Sets up what the program that runs us knows best: where the command's output goes.
    pub prepare: &'a (dyn Fn(&mut Command) + Sync),
}

impl std::fmt::Debug for Commands<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commands").field("wait_max", &self.wait_max).finish_non_exhaustive()
    }
}

impl Commands<'_> {
    /// Runs one to its end, in the staging. It inherits the locks: while it, or what it started, runs, nobody else
    /// writes to the tree, also where we are dead by then.
    pub(super) fn run(
        &self,
        what: &'static str,
        argv: &[OsString],
        writer: &Writer<'_>,
        generation: Generation,
        staging: &Path,
        watch: Watch<'_>,
    ) -> Result<(), PublishError> {
        // Its other words may have a password, and the journal is for everybody to read.
        let name = || argv.first().map_or_else(String::new, |program| program.to_string_lossy().into_owned());
        let failed =
            |reason: String| PublishError::Command { what, command: name(), reason, staging: staging.to_owned() };
        let Some((program, arguments)) = argv.split_first() else { return Err(failed("it has no word".to_owned())) };
        let command = || {
            let mut command = Command::new(program);
            command.args(arguments).current_dir(staging).stdin(Stdio::null());
            command.env(STAGING_VARIABLE, staging).env(GENERATION_VARIABLE, generation.to_string());
            command.env(TREE_VARIABLE, writer.tree().root());
            (self.prepare)(&mut command);
            command
        };
        let child = with_locks(command, writer).map_err(|error| failed(format!("it can't be started: {error}")))?;
        let ended = wait_for(child, self.wait_max, Some(watch.cancel.as_fd()));
        match ended.map_err(|error| failed(format!("its end could not be awaited: {error}")))? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(failed(match (status.code(), status.signal()) {
                (Some(code), _) => format!("it ended with status {code}"),
                (None, Some(signal)) => format!("signal {signal} ended it"),
                (None, None) => "it ended in an unknown way".to_owned(),
            })),
            None => {
                writer.leave_to_command();
                if watch.cancel.is_requested() {
                    return Err(PublishError::Cancelled { what: "the update" });
                }
                Err(failed(format!("it was asked to end after {:?}", self.wait_max)))
            }
        }
    }
}

/// Starts it with duplicates of the locks' descriptors, and of nothing else of ours.
///
/// They are made in a thread with a descriptor table of its own, where that is allowed: what another thread of this
/// process starts at the same moment must not inherit them. The command and its descriptors are made there too: they
/// would be numbers of another table.
fn with_locks(command: impl FnOnce() -> Command + Send, writer: &Writer<'_>) -> std::io::Result<Child> {
    let start = move || {
        if let Err(error) = unshare(CloneFlags::CLONE_FILES) {
            tracing::debug!(%error, "no descriptor table of its own");
        }
        // In this order: a command that ends lets go of the lower number first, and whoever waits for the operation's lock
        // finds the tree's own free.
        let (_own, operation) = (writer.hand_on()?, writer.lock.hand_on()?);
        let mut command = command();
        command.env(TOKEN_VARIABLE, operation.variable());
        command.spawn()
    };
    std::thread::scope(|scope| scope.spawn(start).join())
        .unwrap_or_else(|_| Err(std::io::Error::other("the thread that starts a program panicked")))
}
