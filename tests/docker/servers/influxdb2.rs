//! InfluxDB 2, of which stand-ins are called as the real programs are.

use svckit_testbed::stories::Story;

use super::bed::{PASSWORD, Server, alone, assert_no_scratch};
use super::standins::{self, Kind, left_in, put};

pub(super) const STORIES: &[Story] = &[
    (
        "InfluxDB 2's stand-in is dumped with its token, proved by a restore, and its bucket restored elsewhere",
        whole_way,
    ),
    ("a dump of InfluxDB 2's stand-in that ends early anywhere leaves no backup, and nothing in the container", cut),
    ("a wrong token of InfluxDB 2's stand-in is a clear error", wrong),
];

pub(super) const KIND: Kind = Kind { engine: "influxdb", program: "influx", dumping: "influx backup" };

/// One that is ready, without points.
pub(super) fn server(name: &str) -> Server {
    let token = format!("DOCKER_INFLUXDB_INIT_ADMIN_TOKEN={PASSWORD}");
    let server = Server::start_with("standins", name, &["SERVER=influxdb", &token], &[], &[]);
    server.wait_for_log("msg=Listening");
    server
}

pub(super) fn points(server: &Server, count: u64) {
    let lines: String = (0..count).map(|n| format!("cpu v={n} {n}\n")).collect();
    put(server, lines.as_bytes(), "/var/lib/influxdb2/points");
}

fn whole_way() {
    let _alone = alone();
    let one = server("metrics");
    points(&one, 5_000);
    let report = one.back_up("influxdb", &["--json"]).expect(0).json();
    assert_eq!(report["databases"][0]["name"], "shop/load", "{report}");
    assert_eq!((&report["databases"][0]["rows"], &report["server_version"]), (&5_000.into(), &"2.7.10".into()));
    assert!(report["notices"].to_string().contains("it has the server's tokens"), "{report}");
    assert!(report["rungs"].to_string().contains("the checksum of each shard"), "{report}");
    assert_eq!(left_in(&one), "");
    let store = one.store().display().to_string();
    let listed = one.svc_backup(&["list", "--from", &store]).expect(0);
    assert!(listed.stdout.contains("metrics"), "{listed:?}");
    let verify = ["verify", "--from", &store, "metrics", "--restore", "--query"];
    let flux = "from(bucket: \"load\") |> range(start: 0) |> count()";
    let verified = one.svc_backup(&[&verify[..], &[&format!("{flux} => cpu\t5000")]].concat()).expect(0);
    assert!(verified.stdout.contains("loaded, counts, queries"), "{verified:?}");
    one.svc_backup(&[&verify[..], &[&format!("{flux} => cpu\t4999")]].concat()).expect(12);
    assert_no_scratch(one.engine);

    let other = server("metrics-elsewhere");
    let restore = ["restore", "--from", &store, "metrics", "--container", "metrics-elsewhere"];
    let restored = other.svc_backup(&restore).expect(0);
    assert!(restored.stdout.contains("compared: loaded, counts"), "{restored:?}");
    points(&other, 7);
    let refused = other.svc_backup(&restore).expect(22);
    assert!(refused.stderr.contains("shop/load (with the rights of tokens"), "{refused:?}");
    let replaced = other.svc_backup(&[&restore[..], &["--overwrite"]].concat()).expect(0);
    assert!(replaced.stdout.contains("of metrics.replaced"), "{replaced:?}");
    let kept = ["verify", "--from", &store, "metrics.replaced", "--restore", "--query", &format!("{flux} => cpu\t7")];
    one.svc_backup(&kept).expect(0);
    assert_eq!(left_in(&other), "");

    for name in ["load", "shop/load"] {
        let named = one.back_up("influxdb", &["--database", name, "--json"]).expect(0).json();
        assert_eq!(named["databases"][0]["name"], "shop/load", "{named}");
    }
    let absent = one.back_up("influxdb", &["--database", "nothing"]).expect(10);
    assert!(absent.stderr.contains("it has: shop/load"), "{absent:?}");

    // A restore that leaves a shard out ends with 0: the counts tell.
    put(&other, b"unmapped v=1 1\nunmapped v=2 2\n", "/var/lib/influxdb2/points");
    other.back_up("influxdb", &[]).expect(0);
    let of_other = other.store().display().to_string();
    let lost = other.svc_backup(&["verify", "--from", &of_other, "--restore"]).expect(12);
    assert!(lost.stderr.contains("cpu has 0, not 2") || lost.stdout.contains("cpu has 0, not 2"), "{lost:?}");
}

fn cut() {
    let one = server("half-metrics");
    points(&one, 500);
    standins::cut(KIND, &one);
}

fn wrong() {
    let one = server("closed-metrics");
    points(&one, 5);
    standins::wrong(KIND, &one);
}
