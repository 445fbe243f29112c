//! The guard: a process outside ours that brings the service back when we die.
//!
//! It is started before the first effect and after the journal entry is durable. It waits for the end of its owner
//! through a pidfd, so a SIGKILL of the owner wakes it at once, and for the removal of the entry, so it ends when
//! nothing is left to do. Units and containers are guarded by a transient unit, which outlives the end of our own
//! cgroup; services that svckit starts itself by a child in a session of its own, since what it starts must not live
//! in a unit that ends with it.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::Context;
use crate::controller::{Scope, ServiceSpec, systemd};
use crate::journal::{Entry, ServiceStage};
use crate::world::disk::parent_of;
use crate::world::inherited::without_inherited;
use crate::world::{Pidfd, ProcessId, wait};

/// How long a guard that is a child may take to say that it waits.
const GUARD_START_MAX: Duration = Duration::from_secs(20);
/// How long it may take to notice that it is not needed any more; only then do we reap it.
const GUARD_END_MAX: Duration = Duration::from_secs(5);

/// A running guard.
#[derive(Debug)]
pub(super) struct Guard {
    child: Option<Child>,
}

impl Guard {
    /// Starts the guard of an entry that is on disk.
    pub(super) fn start(context: &Context, entry: &Entry, path: &Path) -> Result<Self, String> {
        let mut argv = context.guard_argv.clone();
        if argv.is_empty() {
            return Err("the program named no guard command".to_owned());
        }
        argv.push(PathBuf::from(owner_text(&entry.owner)));
        argv.push(path.to_owned());
        let scope = if rustix::process::geteuid().is_root() { Scope::System } else { Scope::User };
        if are_managed(entry) && systemd::is_available(scope) {
            let name = format!("svckit-guard-{}.service", entry.id);
            let what = format!("svckit: brings services back if process {} dies", entry.owner.pid);
            systemd::start_transient(&name, scope, &argv, &what).map_err(|e| e.to_string())?;
            return Ok(Self { child: None });
        }
        Self::start_child(&argv).map(|child| Self { child: Some(child) })
    }

    fn start_child(argv: &[PathBuf]) -> Result<Child, String> {
        let (mut out, into) = std::io::pipe().map_err(|e| format!("can't make a pipe: {e}"))?;
        let mut command = Command::new("setsid");
        command.args(argv).current_dir("/").stdin(Stdio::null()).stderr(Stdio::null());
        // The command is moved, and the pipe borrowed: see there.
        let end = &into;
        let spawn = move || command.stdout(end.try_clone()?).spawn();
        let child = without_inherited(spawn).map_err(|e| format!("can't run setsid: {e}"))?;
        // Only the guard has it now: its end is seen as the end of its output.
        drop(into);
        let mut answer = [0u8; 1];
        let ready = wait::readable(&[out.as_fd()], Instant::now() + GUARD_START_MAX).map_err(|e| e.to_string())?;
        if ready.is_empty() || out.read(&mut answer).unwrap_or(0) == 0 {
            return Err(format!("{} did not start to wait", argv[0].display()));
        }
        Ok(child)
    }

    /// Reaps a child that has nothing to guard any more.
    pub(super) fn dismiss(mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = i32::try_from(child.id()).unwrap_or(0);
        if let Ok(Some(id)) = ProcessId::of(pid)
            && let Ok(Some(pidfd)) = Pidfd::open(&id)
            && let Err(error) = wait::readable(&[pidfd.as_fd()], Instant::now() + GUARD_END_MAX)
        {
            tracing::debug!(%error, "the guard could not be waited for");
        }
        if let Err(error) = child.try_wait() {
            tracing::debug!(%error, "the guard could not be reaped");
        }
    }
}

/// Whether somebody else starts them all, so that what the guard starts does not end with the guard's own unit.
fn are_managed(entry: &Entry) -> bool {
    entry.services.iter().all(|record| {
        serde_json::from_value::<ServiceSpec>(record.spec.clone())
            .is_ok_and(|spec| matches!(spec, ServiceSpec::Unit { .. } | ServiceSpec::Container(_)))
    })
}

/// Starts a guard for an entry whose owner is dead: it tries at once, and again for as long as a guard does.
///
/// # Errors
/// Why it could not be started.
pub fn leave_to_guard(context: &Context, entry: &Entry, path: &Path) -> Result<(), String> {
    // It has no end that we wait for: it outlives us, as it would outlive its owner.
    Guard::start(context, entry, path).map(|guard| drop(guard.child))
}

fn owner_text(owner: &ProcessId) -> String {
    format!("{}:{}:{}", owner.pid, owner.start_ticks, owner.boot_id)
}

/// Parses the owner argument of a guard.
#[must_use]
pub fn parse_owner(text: &str) -> Option<ProcessId> {
    let mut parts = text.splitn(3, ':');
    Some(ProcessId {
        pid: parts.next()?.parse().ok()?,
        start_ticks: parts.next()?.parse().ok()?,
        boot_id: parts.next().filter(|b| !b.is_empty())?.to_owned(),
    })
}

/// Why a guard's wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardWake {
    /// The entry is gone, or its services are left stopped as they should be.
    NothingLeft,
    /// The owner is dead, or has given up and left the rest to us.
    TakeOver,
}

/// Waits, without a bound by design (the owner's life is the bound), until the owner is dead, has given up, or the
/// entry is gone. `waiting` is called once the wait can't miss any of these.
///
/// # Errors
/// When neither can be watched.
pub fn guard_wait(owner: &ProcessId, entry: &Path, waiting: impl FnOnce()) -> std::io::Result<GuardWake> {
    let watch = watch_for_removal(entry)?;
    let pidfd = Pidfd::open(owner)?;
    waiting();
    loop {
        if !entry.exists() {
            return Ok(GuardWake::NothingLeft);
        }
        let Some(pidfd) = &pidfd else { return Ok(GuardWake::TakeOver) };
        match stages_of(entry).as_slice() {
            stages if stages.contains(&ServiceStage::GivenUp) => return Ok(GuardWake::TakeOver),
            [] => {}
            // It stays for the next start, and nobody is to be brought back.
            stages if stages.iter().all(|stage| *stage == ServiceStage::LeftStopped) => {
                return Ok(GuardWake::NothingLeft);
            }
            _ => {}
        }
        let far = Instant::now() + Duration::from_secs(3600);
        let ready = wait::readable(&[pidfd.as_fd(), watch.as_fd()], far)?;
        if ready.contains(&0) {
            return Ok(if entry.exists() { GuardWake::TakeOver } else { GuardWake::NothingLeft });
        }
        // Drained, or the next wait would return at once for the same event.
        drop(watch.read_events());
    }
}

/// Waits until the entry is gone (then `true`), or until `until`.
///
/// # Errors
/// When the journal can't be watched.
pub fn wait_for_removal(entry: &Path, until: Instant) -> std::io::Result<bool> {
    let watch = watch_for_removal(entry)?;
    loop {
        if !entry.exists() {
            return Ok(true);
        }
        if wait::readable(&[watch.as_fd()], until)?.is_empty() {
            return Ok(false);
        }
        drop(watch.read_events());
    }
}

fn watch_for_removal(entry: &Path) -> std::io::Result<Inotify> {
    let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    watch.add_watch(
        parent_of(entry),
        AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_MOVED_FROM,
    )?;
    Ok(watch)
}

/// None of an entry that can't be read: it is being replaced, or the owner's end decides.
fn stages_of(entry: &Path) -> Vec<ServiceStage> {
    let read = std::fs::read(entry).ok().and_then(|bytes| serde_json::from_slice::<Entry>(&bytes).ok());
    read.into_iter().flat_map(|entry| entry.services).map(|record| record.stage).collect()
}
