//! What the programs say of themselves.

/// `mysqldump  Ver 8.0.34 for Linux`: since 8.0.26 the words are others.
pub(super) fn has_source_words(version: &str) -> bool {
    let number = version.split("Ver ").nth(1).unwrap_or_default();
    let mut parts = number.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u32>().ok());
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next()) >= (8, 0, 26) && !version.contains("MariaDB")
}

/// The program and its version, without the words around.
pub(super) fn line(dumper: &str, version: &str) -> String {
    let rest = version.split_once("Ver ").map_or(version, |(_, rest)| rest);
    format!("{dumper} {}", rest.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_replication_changed_with_mysql_8_0_26_and_not_in_mariadb() {
        assert!(has_source_words("mysqldump  Ver 8.0.34 for Linux on x86_64 (MySQL Community Server - GPL)"));
        assert!(has_source_words("mysqldump  Ver 9.1.0 for Linux"));
        assert!(!has_source_words("mysqldump  Ver 8.0.25 for Linux"));
        assert!(!has_source_words("mysqldump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)"));
        assert_eq!(
            line("mariadb-dump", "mariadb-dump from 11.4.2-MariaDB"),
            "mariadb-dump mariadb-dump from 11.4.2-MariaDB"
        );
        assert_eq!(line("mysqldump", "mysqldump  Ver 8.0.34 for Linux"), "mysqldump 8.0.34 for Linux");
    }
}
