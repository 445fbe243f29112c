//! A server that programs can reach, and the password for it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::Attempt;
use super::place::Running;
use super::{Place, ServerError};
use crate::controller::docker::{Ended, ExecError, Program};
use crate::progress::Cancel;
use crate::world::wait;

/// A program that neither reads nor writes for so long has failed: a dump can wait for somebody's lock on a table.
const IDLE_MAX: Duration = Duration::from_secs(15 * 60);

/// How soon a server that is starting is asked again: nothing tells when it answers.
const ASK_AGAIN: Duration = Duration::from_millis(200);

const BLOCK: usize = 64 << 10;

/// Where a scratch container keeps its server.
pub(super) fn scratch_dir() -> &'static str {
    "/svckit-scratch"
}

/// A password. It is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// The first line, as every source of a password is read; `None` for an empty one.
    pub(crate) fn first_line(text: &str) -> Option<Self> {
        let line = text.lines().next().unwrap_or_default();
        (!line.is_empty()).then(|| Self(line.to_owned()))
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    /// A text without it.
    pub(super) fn cleared(&self, text: &str) -> String {
        // What is shorter is part of every text, and its place would tell it.
        if self.0.len() < 3 { text.to_owned() } else { text.replace(&self.0, "***") }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// The server that was made to try a restore.
pub(crate) type Kept = Arc<Mutex<Option<Running>>>;

/// Where the programs of an engine run, and as whom they speak to the server.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(super) at: Place,
    pub(super) user: Option<String>,
    pub(super) secret: Option<Secret>,
    /// The system's user; `None`: the image's own, or who we are.
    pub(crate) run_as: Option<String>,
    /// Further options of every client: where the server listens.
    pub(super) client: Vec<String>,
    /// The server that was made to try a restore, which ends with the last session of it.
    pub(crate) server: Kept,
    /// Programs that were looked for, and what they said of themselves.
    pub(super) programs: Arc<Mutex<BTreeMap<String, (String, String)>>>,
    /// Whether the server is one that was made to try a restore.
    pub(super) is_scratch: bool,
    pub(super) cancel: Cancel,
}

impl Session {
    pub(crate) fn new(at: Place, user: Option<String>, secret: Option<Secret>, cancel: Cancel) -> Self {
        Self {
            at,
            user,
            secret,
            run_as: None,
            client: Vec::new(),
            server: Arc::default(),
            programs: Arc::default(),
            is_scratch: false,
            cancel,
        }
    }

    /// For people: `container db`.
    pub(crate) fn place(&self) -> &str {
        self.at.label()
    }

    /// The directory of a scratch server, for its user alone, and that user: made in a container, there on a host.
    pub(super) fn scratch(&self, action: &str, owner: Option<&str>) -> Result<(Self, String), ServerError> {
        let (run_as, dir) = match self.at.on_host() {
            Some(host) => (self.run_as.clone(), host.directory().display().to_string()),
            None => {
                let dir = scratch_dir();
                let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
                let root = Self { run_as: Some("0".to_owned()), ..self.clone() };
                root.answer(action, words(&["mkdir", "-m", "0700", "--", dir]), b"")?;
                if let Some(owner) = owner {
                    root.answer(action, words(&["chown", owner, "--", dir]), b"")?;
                }
                (Some(owner.unwrap_or("0").to_owned()), dir.to_owned())
            }
        };
        Ok((Self { run_as, secret: None, is_scratch: true, ..self.clone() }, dir))
    }

    /// The same with programs of these directories where a host has them.
    pub(super) fn with_programs_of(self, directories: Vec<std::path::PathBuf>) -> Self {
        match self.at {
            Place::Host(host) => {
                let at = Place::Host(host.with_programs_of(directories));
                // What was found before was found elsewhere.
                Self { at, programs: Arc::default(), ..self }
            }
            Place::Container(_) => self,
        }
    }

    /// The name and the id of the container's image.
    pub(crate) fn image(&self) -> Result<(String, String), ServerError> {
        self.at.image().map_err(|error| self.attempt("look at the image").exec(error))
    }

    pub(super) fn attempt<'a>(&'a self, action: &'a str) -> Attempt<'a> {
        Attempt {
            action,
            place: self.at.label(),
            user: self.user.as_deref(),
            secret: self.secret.as_ref(),
            is_host: self.at.on_host().is_some(),
        }
    }

    pub(super) fn program(&self, argv: Vec<String>, env: &[String]) -> Program {
        Program { argv, user: self.run_as.clone(), env: env.to_vec(), idle_max: IDLE_MAX }
    }

    /// Starts a program that is given `input` first.
    pub(super) fn start(
        &self,
        action: &str,
        argv: Vec<String>,
        env: &[String],
        input: &[u8],
    ) -> Result<Running, ServerError> {
        let failed = |error: ExecError| self.attempt(action).exec(error);
        let mut exec = self.at.start(&self.program(argv, env), &self.cancel).map_err(failed)?;
        // A program that does not read it says why by its exit code.
        let _ended_early = exec.write_all(input);
        Ok(exec)
    }

    /// Runs a program to its end, answers what it printed; any exit code.
    pub(super) fn ran(&self, action: &str, argv: Vec<String>, input: &[u8]) -> Result<(Ended, String), ServerError> {
        self.ran_with(action, argv, &[], input)
    }

    /// The same, with variables of its environment.
    pub(super) fn ran_with(
        &self,
        action: &str,
        argv: Vec<String>,
        env: &[String],
        input: &[u8],
    ) -> Result<(Ended, String), ServerError> {
        let program = self.program(argv, env);
        let (ended, out) =
            self.at.run(&program, input, &self.cancel).map_err(|error| self.attempt(action).exec(error))?;
        Ok((ended, String::from_utf8_lossy(&out).into_owned()))
    }

    /// The same, where only success will do.
    pub(super) fn answer(&self, action: &str, argv: Vec<String>, input: &[u8]) -> Result<String, ServerError> {
        let name = argv.first().cloned().unwrap_or_default();
        let (mut ended, out) = self.ran(action, argv, input)?;
        if ended.said.is_empty() {
            ended.said.clone_from(&out);
        }
        self.attempt(action).ended(&name, &ended)?;
        Ok(out)
    }

    /// The same, of a server that is starting: asked again for so long while the program says by its exit code that it
    /// is not there yet. A program that waits for itself (`--wait` of mariadb-admin) heeds no request to end meanwhile, and
    /// would outlive a run of ours that was killed.
    pub(super) fn answer_within(&self, action: &str, argv: &[String], most: Duration) -> Result<String, ServerError> {
        let until = Instant::now() + most;
        loop {
            match self.answer(action, argv.to_vec(), b"") {
                Err(ServerError::Failed { .. }) if Instant::now() < until && !self.cancel.is_requested() => {
                    let soon = until.min(Instant::now() + ASK_AGAIN);
                    wait::readable(&[self.cancel.as_fd()], soon).map_err(ServerError::io("wait for the server"))?;
                }
                other => return other,
            }
        }
    }

    /// Starts a program that runs as long as the session.
    pub(super) fn keep(&self, action: &str, argv: Vec<String>) -> Result<(), ServerError> {
        self.keep_running(self.start(action, argv, &[], b"")?);
        Ok(())
    }

    /// The same, of one that was started.
    pub(super) fn keep_running(&self, mut exec: Running) {
        exec.leave();
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(exec);
    }

    /// Runs a program on a stream that it reads; what it prints is dropped.
    pub(super) fn feed(
        &self,
        action: &str,
        argv: Vec<String>,
        env: &[String],
        content: &mut dyn Read,
    ) -> Result<(), ServerError> {
        let name = argv.first().cloned().unwrap_or_default();
        let attempt = self.attempt(action);
        let mut exec = self.start(action, argv, env, b"")?;
        let mut buffer = vec![0; BLOCK];
        loop {
            let count = content.read(&mut buffer).map_err(ServerError::io("read the dump"))?;
            if count == 0 {
                break;
            }
            match exec.write_all(&buffer[..count]) {
                Ok(()) => {}
                // It has ended, and says why below.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
                Err(error) => return Err(attempt.exec(exec.why(error))),
            }
        }
        exec.close_input();
        let ended = exec.finish().map_err(|error| attempt.exec(error))?;
        attempt.ended(&name, &ended)
    }

    /// The first of several programs that the image has, by asking each for its version; with what it says. Asked once.
    pub(super) fn first_program(&self, action: &str, names: &[&str]) -> Result<(String, String), ServerError> {
        let known = || self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        let key = names.join(" ");
        if let Some(found) = known().get(&key) {
            return Ok(found.clone());
        }
        let found = self.look_for_program(action, names)?;
        known().insert(key, found.clone());
        Ok(found)
    }

    fn look_for_program(&self, action: &str, names: &[&str]) -> Result<(String, String), ServerError> {
        for name in names {
            match self.ran(action, vec![(*name).to_owned(), "--version".to_owned()], b"") {
                Ok((ended, version)) if ended.code == 0 => return Ok(((*name).to_owned(), version.trim().to_owned())),
                Ok(_) | Err(ServerError::NoProgram { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(ServerError::NoProgram {
            action: action.to_owned(),
            place: self.at.label().to_owned(),
            programs: names.join(", "),
            is_host: self.at.on_host().is_some(),
        })
    }
}
