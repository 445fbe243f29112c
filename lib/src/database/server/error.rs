//! What can go wrong with a server's databases and the programs that dump and load them.

use std::path::PathBuf;

use super::Secret;
use crate::controller::docker::{Ended, ExecError};
use crate::failure::{Failure, FailureKind, hint_of_io};

/// Why a dump, a load or a look at a server failed. No variant holds a password: what programs say is cleared of it.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A program could not be run, or its end could not be learnt.
    #[error("can't {action} in {place}: {reason}")]
    NotRun {
        /// What was attempted: `dump the databases`.
        action: String,
        /// Where: `container db`.
        place: String,
        /// Why not.
        reason: String,
    },
    /// The caller asked for the end.
    #[error("{action} in {place} was cancelled")]
    Cancelled {
        /// What went on.
        action: String,
        /// Where.
        place: String,
    },
    /// A program is not where it was looked for.
    #[error("can't {action} in {place}: it has none of {programs}")]
    NoProgram {
        /// What was attempted.
        action: String,
        /// Where.
        place: String,
        /// What was looked for.
        programs: String,
        /// Whether it is this host that has none.
        is_host: bool,
    },
    /// The server does not let us in.
    #[error("can't {action} in {place}: the server refuses user {user}: {said}")]
    Denied {
        /// What was attempted.
        action: String,
        /// Where.
        place: String,
        /// As whom.
        user: String,
        /// What the program said.
        said: String,
    },
    /// The server knows who we are, and does not let us do that.
    #[error("can't {action} in {place}: user {user} may not do that: {said}")]
    Forbidden {
        /// What was attempted.
        action: String,
        /// Where.
        place: String,
        /// As whom.
        user: String,
        /// What the program said.
        said: String,
    },
    /// A program failed.
    #[error("can't {action} in {place}: {program} ended with {code}: {said}")]
    Failed {
        /// What was attempted.
        action: String,
        /// Where.
        place: String,
        /// The program.
        program: String,
        /// Its exit code.
        code: i64,
        /// The end of what it said.
        said: String,
    },
    /// A dump that ended early, whatever its program said.
    #[error("the dump of {what} is not complete: {reason}")]
    Incomplete {
        /// What was dumped.
        what: String,
        /// What is missing.
        reason: String,
    },
    /// A copy is not what was dumped.
    #[error("{what} restored is not what was dumped: {}", differences.join("; "))]
    Differs {
        /// What was restored.
        what: String,
        /// How.
        differences: Vec<String>,
    },
    /// There is no such database, or there is one where there must be none.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
        /// Which kind of answer it is.
        kind: FailureKind,
        /// What to do.
        hint: Option<String>,
    },
    /// A password could not be found, or its file can't be trusted.
    #[error("can't read the password from {}: {reason}", source_path.display())]
    Secret {
        /// Where it was looked for.
        source_path: PathBuf,
        /// Why not.
        reason: String,
        /// Whether it is a matter of rights.
        kind: FailureKind,
    },
    /// The system refused something of our own.
    #[error("can't {action}: {error}")]
    Io {
        /// What was attempted.
        action: String,
        /// What happened.
        error: std::io::Error,
    },
}

impl ServerError {
    /// An I/O error of our own.
    pub(super) fn io(action: &str) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |error| Self::Io { action: action.to_owned(), error }
    }

    /// A name that the server has, and that we can't handle.
    pub(super) fn word(error: super::WordError) -> Self {
        Self::Refused { reason: error.to_string(), kind: FailureKind::Failed, hint: None }
    }
}

/// What is attempted, where, and as whom: what every message of it begins with.
#[derive(Debug, Clone)]
pub(super) struct Attempt<'a> {
    pub(super) action: &'a str,
    pub(super) place: &'a str,
    pub(super) user: Option<&'a str>,
    pub(super) secret: Option<&'a Secret>,
    pub(super) is_host: bool,
}

/// What servers say to whom they don't know, in their programs' words.
const DENIALS: &[&str] = &[
    "Access denied",
    "authentication failed",
    "no password supplied",
    "fe_sendauth",
    "WRONGPASS",
    "NOAUTH",
    "AUTH failed",
    "Authentication required",
    "unauthorized",
    "authorization failed",
    "unable to parse authentication credentials",
    "error authorizing query",
    "Authentication failed",
    "AuthenticationFailed",
    "requires authentication",
    "not authorized",
];

/// MySQL and MariaDB say `Access denied` for two things. It is no matter of the password where they name a privilege or a
/// database, or a line of what was read: by then the login is over. A GRANT of what one does not have is told so, with the very
/// number and words of a wrong password.
fn is_known_to_server(said: &str) -> bool {
    let denied = said.find("Access denied").map(|at| said.split_at(at));
    denied.is_some_and(|(before, after)| {
        after.starts_with("Access denied; you need")
            || after.contains("' to database '")
            || before.contains(") at line ")
    })
}

impl Attempt<'_> {
    pub(super) fn exec(&self, error: ExecError) -> ServerError {
        let (action, place) = (self.action.to_owned(), self.place.to_owned());
        match error {
            ExecError::Cancelled => ServerError::Cancelled { action, place },
            ExecError::NoProgram { program } => {
                ServerError::NoProgram { action, place, programs: program, is_host: self.is_host }
            }
            other => ServerError::NotRun { action, place, reason: other.to_string() },
        }
    }

    /// Nothing but 0 is a success.
    pub(super) fn ended(&self, program: &str, ended: &Ended) -> Result<(), ServerError> {
        if ended.code == 0 {
            return Ok(());
        }
        let said = match self.secret {
            Some(secret) => secret.cleared(&ended.said),
            None => ended.said.clone(),
        };
        let said = if said.is_empty() { "it said nothing".to_owned() } else { last_lines(&said) };
        let (action, place) = (self.action.to_owned(), self.place.to_owned());
        if is_known_to_server(&said) {
            let user = self.user.unwrap_or("(none)").to_owned();
            return Err(ServerError::Forbidden { action, place, user, said });
        }
        if DENIALS.iter().any(|denial| said.contains(denial)) {
            let user = self.user.unwrap_or("(none)").to_owned();
            return Err(ServerError::Denied { action, place, user, said });
        }
        Err(ServerError::Failed { action, place, program: program.to_owned(), code: ended.code, said })
    }
}

/// A message is read in one line.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(4)..].join("; ")
}

/// What has a program, as Debian names it.
fn package_of(programs: &str) -> String {
    let package = match programs {
        _ if programs.contains("initdb") || programs.contains("pg_ctl") => "the server: postgresql",
        _ if programs.contains("psql") || programs.contains("pg_") => "the client programs: postgresql-client",
        _ if programs.contains("mariadbd") || programs.contains("install-db") => "the server: mariadb-server-core",
        _ if programs.contains("mysql") || programs.contains("mariadb") => "the client programs: mariadb-client",
        _ if programs.contains("redis-cli") => "the client programs: redis-tools",
        _ if programs.contains("redis") => "the server: redis-server",
        _ => "what has it",
    };
    format!("the programs of this host are used; install {package}")
}

impl Failure for ServerError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Denied { .. } | Self::Forbidden { .. } => FailureKind::Permission,
            Self::Refused { kind, .. } | Self::Secret { kind, .. } => *kind,
            Self::Differs { .. } => FailureKind::Unverified,
            Self::NotRun { .. }
            | Self::Cancelled { .. }
            | Self::NoProgram { .. }
            | Self::Failed { .. }
            | Self::Incomplete { .. }
            | Self::Io { .. } => FailureKind::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Denied { .. } => {
                "name the user and where the password is: --user, and --password-file, --password-env, --docker-secret \
                 or --credential"
            }
            Self::Forbidden { .. } => {
                "the password is right, and the user lacks a privilege: grant it, or name one who has it (--user): users and \
                 grants are restored by an administrator"
            }
            Self::NoProgram { is_host: true, programs, .. } => return Some(package_of(programs)),
            Self::NoProgram { .. } => "check --engine; the programs of the server's own image are used",
            Self::Failed { code: 137, .. } => {
                "the program was killed: by the end of the container, or for want of memory"
            }
            Self::Secret { .. } => "make it a file that only you or root can read: chmod 600",
            Self::Refused { hint, .. } => return hint.clone(),
            Self::Io { error, .. } => return hint_of_io(error),
            _ => return None,
        };
        Some(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_privilege_is_not_taken_for_a_wrong_password() {
        let attempt = Attempt {
            action: "load the dump",
            place: "container db",
            user: Some("clerk"),
            secret: None,
            is_host: false,
        };
        let ended = |said: &str| {
            let error = attempt.ended("mariadb", &Ended { code: 1, said: said.to_owned() }).unwrap_err();
            assert_eq!(error.kind(), FailureKind::Permission, "{said}");
            error.hint().unwrap().contains("the password is right")
        };
        for said in [
            "ERROR 1045 (28000) at line 23: Access denied for user 'clerk'@'localhost' (using password: YES)",
            "ERROR 1044 (42000) at line 7: Access denied for user 'clerk'@'%' to database 'shop'",
            "ERROR 1044 (42000): Access denied for user 'clerk'@'%' to database 'shop'",
            "ERROR 1227 (42000) at line 1: Access denied; you need (at least one of) the CREATE USER privilege(s) for this operation",
            "mariadb-dump: Couldn't execute 'FLUSH TABLES': Access denied; you need (at least one of) the RELOAD privilege(s) for \
             this operation (1227)",
        ] {
            assert!(ended(said), "{said}");
        }
        for said in [
            "ERROR 1045 (28000): Access denied for user 'clerk'@'localhost' (using password: YES)",
            "ERROR 1698 (28000): Access denied for user 'root'@'localhost'",
            "mariadb-dump: Got error: 1045: \"Access denied for user 'x'@'localhost' (using password: NO)\" when trying to connect",
            "psql: error: FATAL:  password authentication failed for user \"clerk\"",
        ] {
            assert!(!ended(said), "{said}");
        }
    }
}
