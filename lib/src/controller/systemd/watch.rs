//! What wakes a wait: signals of the manager, and the kernel's own word that a control group has emptied.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;
use zbus::MatchRule;
use zbus::message::Message;

use super::bus::{Bus, BusError, MANAGER, MANAGER_PATH, Subscription};

/// Results of jobs that are remembered; a job that matters is asked for within the next few.
const JOBS_MAX: usize = 512;

/// The signals of one unit and of the manager's jobs, seen from the creation on.
#[derive(Debug)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    /// inotify(7) on `cgroup.events` of the directories in `watched`.
    cgroup_changes: OwnedFd,
    watched: Mutex<Vec<PathBuf>>,
    subscriptions: Mutex<Vec<Subscription>>,
}

#[derive(Debug)]
struct Shared {
    /// eventfd(2): readable when something was seen since it was last read.
    seen: OwnedFd,
    state: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Results by the number of the job, which grows with time.
    jobs: BTreeMap<u32, String>,
    ended: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Seen> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // A counter that is full is readable all the same.
        let _ignored = rustix::io::write(&self.seen, &1u64.to_ne_bytes());
    }

    fn end(&self) {
        self.state().ended = true;
        self.wake();
    }
}

impl Watch {
    /// Registers for the jobs of the manager, and only then asks it for signals: without `Subscribe` it emits none,
    /// and one that it emits before the match is registered would be lost.
    pub(super) fn start(bus: &Bus) -> Result<Self, BusError> {
        let descriptor =
            |error: rustix::io::Errno| BusError::Unreachable(format!("no descriptor for its events: {error}"));
        let seen = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(descriptor)?;
        let cgroup_changes =
            inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).map_err(descriptor)?;
        let shared = Arc::new(Shared { seen, state: Mutex::default() });
        let rule = rule(MANAGER, "JobRemoved", MANAGER_PATH)?;
        let for_jobs = shared.clone();
        let jobs = bus.on_signal(rule, move |message| match message {
            Some(message) => for_jobs.note_job(message),
            None => for_jobs.end(),
        })?;
        match bus.manager("Subscribe", ()) {
            // By another unit on this connection.
            Err(BusError::Refused { name, .. }) if name.ends_with(".AlreadySubscribed") => {}
            other => drop(other?),
        }
        // The first wait returns at once: what happened before the unit's own match was registered is looked at then.
        shared.wake();
        Ok(Self { shared, cgroup_changes, watched: Mutex::default(), subscriptions: Mutex::new(vec![jobs]) })
    }

    /// Wakes on every change of the unit at this object path.
    pub(super) fn add_unit(&self, bus: &Bus, path: &str) -> Result<(), BusError> {
        let rule = rule("org.freedesktop.DBus.Properties", "PropertiesChanged", path)?;
        let shared = self.shared.clone();
        let changes = bus.on_signal(rule, move |message| match message {
            Some(_) => shared.wake(),
            None => shared.end(),
        })?;
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).push(changes);
        Ok(())
    }

    /// The result of a job that has ended: `done`, `canceled`, `timeout`, `failed`, `dependency`, `assert`, ...
    pub(super) fn job_result(&self, job_path: &str) -> Option<String> {
        self.shared.state().jobs.get(&job_number(job_path)?).cloned()
    }

    /// Whether the connection is gone, and with it every later signal.
    pub(super) fn has_ended(&self) -> bool {
        self.shared.state().ended
    }

    /// Watches the control groups at `directories` for the moment when their last process ends.
    pub(super) fn watch_cgroups(&self, directories: &[PathBuf]) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was removed lost its watch, and may exist again.
        watched.retain(|directory| directory.is_dir());
        for directory in directories {
            if watched.contains(directory) {
                continue;
            }
            let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::DELETE_SELF;
            // One without the file (cgroup v1), or one that vanished: the callers watch its processes.
            if inotify::add_watch(&self.cgroup_changes, directory.join("cgroup.events"), flags).is_ok() {
                watched.push(directory.clone());
            }
        }
    }

    /// Makes the next wait return at once.
    pub(super) fn wake(&self) {
        self.shared.wake();
    }

    /// What to poll.
    pub(super) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.shared.seen.as_fd(), self.cgroup_changes.as_fd()]
    }

    /// Forgets what was seen so far: called after a wait, before the state is read.
    pub(super) fn drain(&self) {
        let mut buffer = [0_u8; 4096];
        for fd in self.descriptors() {
            while rustix::io::read(fd, &mut buffer).is_ok_and(|count| count > 0) {}
        }
    }
}

impl Shared {
    fn note_job(&self, message: &Message) {
        let Ok((number, _path, _unit, result)) =
            message.body().deserialize::<(u32, zbus::OwnedObjectPath, String, String)>()
        else {
            return;
        };
        let mut state = self.state();
        state.jobs.insert(number, result);
        while state.jobs.len() > JOBS_MAX {
            state.jobs.pop_first();
        }
        drop(state);
        self.wake();
    }
}

fn rule(interface: &'static str, member: &'static str, path: &str) -> Result<MatchRule<'static>, BusError> {
    MatchRule::builder()
        .msg_type(zbus::message::Type::Signal)
        .sender("org.freedesktop.systemd1")
        .interface(interface)
        .member(member)
        .path(path.to_owned())
        .build()
        .map_err(|error| BusError::Malformed(error.to_string()))
}

/// The number in `/org/freedesktop/systemd1/job/4711`.
fn job_number(job_path: &str) -> Option<u32> {
    job_path.rsplit('/').next()?.parse().ok()
}
