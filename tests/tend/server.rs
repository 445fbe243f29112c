//! The main job: the mailbox server as it is shipped, with real clients.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::json;
use svckit_testbed::command::{Running, run, signal, start};
use svckit_testbed::mailbox::Client;

use crate::bed::{QUICK, tend_with, until};

/// As it is shipped: only the places are changed.
const RULES: &str = include_str!("../../bins/tend/mailbox.toml");

pub(crate) struct Place {
    directory: tempfile::TempDir,
    pub(crate) port: u16,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { directory, port }
    }

    /// The rule as it is shipped, for this place.
    pub(crate) fn rules(&self) -> String {
        RULES
            .replace("/var/lib/wormhole-mailbox", self.directory.path().to_str().unwrap())
            .replace("port = 4000", &format!("port = {}", self.port))
            .replace("unit = \"wormhole-mailbox.service\"\n", "")
    }

    pub(crate) fn tend(&self, args: &[&str]) -> Command {
        tend_with(&self.path("state"), &self.path("tend.toml"), args)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The databases, left for a person to look at.
    pub(crate) fn keep(self) -> PathBuf {
        self.directory.keep()
    }

    pub(crate) fn serve(&self) -> Running {
        let twist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/testbed/venv/bin/twist");
        assert!(twist.exists(), "{} is installed by tests/run", twist.display());
        let mut sh = Command::new("sh");
        let line = "exec \"$0\" wormhole-mailbox --channel-db=\"$1\" --usage-db=\"$2\" --port=\"tcp:$3:interface=127.0.0.1\" >>\"$4\" 2>&1";
        sh.args(["-c", line]).arg(twist).arg(self.path("relay.sqlite")).arg(self.path("usage.sqlite"));
        sh.arg(self.port.to_string()).arg(self.path("log")).current_dir(self.directory.path());
        let server = start(sh);
        until("the server listens", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
        server
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub(crate) fn channel(&self) -> Connection {
        let db = Connection::open(self.path("relay.sqlite")).unwrap();
        db.busy_timeout(Duration::from_secs(20)).unwrap();
        db
    }

    pub(crate) fn count(&self, of: &str) -> i64 {
        self.channel().query_row(&format!("SELECT count(*) FROM {of}"), [], |row| row.get(0)).unwrap()
    }

    pub(crate) fn usage(&self, of: &str) -> i64 {
        let db = Connection::open(self.path("usage.sqlite")).unwrap();
        db.query_row(&format!("SELECT count(*) FROM {of}"), [], |row| row.get(0)).unwrap()
    }
}

pub(crate) fn end(server: Running) {
    assert!(signal(server.pid(), Signal::TERM));
    server.finish(QUICK);
}

/// Two sides claim a nameplate, neither releases it, both close: the foreign key fails, and half of it is left.
fn claimed_by_two(port: u16) {
    let mut sides: Vec<Client> = ["one", "two"].map(|side| Client::connect(port, "b-claimed", side)).into();
    sides[0].ask(&json!({"type": "claim", "nameplate": "7"}), "claimed");
    sides[1].ask(&json!({"type": "claim", "nameplate": "7"}), "claimed");
    let place = |client: &mut Client, mailbox: &str| client.say(&json!({"type": "open", "mailbox": mailbox}));
    for client in &mut sides {
        place(client, "claimed");
        client.ask(&json!({"type": "add", "phase": "1", "body": "00"}), "message");
    }
}

pub(crate) fn main_job() {
    prunes("");
}

/// With them it is svc-tend that enforces the foreign keys.
pub(crate) fn main_job_with_indices() {
    prunes(
        "CREATE INDEX nameplates_of ON nameplates(mailbox_id); CREATE INDEX nameplate_sides_of ON nameplate_sides(nameplates_id);
         CREATE INDEX mailbox_sides_of ON mailbox_sides(mailbox_id); CREATE INDEX messages_of ON messages(mailbox_id);",
    );
}

fn prunes(indices: &str) {
    let place = Place::new();
    let port = place.port;
    let server = place.serve();
    place.channel().execute_batch(indices).unwrap();
    for number in 0..30 {
        let mut client = Client::connect(port, &format!("c-{number:02}"), "side");
        client.say(&json!({"type": "open", "mailbox": format!("c{number}")}));
        client.ask(&json!({"type": "add", "phase": "1", "body": "00"}), "message");
    }
    claimed_by_two(port);
    end(server);
    // An hour passes; and there is one mailbox without sides, in the first application.
    place
        .channel()
        .execute_batch(
            "UPDATE mailboxes SET updated = updated - 3600; UPDATE mailbox_sides SET added = added - 3600;
             UPDATE nameplate_sides SET added = added - 3600;
             INSERT INTO mailboxes(app_id, id, updated, for_nameplate) VALUES('a', 'first', 1000, 0);",
        )
        .unwrap();
    let all = place.count("mailboxes");
    assert!(all >= 32, "{all}");

    // The control: the server's own loop, whose first tick comes at its start.
    let server = place.serve();
    until("its own loop has failed", || place.log().contains("error during prune_all_apps"));
    assert_eq!(place.count("mailboxes"), all, "one mailbox keeps all others from being pruned");
    let poison = "INSERT INTO mailboxes(app_id, id, updated, for_nameplate) VALUES('a', 'poison', 1000, 0);
        INSERT INTO messages(app_id, mailbox_id, body) VALUES('a', 'poison', '00');";

    std::fs::write(place.path("tend.toml"), place.rules()).unwrap();
    let tend = |args: &[&str]| run(place.tend(args), QUICK);
    tend(&["check"]).expect(0);
    // Somebody waits in a mailbox for longer than that, over a connection that is older than we are.
    let mut waiting = Client::connect(port, "w", "patient");
    waiting.say(&json!({"type": "open", "mailbox": "waiting"}));
    waiting.ask(&json!({"type": "add", "phase": "1", "body": "00"}), "message");
    place.channel().execute("UPDATE mailboxes SET updated = updated - 3600 WHERE id = 'waiting'", []).unwrap();
    // The server's half of a pass was left open, and became permanent with the next commit: `first` is gone.
    assert_eq!(place.count("mailboxes"), all);
    tend(&["once"]).expect(0);
    assert_eq!(place.count("mailboxes"), all, "nothing goes that a client may listen to");
    drop(waiting);
    place.channel().execute_batch(poison).unwrap();
    until("the client is gone", || {
        let said = tend(&["once", "--dry-run", "--json"]).expect(0).json();
        said["would_remove"].as_i64() == Some(all + 1)
    });

    let said = tend(&["once", "--json"]).expect(32).json();
    assert_eq!((said["removed"].as_i64(), said["failed"].as_i64()), (Some(all), Some(1)), "{said}");
    let left =
        ["mailboxes", "nameplates", "nameplate_sides", "mailbox_sides", "messages"].map(|table| place.count(table));
    assert_eq!(left, [1, 0, 0, 0, 1], "the poison is whole, and nothing else is left");
    assert_eq!(place.count("pragma_foreign_key_check"), 0);
    assert!(place.usage("mailboxes WHERE result = 'pruney'") >= 31);
    assert!(place.usage("nameplates WHERE result = 'pruney' AND waiting_time >= 0") == 1);
    let listed = tend(&["quarantine", "list", "--json"]).expect(0).json();
    assert_eq!((listed["item"].as_str(), listed["quarantined"].as_bool()), (Some("poison"), Some(false)), "{listed}");

    // The server goes on as before.
    let mut client = Client::connect(port, "new", "side");
    client.say(&json!({"type": "open", "mailbox": "new"}));
    client.ask(&json!({"type": "add", "phase": "1", "body": "00"}), "message");
    drop(client);
    tend(&["once"]).expect(0);
    assert_eq!(place.count("mailboxes WHERE id = 'new'"), 1);
    end(server);
}
