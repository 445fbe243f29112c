//! The error of an operation: whose it is, and whether the service is back.

use crate::failure::{Failure, FailureKind};

/// Any failure of a part, with its kind and hint, and what became of the service.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// A part failed; the service is as it was.
    #[error("{what}: {cause}")]
    Part {
        /// What was attempted: `back up /srv/app.db`.
        what: String,
        /// The part's error.
        cause: Box<dyn Failure + Send + Sync>,
    },
    /// The service is not back. Outranks the failure of the work, which is told beside.
    #[error("{service} is not back: {reason}{}", also(.work.as_deref()))]
    NotBack {
        /// The service.
        service: String,
        /// Why it is not.
        reason: String,
        /// What failed before that, if anything did.
        work: Option<String>,
    },
    /// The operation itself refuses or answers no.
    #[error("{what}: {reason}")]
    Refused {
        /// What was attempted.
        what: String,
        /// Why not.
        reason: String,
        /// Which kind of answer it is.
        kind: FailureKind,
        /// What to do.
        hint: Option<String>,
    },
}

fn also(work: Option<&str>) -> String {
    work.map_or_else(String::new, |work| format!("; before that: {work}"))
}

impl Failure for OperationError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Part { cause, .. } => cause.kind(),
            Self::NotBack { .. } => FailureKind::NotBack,
            Self::Refused { kind, .. } => *kind,
        }
    }
    fn is_transient(&self) -> bool {
        match self {
            Self::Part { cause, .. } => cause.is_transient(),
            Self::NotBack { .. } | Self::Refused { .. } => false,
        }
    }
    fn hint(&self) -> Option<String> {
        match self {
            Self::Part { cause, .. } => cause.hint(),
            Self::NotBack { .. } => Some("look at the service's log, then run: svc-ctl resume".to_owned()),
            Self::Refused { hint, .. } => hint.clone(),
        }
    }
}

/// Adds what was attempted to a part's error.
pub(super) trait During<T> {
    fn during(self, what: impl Into<String>) -> Result<T, OperationError>;
}

impl<T, E: Failure + Send + Sync + 'static> During<T> for Result<T, E> {
    fn during(self, what: impl Into<String>) -> Result<T, OperationError> {
        self.map_err(|error| OperationError::Part { what: what.into(), cause: Box::new(error) })
    }
}
