//! Redis: the data set, and an end that is none.

use svckit_testbed::stories::Story;

use super::bed::{Server, alone, assert_no_scratch};

pub(super) const STORIES: &[Story] =
    &[("a Redis data set is dumped with its password, proved by a restore, and restored where it runs", whole_way)];

pub(super) const PASSWORD: &str = "kan arie\"Vesper7393";

/// One that is asked for its password, ready.
pub(super) fn server(name: &str) -> Server {
    let variable = format!("REDIS_PASSWORD={PASSWORD}");
    let server = Server::start("redis", name, &variable, &[], &["redis-cli", "--no-auth-warning", "-a", PASSWORD]);
    server.wait_for_log("eady to accept connections");
    server
}

fn whole_way() {
    let _alone = alone();
    let server = server("cache");
    let keys: String = (0..5_000).map(|n| format!("SET key:{n} value-{n}\n")).collect();
    server.sql(&format!("{keys}SELECT 3\nHSET h a 1 b 2\n"));
    let report = server.back_up("redis", &["--json"]).expect(0).json();
    assert_eq!(report["databases"][0]["rows"], 5_000, "{report}");
    assert!(report["rungs"].to_string().contains("its own checksum"), "{report}");
    let store = server.store().display().to_string();
    let verify = ["verify", "--from", &store, "--restore", "--query"];
    let verified = server.svc_backup(&[&verify[..], &["GET key:4999 => value-4999"]].concat()).expect(0);
    assert!(verified.stdout.contains("parsed by redis-check-rdb, loaded, keys, queries"), "{verified:?}");
    server.svc_backup(&[&verify[..], &["GET key:1 => other"]].concat()).expect(12);
    assert_no_scratch(server.engine);
    let wrong = server.back_up("redis", &["--no-password"]).expect(23);
    assert!(wrong.stderr.contains("NOAUTH"), "{wrong:?}");
    server.sql("SET key:17 other\nSET extra 1\n");
    let restore = ["restore", "--from", &store, "cache", "--container", "cache"];
    let refused = server.svc_backup(&restore).expect(22);
    assert!(refused.stderr.contains("db0 (5001 keys), db3 (1 keys)"), "{refused:?}");
    server.svc_backup(&[&restore[..], &["--overwrite"]].concat()).expect(0);
    let answers = server.sql("GET key:17\nEXISTS extra\nDBSIZE\nSELECT 3\nHGET h b\n");
    assert_eq!(answers.split_whitespace().collect::<Vec<_>>(), ["value-17", "0", "5000", "OK", "2"]);
    let kept = ["verify", "--from", &store, "cache.replaced", "--restore", "--query", "GET key:17 => other"];
    server.svc_backup(&kept).expect(0);
    assert_no_scratch(server.engine);
}
