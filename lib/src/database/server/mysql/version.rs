//! What the programs say of themselves.

use super::super::{ServerError, Session};
use crate::failure::FailureKind;

/// The release that a program is of. Before MySQL 8.0 `Ver` is that of the program alone, and `Distrib` the release:
/// `mysqldump  Ver 10.13 Distrib 5.7.44, for Linux`.
fn release(text: &str) -> (u32, u32, u32) {
    let from = text.split_once("Distrib ").or_else(|| text.split_once("Ver ")).map_or(text, |(_, rest)| rest);
    let number = from.split(|c: char| c != '.' && !c.is_ascii_digit()).find(|word| word.contains('.'));
    let mut parts = number.unwrap_or_default().split('.').filter_map(|part| part.parse::<u32>().ok());
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

/// Since MySQL 8.0.26 the words of replication are others.
pub(super) fn has_source_words(version: &str) -> bool {
    release(version) >= (8, 0, 26) && !version.contains("MariaDB")
}

/// Where the server has GTIDs, MySQL's program has the dump replace those of the server that loads it, which one with any
/// of its own refuses, and keep the load out of its log. The position is recorded beside.
pub(super) fn has_gtid_words(version: &str) -> bool {
    release(version) >= (5, 6, 0) && !version.contains("MariaDB")
}

/// The program and its version, without the words around.
pub(super) fn line(dumper: &str, version: &str) -> String {
    let rest = version.split_once("Ver ").map_or(version, |(_, rest)| rest);
    format!("{dumper} {}", rest.trim())
}

/// Refuses a server of this host that is of another series than the one that was dumped: `10.11`, `8.0`.
pub(super) fn same_series(session: &Session, action: &str, daemon: &str, dumped: &str) -> Result<(), ServerError> {
    let (_, here) = session.first_program(action, &[daemon])?;
    let series = |text: &str| {
        let (major, minor, _) = release(text);
        (major, minor, text.contains("MariaDB"))
    };
    if series(&here) == series(dumped) {
        return Ok(());
    }
    let (major, minor, is_mariadb) = series(dumped);
    let name = if is_mariadb { "MariaDB" } else { "MySQL" };
    Err(ServerError::Refused {
        reason: format!("can't {action}: the dump is of {name} {major}.{minor}, and this host has {here}"),
        kind: FailureKind::Failed,
        hint: Some(format!("install a server of {name} {major}.{minor}, or verify where there is one")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_replication_changed_with_mysql_8_0_26_and_not_in_mariadb() {
        assert!(has_source_words("mysqldump  Ver 8.0.34 for Linux on x86_64 (MySQL Community Server - GPL)"));
        assert!(has_source_words("mysqldump  Ver 9.1.0 for Linux"));
        assert!(!has_source_words("mysqldump  Ver 8.0.25 for Linux"));
        assert!(!has_source_words("mysqldump  Ver 10.13 Distrib 5.7.44, for Linux (x86_64)"));
        assert!(!has_source_words("mysqldump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)"));
        assert_eq!(
            line("mariadb-dump", "mariadb-dump from 11.4.2-MariaDB"),
            "mariadb-dump mariadb-dump from 11.4.2-MariaDB"
        );
        assert_eq!(line("mysqldump", "mysqldump  Ver 8.0.34 for Linux"), "mysqldump 8.0.34 for Linux");
    }

    #[test]
    fn a_server_and_its_program_are_of_one_series() {
        let series = |text: &str| (release(text).0, release(text).1);
        assert_eq!(series("mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64"), (10, 11));
        assert_eq!(series("10.11.6-MariaDB-1:10.11.6+maria~ubu2204"), (10, 11));
        assert_eq!(series("/usr/sbin/mysqld  Ver 8.0.34 for Linux on x86_64"), (8, 0));
    }

    #[test]
    fn only_mysqls_own_program_is_told_to_leave_gtids_out() {
        for with in ["mysqldump 8.0.34 for Linux", "mysqldump 10.13 Distrib 5.7.44, for Linux", "mysqldump 9.1.0 for"] {
            assert!(has_gtid_words(with), "{with}");
        }
        let mariadb = [
            "mariadb-dump 10.19 Distrib 10.11.19-MariaDB, for debian",
            "mariadb-dump mariadb-dump from 11.4.2-MariaDB",
        ];
        for without in mariadb.into_iter().chain(["mysqldump 10.13 Distrib 5.5.62, for Linux", "mysqldump"]) {
            assert!(!has_gtid_words(without), "{without}");
        }
    }
}
