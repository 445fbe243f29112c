//! MongoDB, of which stand-ins are called as the real programs are. Their archives were written by a real mongodump.

use svckit_testbed::stories::Story;

use super::bed::{PASSWORD, Server, alone, assert_no_scratch};
use super::standins::{self, Kind, left_in, put};

pub(super) const STORIES: &[Story] = &[
    (
        "MongoDB's stand-in of a replica set is dumped with its oplog, proved by a restore, and restored elsewhere",
        whole_way,
    ),
    ("MongoDB's stand-in without a password and a replica set is dumped, and a note says of which instant", open),
    ("a dump of MongoDB's stand-in that ends early anywhere leaves no backup, and nothing in the container", cut),
    ("a wrong password of MongoDB's stand-in is a clear error", wrong),
];

pub(super) const KIND: Kind = Kind { engine: "mongodb", program: "mongodump", dumping: "--archive" };
const WITH_OPLOG: &[u8] = include_bytes!("../../../lib/src/database/server/mongodb/testdata/oplog.archive");
const PLAIN: &[u8] = include_bytes!("../../../lib/src/database/server/mongodb/testdata/plain.archive");

/// One of a replica set that asks for a password.
pub(super) fn server(name: &str) -> Server {
    let password = format!("MONGO_INITDB_ROOT_PASSWORD={PASSWORD}");
    let variables = ["SERVER=mongodb", "MONGO_INITDB_ROOT_USERNAME=keeper", &password];
    let server = Server::start_with("standins", name, &variables, &["--replSet", "rs0"], &[]);
    server.wait_for_log("Waiting for connections");
    server
}

/// 25 documents, and the 16 changes that were made while they were dumped.
pub(super) fn documents(server: &Server) {
    put(server, WITH_OPLOG, "/data/db/archive");
}

fn whole_way() {
    let _alone = alone();
    let one = server("documents");
    documents(&one);
    let report = one.back_up("mongodb", &["--json"]).expect(0).json();
    assert_eq!(report["position"], "1538587943:1", "{report}");
    assert_eq!((&report["databases"][0]["name"], &report["databases"][0]["rows"]), (&"test".into(), &25.into()));
    assert!(report["rungs"].to_string().contains("the checksum of each collection"), "{report}");
    assert_eq!(report["server_version"], "7.0.14", "{report}");
    assert_eq!(left_in(&one), "");
    let store = one.store().display().to_string();
    let listed = one.svc_backup(&["list", "--from", &store]).expect(0);
    assert!(listed.stdout.contains("documents"), "{listed:?}");
    let verify = ["verify", "--from", &store, "documents", "--restore", "--query"];
    let verified = one.svc_backup(&[&verify[..], &["db.foo.countDocuments() => 25"]].concat()).expect(0);
    assert!(verified.stdout.contains("every row that was not changed meanwhile, queries"), "{verified:?}");
    one.svc_backup(&[&verify[..], &["db.foo.countDocuments() => 24"]].concat()).expect(12);
    assert_no_scratch(one.engine);

    let other = server("documents-elsewhere");
    let restore = ["restore", "--from", &store, "documents", "--container", "documents-elsewhere"];
    let restored = other.svc_backup(&restore).expect(0);
    assert!(restored.stdout.contains("compared: loaded, counts, every row"), "{restored:?}");
    let refused = other.svc_backup(&restore).expect(22);
    assert!(refused.stderr.contains("test (1 collections)") && refused.stderr.contains("--overwrite"), "{refused:?}");
    let replaced = other.svc_backup(&[&restore[..], &["--overwrite"]].concat()).expect(0);
    assert!(replaced.stdout.contains("of documents.replaced"), "{replaced:?}");
    assert_eq!(left_in(&other), "");

    let named = one.back_up("mongodb", &["--database", "test", "--json"]).expect(0).json();
    assert!(named["notices"].to_string().contains("only a dump of all databases is of one instant"), "{named}");
    let absent = one.back_up("mongodb", &["--database", "nothing"]).expect(10);
    assert!(absent.stderr.contains("it has: test"), "{absent:?}");
}

fn open() {
    let _alone = alone();
    let one = Server::start_with("standins", "open-documents", &["SERVER=mongodb"], &[], &[]);
    one.wait_for_log("Waiting for connections");
    put(&one, PLAIN, "/data/db/archive");
    let report = one.back_up("mongodb", &["--json"]).expect(0).json();
    assert!(report["notices"].to_string().contains("of no replica set"), "{report}");
    assert_eq!(report["position"], serde_json::Value::Null, "{report}");
    let store = one.store().display().to_string();
    let verified = one.svc_backup(&["verify", "--from", &store, "--restore"]).expect(0);
    assert!(verified.stdout.contains("loaded, counts, every row, every definition"), "{verified:?}");
    assert_no_scratch(one.engine);
}

fn cut() {
    let one = server("half-documents");
    documents(&one);
    standins::cut(KIND, &one);
}

fn wrong() {
    let one = server("closed-documents");
    documents(&one);
    standins::wrong(KIND, &one);
}
