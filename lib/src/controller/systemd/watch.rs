//! What wakes a wait: signals of the manager, and the kernel's own word that a control group has emptied.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{Timespec, epoll};
use zbus::MatchRule;
use zbus::message::Message;

use crate::world::wake::Wake;

use super::bus::{Bus, BusError, MANAGER, MANAGER_PATH, Subscription};

/// Results of jobs that are remembered; a job that matters is asked for within the next few.
const JOBS_MAX: usize = 512;

/// The signals of one unit and of the manager's jobs, seen from the creation on.
#[derive(Debug)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    /// epoll(7) on the files in `watched`. Not inotify(7): closing one with watches takes ten milliseconds and more.
    cgroup_changes: OwnedFd,
    /// The `cgroup.events` of the unit's groups; the kernel notifies whoever polls them (cgroups(7)).
    watched: Mutex<Vec<File>>,
    subscriptions: Mutex<Vec<Subscription>>,
}

#[derive(Debug)]
struct Shared {
    wake: Wake,
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

    fn end(&self) {
        self.state().ended = true;
        self.wake.wake();
    }
}

impl Watch {
    /// Registers for the jobs of the manager, and only then asks it for signals: without `Subscribe` it emits none,
    /// and one that it emits before the match is registered would be lost.
    pub(super) fn start(bus: &Bus) -> Result<Self, BusError> {
        let descriptor =
            |error: rustix::io::Errno| BusError::Unreachable(format!("no descriptor for its events: {error}"));
        let wake = Wake::new().map_err(descriptor)?;
        let cgroup_changes = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(descriptor)?;
        let shared = Arc::new(Shared { wake, state: Mutex::default() });
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
        shared.wake.wake();
        Ok(Self { shared, cgroup_changes, watched: Mutex::default(), subscriptions: Mutex::new(vec![jobs]) })
    }

    /// Wakes on every change of the unit at this object path.
    pub(super) fn add_unit(&self, bus: &Bus, path: &str) -> Result<(), BusError> {
        let rule = rule("org.freedesktop.DBus.Properties", "PropertiesChanged", path)?;
        let shared = self.shared.clone();
        let changes = bus.on_signal(rule, move |message| match message {
            Some(_) => shared.wake.wake(),
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
        let files: Vec<PathBuf> = directories.iter().map(|directory| directory.join("cgroup.events")).collect();
        // A group that was removed never changes again, also where one of its name exists now.
        watched.retain(|file| files.iter().any(|path| is_same(file, path)));
        for path in files {
            if watched.iter().any(|file| is_same(file, &path)) {
                continue;
            }
            // One without the file (cgroup v1), or one that vanished: the callers watch its processes.
            let Ok(mut file) = File::open(&path) else { continue };
            // What is read is the state that later changes are told against.
            let mut text = String::new();
            let flags = epoll::EventFlags::PRI | epoll::EventFlags::ET;
            if file.read_to_string(&mut text).is_ok()
                && epoll::add(&self.cgroup_changes, &file, epoll::EventData::new_u64(0), flags).is_ok()
            {
                watched.push(file);
            }
        }
    }

    /// Makes the next wait return at once.
    pub(super) fn wake(&self) {
        self.shared.wake.wake();
    }

    /// What to poll.
    pub(super) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.shared.wake.as_fd(), self.cgroup_changes.as_fd()]
    }

    /// Forgets what was seen so far: called after a wait, before the state is read.
    pub(super) fn drain(&self) {
        self.shared.wake.drain();
        let mut events = Vec::with_capacity(16);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        while epoll::wait(&self.cgroup_changes, rustix::buffer::spare_capacity(&mut events), Some(&at_once))
            .is_ok_and(|count| count > 0)
        {
            events.clear();
        }
    }
}

fn is_same(file: &File, path: &Path) -> bool {
    let same = |a: &Metadata, b: &Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().is_ok_and(|open| path.metadata().is_ok_and(|there| same(&open, &there)))
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
        self.wake.wake();
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
