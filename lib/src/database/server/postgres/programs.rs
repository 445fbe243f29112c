//! Programs of a host for one of several versions of PostgreSQL that it may have.

use std::path::PathBuf;

use super::super::{ServerError, Session};
use crate::failure::FailureKind;

/// The version that decides what fits: `15` of `15.20 (Debian 15.20-0+deb12u1)`, `9.6` of `9.6.24`.
fn major(version: &str) -> Option<String> {
    let number: String = version.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let mut parts = number.split('.');
    let first = parts.next()?.parse::<u32>().ok()?;
    match parts.next().and_then(|second| second.parse::<u32>().ok()) {
        Some(second) if first < 10 => Some(format!("{first}.{second}")),
        _ => Some(first.to_string()),
    }
}

/// Where distributions put those of one version.
fn directories(major: &str) -> Vec<PathBuf> {
    [format!("/usr/lib/postgresql/{major}/bin"), format!("/usr/pgsql-{major}/bin")].map(PathBuf::from).to_vec()
}

/// A session with the programs of a server's version where they are; else with those that there are.
pub(super) fn like_server(session: Session, version: &str) -> Session {
    match major(version) {
        Some(major) => session.with_programs_of(directories(&major)),
        None => session,
    }
}

/// A session in which a server of that version can be made.
pub(super) fn of_server(session: Session, action: &str, version: &str) -> Result<Session, ServerError> {
    let session = like_server(session, version);
    // `initdb (PostgreSQL) 15.20 (Debian ...)`
    let (_, said) = session.first_program(action, &["initdb"])?;
    let here = said.split_whitespace().find_map(major);
    if here == major(version) {
        return Ok(session);
    }
    let wanted = major(version).unwrap_or_else(|| version.to_owned());
    Err(ServerError::Refused {
        reason: format!("can't {action}: the dump is of PostgreSQL {wanted}, and this host has {said}"),
        kind: FailureKind::Failed,
        hint: Some(format!("install postgresql-{wanted}")),
    })
}

#[test]
fn the_major_version_is_what_its_time_called_so() {
    for (version, wanted) in
        [("15.20 (Debian 15.20-0+deb12u1)", "15"), ("17beta1", "17"), ("9.6.24", "9.6"), ("18", "18")]
    {
        assert_eq!(major(version).as_deref(), Some(wanted), "{version}");
    }
    assert_eq!(major("(PostgreSQL)"), None);
}
