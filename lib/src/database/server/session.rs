//! A server that programs can reach, and the password for it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::ServerError;
use super::error::Attempt;
use crate::controller::docker::{Ended, Exec, ExecError, Inside, Program};
use crate::progress::Cancel;

/// A program that neither reads nor writes for so long has failed: a dump can wait for somebody's lock on a table.
const IDLE_MAX: Duration = Duration::from_secs(15 * 60);

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

/// Where the programs of an engine run, and as whom they speak to the server.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(super) inside: Inside,
    pub(super) user: Option<String>,
    pub(super) secret: Option<Secret>,
    /// The system's user in the container; `None`: the image's own.
    pub(super) run_as: Option<String>,
    /// Further options of every client: where the server of a scratch container listens.
    pub(super) client: Vec<String>,
    /// The server of a scratch container, which ends with the last session of it.
    pub(super) server: Arc<Mutex<Option<Exec>>>,
    /// Programs that were looked for, and what they said of themselves.
    pub(super) programs: Arc<Mutex<BTreeMap<String, (String, String)>>>,
    /// Whether the server is one that was made to try a restore.
    pub(super) is_scratch: bool,
    pub(super) cancel: Cancel,
}

impl Session {
    pub(crate) fn new(inside: Inside, user: Option<String>, secret: Option<Secret>, cancel: Cancel) -> Self {
        Self {
            inside,
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
    pub(super) fn place(&self) -> &str {
        self.inside.label()
    }

    /// The name and the id of the container's image.
    pub(crate) fn image(&self) -> Result<(String, String), ServerError> {
        self.inside.image().map_err(|error| self.attempt("look at the image").exec(error))
    }

    pub(super) fn attempt<'a>(&'a self, action: &'a str) -> Attempt<'a> {
        Attempt { action, place: self.inside.label(), user: self.user.as_deref(), secret: self.secret.as_ref() }
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
    ) -> Result<Exec, ServerError> {
        let failed = |error: ExecError| self.attempt(action).exec(error);
        let mut exec = self.inside.start(&self.program(argv, env), &self.cancel).map_err(failed)?;
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
            self.inside.run(&program, input, &self.cancel).map_err(|error| self.attempt(action).exec(error))?;
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

    /// Starts a program that runs as long as the session.
    pub(super) fn keep(&self, action: &str, argv: Vec<String>) -> Result<(), ServerError> {
        self.keep_running(self.start(action, argv, &[], b"")?);
        Ok(())
    }

    /// The same, of one that was started.
    pub(super) fn keep_running(&self, exec: Exec) {
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
            place: self.inside.label().to_owned(),
            programs: names.join(", "),
        })
    }
}
