//! MariaDB: the whole way.

use svckit_testbed::stories::Story;

use super::bed::{PASSWORD, Server, Writer, alone, assert_no_scratch};

pub(super) const STORIES: &[Story] = &[
    (
        "a MariaDB server is dumped under write load, proved by a restore, and restored elsewhere with its users",
        whole_way,
    ),
    ("a restore replaces nothing that it was not asked to, and keeps what it replaces", overwrite),
    ("a user who may not give a grant of the backup is told so, and not of a wrong password", without_the_right),
    ("one label is enough for a dump of a server, and its past is kept", by_label),
    ("one database of several is dumped alone, and one that is not there is an error", named),
];

const TRANSFER: fn(u64) -> String =
    |n| format!("BEGIN; INSERT INTO shop.debit VALUES ({n}, -1); INSERT INTO shop.credit VALUES ({n}, 1); COMMIT;");

fn whole_way() {
    let _alone = alone();
    let server = Server::mysql("whole");
    let plan = server.back_up("mysql", &["--dry-run"]).expect(0);
    assert!(plan.stdout.contains("would be dumped") && plan.stdout.contains("users.sql"), "{plan:?}");
    assert!(server.stored().is_empty(), "a dry run writes nothing");

    let writer = Writer::start(&server, TRANSFER);
    let report = server.back_up("mysql", &["--json"]).expect(0).json();
    assert!(writer.finish() > 100, "there was a load");
    assert_eq!(report["engine"], "mysql", "{report}");
    assert!(report["position"].as_str().unwrap().contains("-bin.0"), "where the log stood: {report}");
    assert!(report["notices"].to_string().contains("shop.plain (MyISAM)"), "{report}");
    let rungs = report["rungs"].to_string();
    assert!(rungs.contains("exit status") && rungs.contains("trailer") && rungs.contains("every statement"), "{rungs}");

    let store = server.store().display().to_string();
    // Of each transaction both halves or none: the copy is of one instant.
    let query = "SELECT COUNT(*) = (SELECT COUNT(*) FROM shop.debit) AND SUM(amount) = COUNT(*) FROM shop.credit => 1";
    let verify = ["verify", "--from", &store, "whole", "--restore", "--query", query];
    let verified = server.svc_backup(&verify).expect(0);
    assert!(verified.stdout.contains("every row, every definition, queries"), "{verified:?}");
    assert_no_scratch(server.engine);
    let listed = server.svc_backup(&["list", "--from", &store, "--json"]).expect(0).json();
    assert!(listed["restored_at"].is_string(), "{listed}");
    // A control: a question that has another answer fails.
    let wrong = ["verify", "--from", &store, "--restore", "--query", "SELECT COUNT(*) FROM item => 7"];
    let wrong = server.svc_backup(&wrong).expect(12);
    assert!(wrong.stdout.contains("\"20000\" in place of \"7\""), "{wrong:?}");

    let other = Server::mysql_empty("elsewhere", PASSWORD);
    let restored = other.svc_backup(&["restore", "--from", &store, "whole", "--container", "elsewhere"]).expect(0);
    assert!(restored.stdout.contains("compared: loaded, counts, every row"), "{restored:?}");
    let count = "SELECT COUNT(*), SUM(CRC32(data)) FROM shop.item; SELECT b FROM shop.`odd ``name` ORDER BY a;
        SELECT shop.f(1); SHOW GRANTS FOR app@'%'; SELECT COUNT(*) FROM information_schema.events;";
    assert_eq!(other.sql(count), server.sql(count));
}

fn overwrite() {
    let server = Server::mysql("replaced");
    server.back_up("mysql", &[]).expect(0);
    let store = server.store().display().to_string();
    server.sql("DELETE FROM shop.item WHERE id > 10; INSERT INTO shop.plain VALUES (3); DROP USER app@'%';");
    let restore = ["restore", "--from", &store, "replaced", "--container", "replaced"];
    let refused = server.svc_backup(&restore).expect(22);
    assert!(refused.stderr.contains("shop (7 tables)") && refused.stderr.contains("--overwrite"), "{refused:?}");
    assert_eq!(server.sql("SELECT COUNT(*) FROM shop.item").trim(), "COUNT(*)\n10");
    let forced = [&restore[..], &["--overwrite"]].concat();
    let done = server.svc_backup(&forced).expect(0);
    assert!(done.stdout.contains("of replaced.replaced"), "{done:?}");
    assert_eq!(server.sql("SELECT COUNT(*) FROM shop.item").trim(), "COUNT(*)\n20000");
    assert!(server.sql("SHOW GRANTS FOR app@'%'").contains("`shop`.`p`"));
    // What was replaced comes back too.
    let back =
        ["restore", "--from", &store, "replaced.replaced", "--container", "replaced", "--overwrite", "--discard"];
    server.svc_backup(&back).expect(0);
    assert_eq!(
        server.sql("SELECT COUNT(*) FROM shop.item; SELECT MAX(a) FROM shop.plain"),
        "COUNT(*)\n10\nMAX(a)\n3\n"
    );
}

fn without_the_right() {
    let server = Server::mysql("granting");
    server.back_up("mysql", &[]).expect(0);
    let other = Server::mysql_empty("not-granting", PASSWORD);
    other.sql("CREATE USER clerk@localhost IDENTIFIED BY 'pen-and-ink'; GRANT ALL ON *.* TO clerk@localhost;");
    let (store, password) = (server.store().display().to_string(), server.engine.path("clerk"));
    let restore = |word: &str| {
        std::fs::write(&password, word).unwrap();
        let words = ["restore", "--from", &store, "granting", "--container", "not-granting", "--user", "clerk"];
        std::fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        other.svc_backup(&[&words[..], &["--password-file", password.to_str().unwrap()]].concat()).expect(23).stderr
    };
    let wrong = restore("ink-and-pen");
    assert!(wrong.contains("refuses user clerk") && wrong.contains("--password-file"), "{wrong}");
    assert_eq!(other.sql("SHOW DATABASES LIKE 'shop'"), "", "nothing was changed");
    let lacking = restore("pen-and-ink");
    assert!(lacking.contains("user clerk may not do that") && lacking.contains("may be incomplete now"), "{lacking}");
    assert!(lacking.contains("the password is right") && !lacking.contains("--password-file"), "{lacking}");
}

fn by_label() {
    let _alone = alone();
    let server = Server::mysql_with_a_label("one-label");
    let (config, store) = (server.engine.path("one-label.toml"), server.store());
    std::fs::write(&config, format!("[defaults]\nstore = {store:?}\nretention = {{ last = 1 }}\n")).unwrap();
    let config = config.to_str().unwrap();
    let targets = server.svc_backup(&["targets", "--config", config]);
    assert!(targets.stdout.contains("would dump: all databases of MySQL, password: the image's own"), "{targets:?}");
    for _ in 0..2 {
        let dumped = server.svc_backup(&["backup", "one-label", "--config", config]).expect(0);
        assert!(dumped.stdout.contains("every statement") && !dumped.stderr.contains(PASSWORD), "{dumped:?}");
    }
    let kept: Vec<String> = server.stored().into_iter().filter(|name| !name.starts_with('.')).collect();
    assert_eq!(kept.len(), 1, "the older one is no longer kept: {kept:?}");
    let status = server.svc_backup(&["status"]);
    assert!(status.stdout.lines().any(|line| line.starts_with("one-label ") && line.contains("good")), "{status:?}");
    let verify = ["verify", "--from", store.to_str().unwrap(), "one-label", "--restore"];
    server.svc_backup(&verify).expect(0);
    // A server that is away is no reason to try for a minute; a failure is on record.
    server.engine.docker(["stop", "one-label"]).expect(0);
    assert_ne!(server.svc_backup(&["backup", "one-label", "--config", config]).status, 0);
    let status = server.svc_backup(&["status"]);
    let row = status.stdout.lines().find(|line| line.starts_with("one-label ")).unwrap();
    assert!(row.contains("failed"), "{row}");
    server.svc_backup(&["forget", "one-label"]).expect(0);
}

fn named() {
    let server = Server::mysql("named");
    let absent = server.back_up("mysql", &["--database", "nothing"]).expect(10);
    assert!(absent.stderr.contains("no database nothing") && absent.stderr.contains("it has: shop"), "{absent:?}");
    assert!(server.stored().is_empty());
    let report = server.back_up("mysql", &["--database", "we ird'$(id)", "--json"]).expect(0).json();
    assert_eq!(report["databases"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(report["databases"][0]["rows"], 1, "{report}");
}
