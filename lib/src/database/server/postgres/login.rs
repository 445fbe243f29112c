//! How the programs of PostgreSQL are told where the server is and who asks.

use super::super::secret_file::SecretFile;
use super::super::{ServerError, Session};

/// A password file in the container, where there is a password.
pub(super) struct Login {
    file: Option<SecretFile>,
}

impl Login {
    pub(super) fn make(session: &Session) -> Result<Self, ServerError> {
        let Some(secret) = &session.secret else { return Ok(Self { file: None }) };
        let escaped = secret.reveal().replace('\\', "\\\\").replace(':', "\\:");
        Ok(Self { file: Some(SecretFile::make(session, format!("*:*:*:*:{escaped}\n").as_bytes())?) })
    }

    /// The path, not the password.
    pub(super) fn environment(&self) -> Vec<String> {
        self.file.iter().map(|file| format!("PGPASSFILE={}", file.path())).collect()
    }

    /// A program that never asks for a password, against one database.
    pub(super) fn argv(&self, session: &Session, program: &str, database: &str) -> Vec<String> {
        let mut argv = vec![program.to_owned(), "--no-password".to_owned()];
        argv.extend(session.client.iter().cloned());
        if let Some(user) = &session.user {
            argv.push(format!("--username={user}"));
        }
        argv.push(format!("--dbname={}", connection(database)));
        argv
    }

    pub(super) fn psql(&self, session: &Session, database: &str) -> Vec<String> {
        let mut argv = self.argv(session, "psql", database);
        let options = ["--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "--field-separator=\t"];
        argv.extend(options.map(str::to_owned));
        argv.push("--set=ON_ERROR_STOP=1".to_owned());
        argv
    }
}

/// A database by its name alone: the bare name could be taken for a whole connection string.
fn connection(database: &str) -> String {
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[test]
fn a_name_is_no_connection_string() {
    assert_eq!(connection("host=evil user='x\\"), "dbname='host=evil user=\\'x\\\\'");
}
