//! A secret as a file in a container, for programs whose standard input is taken: in memory, for its owner alone, gone
//! after its use. What a killed run left is removed by the next one, which holds the container's lock.

use super::staged_dir::StagedDir;
use super::{ServerError, Session};

/// A directory in memory that every Linux container has.
const DIR: &str = "/dev/shm";
const PREFIX: &str = "svckit-secret.";

pub(crate) struct SecretFile {
    session: Session,
    path: String,
}

impl SecretFile {
    pub(super) fn make(session: &Session, content: &[u8]) -> Result<Self, ServerError> {
        const ACTION: &str = "hand the password over";
        let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect();
        // 0600 from the first moment, under a name that nobody could have prepared.
        let made = session.answer(ACTION, words(&["mktemp", &format!("{DIR}/{PREFIX}XXXXXXXX")]), b"")?;
        let path = made.trim_end().to_owned();
        let is_ours = path.strip_prefix(DIR).and_then(|rest| rest.strip_prefix('/')).is_some_and(is_ours);
        if !is_ours {
            let reason = "mktemp did not answer with the path that it was asked for".to_owned();
            return Err(ServerError::NotRun { action: ACTION.to_owned(), place: session.place().to_owned(), reason });
        }
        let file = Self { session: session.clone(), path };
        session.answer(ACTION, words(&["cp", "--", "/dev/stdin", &file.path]), content)?;
        Ok(file)
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Removes what killed runs left, dumps in files included. Only under the container's lock.
    pub(crate) fn sweep(session: &Session) -> Result<(), ServerError> {
        StagedDir::sweep(session)?;
        const ACTION: &str = "look for what a killed run left";
        let (ended, listed) = session.ran(ACTION, vec!["ls".to_owned(), "-1".to_owned(), DIR.to_owned()], b"")?;
        if ended.code != 0 {
            return Ok(());
        }
        for name in listed.lines().filter(|name| is_ours(name)) {
            tracing::info!(name, "removing what a killed run left in the container");
            session.answer(
                ACTION,
                vec!["rm".to_owned(), "-f".to_owned(), "--".to_owned(), format!("{DIR}/{name}")],
                b"",
            )?;
        }
        Ok(())
    }
}

fn is_ours(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        // Also after a cancellation: this must still be run.
        let session = match crate::progress::Cancel::new() {
            Ok(cancel) => Session { cancel, ..self.session.clone() },
            Err(_) => self.session.clone(),
        };
        let argv = ["rm", "-f", "--", &self.path].map(str::to_owned).to_vec();
        if let Err(error) = session.answer("remove the password", argv, b"") {
            tracing::warn!(%error, path = self.path, "a file with a password is left in the container's memory");
        }
    }
}
