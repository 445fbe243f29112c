//! The error of a program: the library's own, or one of the programs' few.

use std::path::PathBuf;

use svckit::failure::{hint_of_io, kind_of_io};
use svckit::operation::MayPass;
use svckit::{Failure, FailureKind};

/// Any failure, ready to be shown.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The library's.
    #[error("{0}")]
    Library(Box<dyn Failure + Send + Sync>),
    /// The request can't be meant.
    #[error("{what}")]
    Usage {
        /// What is wrong with it.
        what: String,
        /// What to write instead.
        hint: Option<String>,
    },
    /// A file or a descriptor of the program's own.
    #[error("can't {action} {path:?}: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// Anything else, with its kind.
    #[error("{what}")]
    Other {
        /// What was attempted, on what, and why it failed.
        what: String,
        /// Its kind.
        kind: FailureKind,
        /// What to do.
        hint: Option<String>,
    },
}

impl ToolError {
    /// A request that can't be meant, and what to write instead.
    pub fn usage(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { what: what.into(), hint: Some(hint.into()) }
    }

    /// An I/O error of the program's own.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

impl<E: Failure + Send + Sync + 'static> From<E> for ToolError {
    fn from(error: E) -> Self {
        Self::Library(Box::new(error))
    }
}

// `ToolError` is not a `Failure` itself: the conversion above would then overlap with the identity.
impl ToolError {
    /// The kind, for the exit code.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Library(error) => error.kind(),
            Self::Usage { .. } => FailureKind::Usage,
            Self::Io { source, .. } => kind_of_io(source),
            Self::Other { kind, .. } => *kind,
        }
    }

    /// What caused it, where its own message does not say it already.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Library(error) => error.source(),
            other => std::error::Error::source(other),
        }
    }

    /// What the person can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Library(error) => error.hint(),
            Self::Usage { hint, .. } | Self::Other { hint, .. } => hint.clone(),
            Self::Io { source, .. } => hint_of_io(source),
        }
    }
}

impl MayPass for ToolError {
    fn may_pass(&self) -> bool {
        matches!(self, Self::Library(error) if error.is_transient())
    }
}
