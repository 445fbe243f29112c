//! Users of a dump in a server that has users of its own.

use std::io::{BufRead, BufReader, Read};

/// The statements of a dump of users, such that a user who is there keeps the password: `CREATE USER IF NOT EXISTS` gives
/// it to new ones, and a GRANT, which old versions write with it, would give it to all. Else a restore would lock out
/// whoever was told another password than the backup has, ourselves first.
pub(super) fn keeping_passwords(content: &mut dyn Read) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut content = BufReader::new(content);
    let mut line = Vec::new();
    while content.read_until(b'\n', &mut line)? > 0 {
        match std::str::from_utf8(&line).ok().filter(|text| text.starts_with("GRANT ")).and_then(without_password) {
            Some(text) => all.extend_from_slice(text.as_bytes()),
            None => all.extend_from_slice(&line),
        }
        line.clear();
    }
    Ok(all)
}

/// `None`: it has none.
fn without_password(grant: &str) -> Option<String> {
    // Names are quoted: the words stand behind the last of them.
    let after_names = grant.rfind("` IDENTIFIED ")? + 1;
    let (head, tail) = grant.split_at(after_names);
    let end = match tail.rfind('\'') {
        Some(quote) => quote + 1,
        None => [" REQUIRE ", " WITH ", ";"].iter().filter_map(|word| tail.find(word)).min()?,
    };
    Some(format!("{head}{}", &tail[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_loses_the_password_and_nothing_else() {
        let dump = "CREATE USER IF NOT EXISTS `a`@`%` IDENTIFIED BY PASSWORD '*AA';\n\
            GRANT ALL PRIVILEGES ON *.* TO `a`@`%` IDENTIFIED BY PASSWORD '*AA' WITH GRANT OPTION;\n\
            GRANT USAGE ON *.* TO `b`@`%` IDENTIFIED VIA ed25519 USING 'x' REQUIRE SSL;\n\
            GRANT USAGE ON *.* TO `c`@`localhost` IDENTIFIED VIA unix_socket WITH GRANT OPTION;\n\
            GRANT SELECT ON `x IDENTIFIED y`.* TO `c`@`%`;\n";
        let kept = String::from_utf8(keeping_passwords(&mut dump.as_bytes()).unwrap()).unwrap();
        let expected = "CREATE USER IF NOT EXISTS `a`@`%` IDENTIFIED BY PASSWORD '*AA';\n\
            GRANT ALL PRIVILEGES ON *.* TO `a`@`%` WITH GRANT OPTION;\n\
            GRANT USAGE ON *.* TO `b`@`%` REQUIRE SSL;\n\
            GRANT USAGE ON *.* TO `c`@`localhost` WITH GRANT OPTION;\n\
            GRANT SELECT ON `x IDENTIFIED y`.* TO `c`@`%`;\n";
        assert_eq!(kept, expected);
    }
}
