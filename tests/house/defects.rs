//! Defects of the tool whose labels and variables `svc-backup import baktainer` reads. Each has a test that fails where we
//! have it too, and that test must be there.

use crate::source::{Tree, code};

/// A defect, and where the test is: a story by its sentence, or a test by its function.
pub(crate) const DEFECTS: &[(&str, &str, &str)] = &[
    (
        "every container counts as not running",
        "tests/docker/labelled.rs",
        "a container's labels are enough for a cold backup that waits for its health",
    ),
    (
        "the exit code of a dump is ignored, so a truncated one succeeds",
        "tests/docker/servers/cut.rs",
        "a dump program or its connection that is killed in the middle leaves no backup",
    ),
    (
        "a failing backup raises a second error that hides the first and skips the clean-up",
        "tests/docker/defects.rs",
        "a dump onto a full disk says so as its first and only error, and keeps nothing",
    ),
    (
        "the trigger for little space never fires",
        "lib/src/archive/space.rs",
        "a_backup_that_can_not_fit_is_refused_with_path_need_and_remedy",
    ),
    ("rotation has no floor", "lib/src/archive/retention.rs", "the_newest_good_one_and_the_unjudged_always_stay"),
    ("rotation misses files of a kind", "lib/src/archive/expire.rs", "the_oldest_go_and_what_stays_verifies"),
    (
        "compression reads the whole dump into memory",
        "tests/docker/defects.rs",
        "a dump of three times as much takes no more memory",
    ),
    (
        "the password goes to the debug log",
        "tests/docker/servers/secrets.rs",
        "a planted password is in no argument, environment, log, event, error or backup",
    ),
    (
        "the key of the encryption is derived with a fixed salt",
        "tests/house/main.rs",
        "nothing_derives_a_key_from_a_passphrase",
    ),
    (
        "mysqldump gets its password as an argument, and takes tables one after the other",
        "tests/docker/servers/mysql.rs",
        "a MariaDB server is dumped under write load, proved by a restore, and restored elsewhere with its users",
    ),
    (
        "a health server listens on all addresses without authentication",
        "tests/house/main.rs",
        "nothing_of_ours_listens",
    ),
    (
        "labels that do nothing are taken in silence",
        "lib/src/discover/baktainer/tests.rs",
        "labels_that_never_had_an_effect_are_told_and_get_the_one_that_was_meant",
    ),
];

/// The defects whose test is not where the list says.
pub(crate) fn missing(tree: &Tree, defects: &[(&str, &str, &str)]) -> Vec<String> {
    let has = |file: &str, test: &str| {
        let text = tree.files.iter().find(|(path, _)| path == file).map(|(_, text)| text.as_str()).unwrap_or_default();
        text.contains(&format!("fn {test}(")) && text.contains("#[test]") || text.contains(&format!("\"{test}\""))
    };
    let absent = defects.iter().filter(|(_, file, test)| !has(file, test));
    absent.map(|(defect, file, test)| format!("{file}:1: no test `{test}` against: {defect}")).collect()
}

/// What listens, and not for this machine alone (`Loopback` takes no other address): that needs authentication, and a test of it.
pub(crate) fn listening(tree: &Tree) -> Vec<String> {
    let is_open = |line: &str| {
        let listens = ["TcpListener::bind", "UdpSocket::bind", "axum::serve"].iter().any(|word| line.contains(word));
        listens && !line.contains("127.0.0.1") && !line.contains("loopback.address()")
    };
    let lines = |(path, text): (&str, String)| -> Vec<String> {
        let open = text.lines().enumerate().filter(|(_, line)| is_open(line));
        open.map(|(number, line)| format!("{path}:{}: {}", number + 1, line.trim())).collect()
    };
    tree.shipped(&["lib/src/", "bins/src/"]).flat_map(lines).collect()
}

/// A key from a passphrase needs a salt of its own, and a test of it.
pub(crate) fn key_derivation(tree: &Tree) -> Vec<String> {
    let words = ["pbkdf2", "Pbkdf2", "scrypt", "argon2", "Argon2", "hkdf", "Hkdf"];
    let mut found = Vec::new();
    for (path, text) in tree.shipped(&["lib/src/", "bins/src/"]) {
        for (number, line) in code(&text).lines().enumerate() {
            found.extend(
                words.iter().filter(|word| line.contains(**word)).map(|word| format!("{path}:{}: {word}", number + 1)),
            );
        }
    }
    found
}
