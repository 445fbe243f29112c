//! What is wrong with a configuration, where, and what to write instead.

use std::path::PathBuf;

use super::labels::LabelFinding;
use crate::failure::{Failure, FailureKind, hint_of_io, kind_of_io};

/// One thing that is wrong with a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub instead: Option<String>,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.what)?;
        self.instead.as_ref().map_or(Ok(()), |instead| write!(f, " (write: {instead})"))
    }
}

/// Why a target could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// The file can't be read.
    #[error("can't read the configuration {path:?}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// Others could change or replace the file, and with it what is run by us.
    #[error("the configuration {path:?} can't be trusted: {} {reason}", at.display())]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// What has the wrong rights: it, or a directory above it.
        at: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is invalid; every finding is told, not only the first.
    #[error("the configuration {path:?} is invalid: {}", in_short(.findings))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, in the order of the lines; never empty.
        findings: Vec<Finding>,
    },
    /// There is neither a target nor a profile of this name.
    #[error("there is no target {name:?}: it is neither in a configuration file nor a profile")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// The profile's service is not installed where it usually is.
    #[error("{title} was not found here: looked for {}", paths(.looked_for))]
    NotInstalled {
        /// The service, as people call it.
        title: String,
        /// The databases that were looked for.
        looked_for: Vec<PathBuf>,
    },
    /// The labels of a container are invalid; every finding is told, not only the first.
    #[error("the labels of a target are invalid: {}", in_short(.findings))]
    Labels {
        /// What is wrong with them; never empty.
        findings: Vec<LabelFinding>,
    },
    /// Nothing that is found belongs to a group.
    #[error("the group {group:?} has no members: no target's container is of its Compose project")]
    NoMembers {
        /// The group.
        group: String,
    },
    /// The target says nothing that could be backed up.
    #[error("the target {name:?} names no database and no path")]
    Empty {
        /// The target.
        name: String,
    },
}

fn in_short(findings: &[impl ToString]) -> String {
    let all: Vec<String> = findings.iter().map(ToString::to_string).collect();
    all.join("; ")
}

fn paths(paths: &[PathBuf]) -> String {
    let all: Vec<String> = paths.iter().map(|path| format!("{path:?}")).collect();
    all.join(", ")
}

impl Failure for DiscoverError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Unreadable { source, .. } if source.kind() == std::io::ErrorKind::NotFound => FailureKind::Config,
            Self::Unreadable { source, .. } => kind_of_io(source),
            Self::Untrusted { .. } => FailureKind::Permission,
            Self::Invalid { .. } | Self::Labels { .. } | Self::Empty { .. } => FailureKind::Config,
            Self::Unknown { .. } => FailureKind::Usage,
            Self::NotInstalled { .. } | Self::NoMembers { .. } => FailureKind::No,
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Some("check the path: a file that is named has to be there".to_owned())
            }
            Self::Unreadable { source, .. } => hint_of_io(source),
            Self::Untrusted { at, .. } => Some(format!(
                "look at what it says, then make it yours or root's and not writable by others: chown, chmod go-w {}",
                at.display()
            )),
            Self::Invalid { .. } => Some(
                "mend these lines; `svc-backup config check`, or `svc-tend check` for rules, looks again".to_owned(),
            ),
            Self::Labels { .. } => Some("all labels that there are: svc-backup labels".to_owned()),
            Self::Unknown { name, known } => {
                Some(nearest(name, known.iter().map(String::as_str)).map_or_else(
                    || format!("known here: {}", known.join(", ")),
                    |near| format!("did you mean {near}?"),
                ))
            }
            Self::NotInstalled { .. } => {
                Some("name the databases: --sqlite PATH, or a [target.NAME] with sqlite = [\"PATH\"]".to_owned())
            }
            Self::NoMembers { .. } => Some("what is found: svc-backup targets".to_owned()),
            Self::Empty { .. } => Some("add: sqlite = [\"/path/to/the.db\"]".to_owned()),
        }
    }
}

/// The candidate that a person most likely meant.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::jaro_winkler(&word.to_lowercase(), candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.78)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
