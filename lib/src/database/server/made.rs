//! What a program beside a server needs as a file, or as a directory: made for its owner alone, under a name that nobody
//! could have prepared, and gone after its use. What a killed run left is removed by the next one, which holds the
//! container's or the server's lock. A host has those of several servers: theirs are told apart by their names.

use super::{ServerError, Session};
use crate::progress::Cancel;

/// Where it is made, and what it is.
#[derive(Debug)]
pub(super) struct Kind {
    dir: &'static str,
    prefix: &'static str,
    is_directory: bool,
    /// For people: what is left where it can't be removed.
    what: &'static str,
}

/// A secret, in a directory in memory that every Linux container and host has.
pub(super) const SECRET: Kind =
    Kind { dir: "/dev/shm", prefix: "svckit-secret.", is_directory: false, what: "a file with a password" };
/// A dump that its program writes nowhere but into a directory. It takes room for all of it as long as it is made.
pub(super) const DUMP: Kind =
    Kind { dir: "/tmp", prefix: "svckit-dump.", is_directory: true, what: "a directory with a dump" };
/// All that a killed run may have left.
const KINDS: &[&Kind] = &[&DUMP, &SECRET];
/// A program of a killed run may still write into a directory: it fails as soon as that is gone.
const ATTEMPTS: usize = 3;

/// It is removed when this is dropped.
pub(super) struct Made {
    session: Session,
    kind: &'static Kind,
    path: String,
}

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|word| (*word).to_owned()).collect()
}

impl Kind {
    fn prefix(&self, session: &Session) -> String {
        let key = session.at.on_host().map_or_else(String::new, |host| format!("{}.", host.key()));
        format!("{}{key}", self.prefix)
    }

    fn is_ours(prefix: &str, name: &str) -> bool {
        let rest = name.strip_prefix(prefix);
        rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    }

    fn has(&self, prefix: &str, path: &str) -> bool {
        let name = path.strip_prefix(self.dir).and_then(|rest| rest.strip_prefix('/'));
        name.is_some_and(|name| Self::is_ours(prefix, name))
    }
}

impl Made {
    pub(super) fn make(session: &Session, kind: &'static Kind, action: &str) -> Result<Self, ServerError> {
        let prefix = kind.prefix(session);
        let template = format!("{}/{prefix}XXXXXXXX", kind.dir);
        // 0600 or 0700 from the first moment.
        let argv: &[&str] = if kind.is_directory { &["mktemp", "-d", &template] } else { &["mktemp", &template] };
        let path = session.answer(action, words(argv), b"")?.trim_end().to_owned();
        if !kind.has(&prefix, &path) {
            return Err(ServerError::NotRun {
                action: action.to_owned(),
                place: session.place().to_owned(),
                reason: "mktemp did not answer with the path that it was asked for".to_owned(),
            });
        }
        Ok(Self { session: session.clone(), kind, path })
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The names in it, where it is a directory.
    pub(super) fn names(&self, action: &str) -> Result<Vec<String>, ServerError> {
        let listed = self.session.answer(action, words(&["ls", "-1", "--", &self.path]), b"")?;
        Ok(listed.lines().map(str::to_owned).collect())
    }
}

/// Removes what killed runs left. Only under the container's or the server's lock.
pub(super) fn sweep(session: &Session) -> Result<(), ServerError> {
    const ACTION: &str = "look for what a killed run left";
    // Those that still use it first.
    if let Some(host) = session.at.on_host() {
        host.sweep().map_err(ServerError::io(ACTION))?;
    }
    for kind in KINDS {
        let prefix = kind.prefix(session);
        let (ended, listed) = session.ran(ACTION, words(&["ls", "-1", kind.dir]), b"")?;
        if ended.code != 0 {
            continue;
        }
        for name in listed.lines().filter(|name| Kind::is_ours(&prefix, name)) {
            tracing::info!(name, "removing what a killed run left");
            remove(session, ACTION, &format!("{}/{name}", kind.dir))?;
        }
    }
    Ok(())
}

fn remove(session: &Session, action: &str, path: &str) -> Result<(), ServerError> {
    let once = || session.answer(action, words(&["rm", "-rf", "--", path]), b"").map(drop);
    (1..ATTEMPTS).find_map(|_| once().ok()).map_or_else(once, Ok)
}

impl Drop for Made {
    fn drop(&mut self) {
        // Also after a cancellation: this must still be run.
        let session = match Cancel::new() {
            Ok(cancel) => Session { cancel, ..self.session.clone() },
            Err(_) => self.session.clone(),
        };
        if let Err(error) = remove(&session, "remove what was made for a program", &self.path) {
            let what = self.kind.what;
            tracing::warn!(%error, path = self.path, "{what} is left: the next run removes it");
        }
    }
}

#[test]
fn only_what_we_have_made_is_ours() {
    for (kind, path) in [(&SECRET, "/dev/shm/svckit-secret.aB3dE6gH"), (&DUMP, "/tmp/svckit-dump.aB3dE6gH")] {
        assert!(kind.has(kind.prefix, path));
        for other in
            [&path[1..], &format!("{path}/x"), &format!("{path}.x"), kind.dir, &format!("{}/{}", kind.dir, kind.prefix)]
        {
            assert!(!kind.has(kind.prefix, other), "{other}");
        }
    }
    let has = |path: &str| SECRET.has(SECRET.prefix, path);
    assert!(!has("/tmp/svckit-dump.aB3dE6gH") && !has("/dev/shm/../svckit-secret.x/.."));
    // A host's have the server's key in between.
    let of_server = "svckit-secret.0123abcd.";
    assert!(SECRET.has(of_server, "/dev/shm/svckit-secret.0123abcd.aB3dE6gH"));
    assert!(!has("/dev/shm/svckit-secret.0123abcd.aB3dE6gH"));
    assert!(!SECRET.has(of_server, "/dev/shm/svckit-secret.aB3dE6gH"));
}
