//! A directory in a container, for programs that write a backup nowhere but into one: for its owner alone, gone after
//! its use. What a killed run left is removed by the next one, which holds the container's lock.

use super::{ServerError, Session};

/// What every image has. It takes room for a whole backup as long as one is made.
const DIR: &str = "/tmp";
const PREFIX: &str = "svckit-dump.";
/// A program of a killed run may still write into it: it fails as soon as its directory is gone.
const ATTEMPTS: usize = 3;

pub(super) struct StagedDir {
    session: Session,
    path: String,
}

impl StagedDir {
    pub(super) fn make(session: &Session, action: &str) -> Result<Self, ServerError> {
        let template = format!("{DIR}/{PREFIX}XXXXXXXX");
        let made = session.answer(action, ["mktemp", "-d", &template].map(str::to_owned).to_vec(), b"")?;
        let path = made.trim_end().to_owned();
        if !path.strip_prefix(DIR).and_then(|rest| rest.strip_prefix('/')).is_some_and(is_ours) {
            return Err(ServerError::NotRun {
                action: action.to_owned(),
                place: session.place().to_owned(),
                reason: "mktemp did not answer with the path that it was asked for".to_owned(),
            });
        }
        Ok(Self { session: session.clone(), path })
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The names in it.
    pub(super) fn names(&self, action: &str) -> Result<Vec<String>, ServerError> {
        let listed = self.session.answer(action, ["ls", "-1", "--", &self.path].map(str::to_owned).to_vec(), b"")?;
        Ok(listed.lines().map(str::to_owned).collect())
    }

    /// Removes what killed runs left. Only under the container's lock.
    pub(super) fn sweep(session: &Session) -> Result<(), ServerError> {
        const ACTION: &str = "look for what a killed run left";
        let (ended, listed) = session.ran(ACTION, ["ls", "-1", DIR].map(str::to_owned).to_vec(), b"")?;
        if ended.code != 0 {
            return Ok(());
        }
        for name in listed.lines().filter(|name| is_ours(name)) {
            tracing::info!(name, "removing what a killed run left in the container");
            remove(session, ACTION, &format!("{DIR}/{name}"))?;
        }
        Ok(())
    }
}

fn remove(session: &Session, action: &str, path: &str) -> Result<(), ServerError> {
    let once = || session.answer(action, ["rm", "-rf", "--", path].map(str::to_owned).to_vec(), b"").map(drop);
    (1..ATTEMPTS).find_map(|_| once().ok()).map_or_else(once, Ok)
}

fn is_ours(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
}

impl Drop for StagedDir {
    fn drop(&mut self) {
        // Also after a cancellation: this must still be run.
        let session = match crate::progress::Cancel::new() {
            Ok(cancel) => Session { cancel, ..self.session.clone() },
            Err(_) => self.session.clone(),
        };
        if let Err(error) = remove(&session, "remove what was staged", &self.path) {
            tracing::warn!(%error, path = self.path, "a directory is left in the container: the next run removes it");
        }
    }
}
