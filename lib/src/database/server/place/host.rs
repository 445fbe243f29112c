//! Programs of this host, beside a server that they reach by its address.
//!
//! - They get nothing of our environment: no variable of whoever called us leads them elsewhere, and none of ours is theirs.
//! - Each carries whose it is in its environment. A killed run leaves programs that may wait for somebody's lock in the
//!   server: the next run, under the same lock of ours, asks them to end.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::controller::docker::{COLLECTED_MAX, Ended, ExecError, Program};
use crate::progress::Cancel;
use crate::world::piped::{Piped, Piping};
use crate::world::{Pidfd, ProcessId, StopSignal, mark, wait};

/// Where the system's programs are.
const PATH: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// `KEY:MARK` of the run that has started it.
const OWNER: &str = "SVCKIT_RUN";
/// How long what a killed run left may take to end.
const END_MAX: Duration = Duration::from_secs(10);

/// This host, as programs of one server see it.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    label: String,
    /// Of the server: letters, digits and nothing else.
    key: String,
    /// Looked at before the system's own directories.
    first: Vec<PathBuf>,
    /// Where programs are run.
    directory: PathBuf,
}

impl Host {
    /// `label` is for people; what has the same `key` excludes each other.
    pub(crate) fn new(label: String, key: String) -> Self {
        Self { label, key, first: Vec::new(), directory: PathBuf::from("/") }
    }

    /// The same, with programs run in this directory.
    pub(super) fn within(self, directory: PathBuf) -> Self {
        Self { directory, ..self }
    }

    /// The same, with programs of these directories where they have them.
    pub(crate) fn with_programs_of(self, first: Vec<PathBuf>) -> Self {
        Self { first, ..self }
    }

    /// Where programs are run: of a private server, where it has its data.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        self.directories().map(|directory| directory.join(name)).find(|path| is_program(path))
    }

    fn directories(&self) -> impl Iterator<Item = &Path> {
        self.first.iter().map(PathBuf::as_path).chain(PATH.iter().map(Path::new))
    }

    pub(super) fn start(&self, program: &Program, cancel: &Cancel) -> Result<OnHost, ExecError> {
        let name = program.argv.first().cloned().unwrap_or_default();
        tracing::debug!(server = self.label, argv = ?program.argv, "running a program");
        let path = self.find(&name).ok_or_else(|| ExecError::NoProgram { program: name.clone() })?;
        let owner = format!("{}:{}", self.key, mark::own()?);
        let search: Vec<String> = self.directories().map(|directory| directory.display().to_string()).collect();
        let search = search.join(":");
        let mut environment = vec![("PATH", search.as_str()), (OWNER, owner.as_str())];
        environment.extend(program.env.iter().filter_map(|variable| variable.split_once('=')));
        let how = Piping {
            program: &path,
            arguments: program.argv.get(1..).unwrap_or_default(),
            environment: &environment,
            directory: &self.directory,
            user: program.user.as_deref().map(other_user).transpose()?.flatten(),
            idle_max: program.idle_max,
        };
        let piped = Piped::start(how, cancel).map_err(|error| match (&program.user, error.kind()) {
            (Some(user), std::io::ErrorKind::PermissionDenied) => {
                std::io::Error::other(format!("{name} can't be run as user {user}: {error}"))
            }
            _ => error,
        })?;
        Ok(OnHost { piped, program: name, idle_max: program.idle_max, cancel: cancel.clone() })
    }

    pub(super) fn run(&self, program: &Program, input: &[u8], cancel: &Cancel) -> Result<(Ended, Vec<u8>), ExecError> {
        let mut here = self.start(program, cancel)?;
        // One that ends without reading it says why by its exit code.
        let _ended_early = here.write_all(input);
        here.close_input();
        let mut output = Vec::new();
        let limit = COLLECTED_MAX as u64 + 1;
        (&mut here).take(limit).read_to_end(&mut output).map_err(|error| here.why(error))?;
        if output.len() > COLLECTED_MAX {
            return Err(ExecError::TooMuch { program: here.program.clone() });
        }
        Ok((here.finish()?, output))
    }

    /// Asks programs of killed runs on the same server to end. Only under the server's lock.
    pub(crate) fn sweep(&self) -> std::io::Result<()> {
        let variable = format!("{OWNER}={}:", self.key);
        let mut left = Vec::new();
        for process in procfs::process::all_processes().map_err(std::io::Error::other)?.flatten() {
            let Ok(environment) = std::fs::read(format!("/proc/{}/environ", process.pid)) else { continue };
            let owner = environment.split(|byte| *byte == 0).find_map(|one| one.strip_prefix(variable.as_bytes()));
            let owner = owner.and_then(|mark| std::str::from_utf8(mark).ok());
            if owner.is_some_and(|owner| mark::is_dead(owner) == Some(true))
                && let Some(id) = ProcessId::of(process.pid)?
                && let Some(pidfd) = Pidfd::open(&id)?
            {
                tracing::info!(pid = id.pid, "ending a program that a killed run left");
                pidfd.signal(StopSignal::Term)?;
                left.push(pidfd);
            }
        }
        let until = Instant::now() + END_MAX;
        for pidfd in left {
            if wait::readable(&[std::os::fd::AsFd::as_fd(&pidfd)], until)?.is_empty() {
                tracing::warn!(pid = pidfd.id().pid, "a program that a killed run left still runs");
            }
        }
        Ok(())
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Its numbers, where it is not who we are.
fn other_user(name: &str) -> std::io::Result<Option<(u32, u32)>> {
    let user = nix::unistd::User::from_name(name)?;
    let user = user.ok_or_else(|| std::io::Error::other(format!("this host has no user {name}")))?;
    let own = nix::unistd::geteuid();
    if user.uid == own {
        return Ok(None);
    }
    if !own.is_root() {
        return Err(std::io::Error::other(format!("only root may run a program as {name}")));
    }
    Ok(Some((user.uid.as_raw(), user.gid.as_raw())))
}

/// A program that runs.
#[derive(Debug)]
pub(crate) struct OnHost {
    piped: Piped,
    program: String,
    idle_max: Duration,
    cancel: Cancel,
}

impl OnHost {
    pub(super) fn close_input(&mut self) {
        self.piped.close_input();
    }

    pub(super) fn leave(&mut self) {
        self.piped.leave();
    }

    pub(super) fn finish(&mut self) -> Result<Ended, ExecError> {
        let ended = self.piped.finish();
        ended.map(|(code, said)| Ended { code, said }).map_err(|error| self.why(error))
    }

    pub(super) fn why(&self, error: std::io::Error) -> ExecError {
        match error.kind() {
            std::io::ErrorKind::TimedOut => ExecError::Stalled { program: self.program.clone(), waited: self.idle_max },
            _ if self.cancel.is_requested() => ExecError::Cancelled,
            _ => ExecError::Io(error),
        }
    }
}

impl Read for OnHost {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.piped.read(buffer)
    }
}

impl Write for OnHost {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.piped.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
