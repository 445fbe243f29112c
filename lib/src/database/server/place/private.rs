//! A server of our own for a while, as processes of this host: on a socket in a directory that nobody else can enter, as a
//! user without rights where we are root. Ended in order, and removed with everything that it wrote.
//!
//! What belongs to it is known by its working directory. So the next run finds what a killed one left without a record of
//! it: the directory says who made it, and only those who may enter can work in it.

use std::fs::Permissions;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::Host;
use crate::database::server::{EngineKind, ServerError};
use crate::failure::FailureKind;
use crate::world::{Pidfd, ProcessId, StopSignal, mark, process, wait};

const PREFIX: &str = "svckit-scratch.";
/// Who made it.
const OWNER: &str = "owner";
/// What the server may write to.
const DATA: &str = "s";
/// For a server to end when it is asked.
const END_MAX: Duration = Duration::from_secs(60);
/// For a server that has just been started to answer.
const GREETING_MAX: Duration = Duration::from_secs(30);
/// What has not ended by then is asked by SIGTERM, each process by itself.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// A directory without an owner is left by a run that was killed as it made it, or is just being made.
const NAMELESS_MAX: Duration = Duration::from_secs(60 * 60);
const ACTION: &str = "make a private server";

/// Its directory, and all that runs there.
#[derive(Debug)]
#[must_use = "the server is ended and removed when this is dropped"]
pub(crate) struct PrivateServer {
    root: PathBuf,
    engine: EngineKind,
    user: Option<&'static str>,
}

/// As whom a server of it runs where we are root: the first that this host has.
fn users(engine: EngineKind) -> [&'static str; 2] {
    let own = match engine {
        EngineKind::Mysql => "mysql",
        EngineKind::Postgres => "postgres",
        EngineKind::Redis => "redis",
        EngineKind::Mongodb => "mongodb",
        EngineKind::Influxdb | EngineKind::Influxdb1 => "influxdb",
    };
    [own, "nobody"]
}

impl PrivateServer {
    /// Removes what killed runs left below a directory, and makes a new place in it.
    pub(crate) fn create(below: &Path, engine: EngineKind) -> Result<Self, ServerError> {
        let io = |error: std::io::Error| ServerError::Refused {
            reason: format!("can't {ACTION} in {}: {error}", below.display()),
            kind: crate::failure::kind_of_io(&error),
            hint: Some("name a directory that every user may enter: TMPDIR".to_owned()),
        };
        // As /proc shows it: what works there is known by that.
        let real = std::fs::canonicalize(below).map_err(io)?;
        sweep(&real).map_err(io)?;
        let user = match nix::unistd::geteuid().is_root() {
            true => Some(unprivileged(engine)?),
            false => None,
        };
        let prefix = format!("{PREFIX}{}.", engine.word());
        let mut builder = tempfile::Builder::new();
        let root = builder.prefix(&prefix).permissions(Permissions::from_mode(0o700)).tempdir_in(&real).map_err(io)?;
        let server = Self { root: root.keep(), engine, user: user.as_ref().map(|(name, ..)| *name) };
        let make = || -> std::io::Result<()> {
            let mut owner = std::fs::File::options();
            let owner = owner.write(true).create_new(true).mode(0o600).open(server.root.join(OWNER));
            owner?.write_all(mark::own()?.as_bytes())?;
            std::fs::create_dir(server.data())?;
            std::fs::set_permissions(server.data(), Permissions::from_mode(0o700))?;
            if let Some((_, user, group)) = user {
                chown(server.data(), Some(user), Some(group))?;
                // It passes through, and changes nothing here.
                chown(&server.root, None, Some(group))?;
                std::fs::set_permissions(&server.root, Permissions::from_mode(0o710))?;
            }
            Ok(())
        };
        make().map_err(io)?;
        Ok(server)
    }

    fn data(&self) -> PathBuf {
        self.root.join(DATA)
    }

    /// Where its programs run, and as whom.
    pub(crate) fn host(&self) -> (Host, Option<String>) {
        let label = format!("a private {} server", self.engine.title());
        let key =
            self.root.file_name().map(|name| name.to_string_lossy().replace(|c: char| !c.is_ascii_alphanumeric(), ""));
        (Host::new(label, key.unwrap_or_default()).within(self.data()), self.user.map(str::to_owned))
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        if let Err(error) = end(&self.root) {
            let path = self.root.display();
            tracing::warn!(%error, %path, "a private server could not be removed: the next run does it");
        }
    }
}

fn unprivileged(engine: EngineKind) -> Result<(&'static str, u32, u32), ServerError> {
    let found = users(engine).into_iter().find_map(|name| {
        let user = nix::unistd::User::from_name(name).ok().flatten()?;
        Some((name, user.uid.as_raw(), user.gid.as_raw()))
    });
    found.ok_or_else(|| ServerError::Refused {
        reason: format!("can't {ACTION}: this host has none of the users {}", users(engine).join(" and ")),
        kind: FailureKind::Failed,
        hint: None,
    })
}

/// Ends everything that works in it, and removes it.
fn end(root: &Path) -> std::io::Result<()> {
    // PostgreSQL waits for its clients after SIGTERM, and ends by SIGINT.
    let is_postgres =
        root.file_name().is_some_and(|name| name.to_string_lossy().starts_with("svckit-scratch.postgres."));
    if root.file_name().is_some_and(|name| name.to_string_lossy().starts_with("svckit-scratch.mysql.")) {
        await_greeting(root)?;
    }
    let mut signal = if is_postgres { StopSignal::Int } else { StopSignal::Term };
    let until = Instant::now() + END_MAX;
    let (mut patience, mut is_last) = (Instant::now() + ASK_AGAIN, false);
    let mut asked: Vec<ProcessId> = Vec::new();
    loop {
        let inside = working_in(root)?;
        if inside.is_empty() {
            break;
        }
        let mut pidfds = Vec::new();
        for (id, parent) in &inside {
            let Some(pidfd) = Pidfd::open(id)? else { continue };
            // Its children are its own to end.
            let is_child = inside.iter().any(|(other, _)| other.pid == *parent);
            if (!is_child || is_last) && !asked.contains(id) {
                pidfd.signal(signal)?;
                asked.push(id.clone());
            }
            pidfds.push(pidfd);
        }
        let fds: Vec<_> = pidfds.iter().map(AsFd::as_fd).collect();
        if fds.is_empty() || !wait::readable(&fds, patience)?.is_empty() {
            continue;
        }
        if is_last {
            let pids: Vec<String> = inside.iter().map(|(id, _)| id.pid.to_string()).collect();
            return Err(std::io::Error::other(format!("still running when it was asked to end: {}", pids.join(", "))));
        }
        // One that was started where interrupts are ignored may ignore the first.
        (signal, patience, is_last) = (StopSignal::Term, until, true);
        asked.clear();
    }
    match std::fs::remove_dir_all(root) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// MariaDB's server that is asked to end while it starts never does: it is asked when it has greeted somebody.
fn await_greeting(root: &Path) -> std::io::Result<()> {
    let until = Instant::now() + GREETING_MAX;
    while Instant::now() < until && !greets(&root.join(DATA).join("sock")) {
        let inside = working_in(root)?;
        let pidfds: Vec<Pidfd> =
            inside.iter().filter_map(|(id, _)| Pidfd::open(id).transpose()).collect::<Result<_, _>>()?;
        if pidfds.is_empty() {
            break;
        }
        let fds: Vec<_> = pidfds.iter().map(AsFd::as_fd).collect();
        wait::readable(&fds, Instant::now() + Duration::from_millis(100))?;
    }
    Ok(())
}

fn greets(socket: &Path) -> bool {
    let Ok(mut stream) = std::os::unix::net::UnixStream::connect(socket) else { return false };
    let soon = Instant::now() + Duration::from_secs(1);
    let is_ready = wait::readable(&[stream.as_fd()], soon).is_ok_and(|ready| !ready.is_empty());
    is_ready && std::io::Read::read(&mut stream, &mut [0]).is_ok_and(|count| count > 0)
}

/// The processes whose working directory lies there, each with its parent.
fn working_in(root: &Path) -> std::io::Result<Vec<(ProcessId, i32)>> {
    let boot_id = crate::world::clock::boot_id()?;
    let works = |stat: &procfs::process::Stat| {
        std::fs::read_link(format!("/proc/{}/cwd", stat.pid)).is_ok_and(|directory| directory.starts_with(root))
    };
    let all = process::all_alive()?.into_iter().filter(works);
    let id = |stat: procfs::process::Stat| {
        (ProcessId { pid: stat.pid, start_ticks: stat.starttime, boot_id: boot_id.clone() }, stat.ppid)
    };
    Ok(all.map(id).collect())
}

/// Ends and removes what processes of ours made that are gone, below a real path. What belongs to somebody else is left alone.
fn sweep(below: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(below)?.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let root = below.join(entry.file_name());
        // A link is none.
        let Ok(found) = std::fs::symlink_metadata(&root) else { continue };
        if !found.is_dir() || found.uid() != nix::unistd::geteuid().as_raw() {
            continue;
        }
        let is_left = match std::fs::read_to_string(root.join(OWNER)) {
            Ok(owner) => mark::is_dead(&owner) == Some(true),
            Err(_) => {
                let age = found.modified().ok().and_then(|then| SystemTime::now().duration_since(then).ok());
                age.is_some_and(|age| age > NAMELESS_MAX)
            }
        };
        if is_left {
            tracing::info!(path = %root.display(), "removing a private server that a killed run left");
            if let Err(error) = end(&root) {
                tracing::warn!(%error, path = %root.display(), "what a killed run left could not be removed");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    fn works_in(directory: &Path) -> Child {
        Command::new("cat").arg("/dev/ptmx").current_dir(directory).stdout(Stdio::null()).spawn().unwrap()
    }

    fn names(below: &Path) -> usize {
        std::fs::read_dir(below).unwrap().count()
    }

    /// One that everybody may enter.
    fn below() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        dir
    }

    #[test]
    fn it_is_gone_with_all_that_runs_in_it() {
        let dir = below();
        let server = PrivateServer::create(dir.path(), EngineKind::Redis).unwrap();
        let mode = std::fs::metadata(&server.root).unwrap().permissions().mode();
        assert_eq!(mode & 0o067, 0, "{mode:o}");
        let mut child = works_in(&server.data());
        std::fs::write(server.data().join("data"), "x").unwrap();
        drop(server);
        assert!(!child.wait().unwrap().success());
        assert_eq!(names(dir.path()), 0);
    }

    #[test]
    fn what_the_dead_left_is_swept_and_what_the_living_have_stays() {
        let dir = below();
        let living = PrivateServer::create(dir.path(), EngineKind::Redis).unwrap();
        let dead = PrivateServer::create(dir.path(), EngineKind::Redis).unwrap();
        let own = mark::own().unwrap();
        let other = own.replacen(&format!(":{}:", own.split(':').nth(1).unwrap()), ":1:", 1);
        std::fs::write(dead.root.join(OWNER), other).unwrap();
        let mut child = works_in(&dead.data());
        let root = dead.root.clone();
        std::mem::forget(dead);
        // Somebody may lead us elsewhere.
        std::os::unix::fs::symlink(&living.root, dir.path().join("svckit-scratch.redis.link")).unwrap();
        std::fs::create_dir(dir.path().join("svckit-scratch.redis.nameless")).unwrap();
        sweep(dir.path()).unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(!root.exists() && living.root.exists());
        assert_eq!(names(dir.path()), 3);
    }
}
