//! A secret as a file, for programs whose standard input is taken: in memory, for its owner alone, gone
//! after its use.

use super::made::{Made, SECRET, sweep};
use super::{ServerError, Session};

pub(crate) struct SecretFile(Made);

impl SecretFile {
    pub(super) fn make(session: &Session, content: &[u8]) -> Result<Self, ServerError> {
        const ACTION: &str = "hand the password over";
        let file = Self(Made::make(session, &SECRET, ACTION)?);
        let argv = ["cp", "--", "/dev/stdin", file.path()].map(str::to_owned).to_vec();
        session.answer(ACTION, argv, content)?;
        Ok(file)
    }

    pub(super) fn path(&self) -> &str {
        self.0.path()
    }

    /// Removes what killed runs left, dumps in files included. Only under the container's or the server's lock.
    pub(crate) fn sweep(session: &Session) -> Result<(), ServerError> {
        sweep(session)
    }
}
