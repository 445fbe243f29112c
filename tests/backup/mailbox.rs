//! The main job: a real service with two databases that change together, under traffic.

use std::path::{Path, PathBuf};

use svckit_testbed::command::{Outcome, sh, svc_backup, svc_ctl};
use svckit_testbed::leftovers::leftovers;
use svckit_testbed::mailbox::{ADDRESS, Acknowledged, Server, Traffic, faults};
use svckit_testbed::stories::Story;
use svckit_testbed::unit::property_of;

/// One story: there is one server, on one port.
pub(crate) const STORIES: &[Story] = &[(
    "magic-wormhole's mailbox server under traffic: backed up hot, fenced and cold, verified, restored, back in service",
    the_main_job,
)];

const UNIT: &str = "mailbox.service";

fn the_main_job() {
    let home = Path::new("/srv/testbed/mailbox");
    let server = Server::install(UNIT, &home.join("state"));
    let ready = format!("tcp:{ADDRESS};timeout=60s;interval=100ms");
    svc_ctl(["start", "--unit", UNIT, "--ready", &ready]).expect(0);
    let traffic = Traffic::start(4);
    traffic.wait_for(50);
    control(&server, home, &traffic);

    let store = home.join("store");
    let mut taken: Vec<(String, Acknowledged)> = Vec::new();
    for mode in ["hot", "fenced", "cold"] {
        let known = traffic.known();
        let run = property_of(UNIT, "InvocationID");
        let said = backup(&server, &store, mode, &ready).expect(0).json();
        let id = said["backup"].as_str().unwrap_or_else(|| panic!("{said}")).to_owned();
        assert_eq!(said["mode"], mode, "{said}");
        // Hot and fenced leave it alone; cold stops it and brings it back.
        assert_eq!(property_of(UNIT, "InvocationID") == run, mode != "cold");
        assert_eq!(property_of(UNIT, "ActiveState"), "active");
        assert_eq!(leftovers(UNIT), Vec::<String>::new());
        traffic.wait_for(50);
        taken.push((id, known));
    }
    stock_tools_can_read(&store);
    for (id, known) in &taken {
        let copy = home.join(format!("copy-{id}"));
        std::fs::create_dir(&copy).unwrap();
        svc_backup(["restore", "--from", text(&store), "mailbox", id, "--to", text(&copy)]).expect(0);
        assert_eq!(faults(&copy.join("relay.sqlite"), &copy.join("usage.sqlite"), known), Vec::<String>::new());
    }
    svc_backup(["verify", "--from", text(&store), "--restore", "--json"]).expect(0);

    put_back(&server, &store, &taken[1], &ready, &traffic);
    let known = traffic.end();
    assert!(known.sent.len() > 250);
    sh("systemctl", ["stop", UNIT]).expect(0);
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn backup(server: &Server, store: &Path, mode: &str, ready: &str) -> Outcome {
    svc_backup([
        "backup",
        "--name",
        "mailbox",
        "--sqlite",
        text(&server.channel),
        "--sqlite",
        text(&server.usage),
        "--to",
        text(store),
        "--unit",
        UNIT,
        "--mode",
        mode,
        "--ready",
        ready,
        "--json",
    ])
}

/// What a script does: one database after the other, each copied well by SQLite's own tool. If that were of one
/// instant, the comparison below would prove nothing.
fn control(server: &Server, home: &Path, traffic: &Traffic) {
    for attempt in 0..20 {
        let copy = home.join(format!("control-{attempt}"));
        std::fs::create_dir_all(&copy).unwrap();
        let (channel, usage) = (copy.join("relay.sqlite"), copy.join("usage.sqlite"));
        sh("sqlite3", ["-cmd", ".timeout 20000", text(&server.channel), &format!(".backup {}", text(&channel))])
            .expect(0);
        traffic.wait_for(5);
        let known = traffic.known();
        sh("sqlite3", ["-cmd", ".timeout 20000", text(&server.usage), &format!(".backup {}", text(&usage))]).expect(0);
        if !faults(&channel, &usage, &known).is_empty() {
            return;
        }
    }
    panic!("two copies of different instants were never told from one");
}

fn stock_tools_can_read(store: &Path) {
    let backups: Vec<PathBuf> = std::fs::read_dir(store.join("mailbox")).unwrap().flatten().map(|e| e.path()).collect();
    let whole: Vec<_> = backups.iter().filter(|path| path.join("manifest.json").exists()).collect();
    assert_eq!(whole.len(), 3, "{backups:?}");
    for backup in whole {
        let sums = "cd \"$1\" && sha256sum -c SHA256SUMS && zstd -q -t -- *.zst";
        sh("sh", ["-c", sums, "sh", text(backup)]).expect(0);
    }
    let list = svc_backup(["list", "--from", text(store), "--json"]).expect(0);
    assert_eq!(list.stdout.matches("\"mailbox\"").count(), 3, "{}", list.stdout);
}

/// The live service gets the state of an earlier backup, and goes on from there.
fn put_back(server: &Server, store: &Path, (id, known): &(String, Acknowledged), ready: &str, traffic: &Traffic) {
    let directory = server.channel.parent().unwrap();
    let args =
        ["restore", "--from", text(store), "mailbox", id, "--to", text(directory), "--unit", UNIT, "--ready", ready];
    // A power cut in the middle must find somebody who ends it at boot.
    let refused = svc_backup(args).expect(22);
    assert!(refused.stderr.contains("install-units"), "{refused:?}");
    svc_backup(["install-units"]).expect(0);
    let before = traffic.known();
    let said = svc_backup(args.into_iter().chain(["--json"])).expect(0).json();
    assert_eq!(said["backup"], id.as_str(), "{said}");
    assert_eq!(property_of(UNIT, "ActiveState"), "active");
    assert_eq!(leftovers(UNIT), Vec::<String>::new());
    traffic.wait_for(50);
    // Stopped for a moment, so that the two can be looked at.
    svc_ctl(["stop", "--unit", UNIT]).expect(0);
    let now = svckit_testbed::mailbox::sessions(&server.channel, &server.usage);
    assert!(known.sent.iter().all(|number| now.contains_key(number)), "what the backup had is back");
    let gone = before.sent.iter().filter(|number| !now.contains_key(*number)).count();
    assert!(gone > 0, "what came after the backup is gone: the restore was one");
    // And nothing that it replaced is lost.
    let kept = said["kept"].as_array().unwrap_or_else(|| panic!("{said}"));
    assert!(kept.len() >= 2, "{said}");
    svc_ctl(["start", "--unit", UNIT, "--ready", ready]).expect(0);
    traffic.wait_for(20);
}
