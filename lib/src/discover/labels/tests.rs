//! Tests of labels: what they can say, what is said of those that can't be read, and what none can do.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::compression::Compression;
use crate::controller::Endpoint;
use crate::controller::docker::{Container, Mount};
use crate::database::server::{Databases, EngineKind, SecretSource};
use crate::discover::{Config, DiscoverError, Discovery, Mode, Origin, Search, ServiceRef, Target};
use crate::failure::{Failure, FailureKind};

fn container(name: &str, image: &str, labels: &[(&str, &str)]) -> Container {
    Container {
        id: format!("{name}-id"),
        name: name.to_owned(),
        image: image.to_owned(),
        running: true,
        compose: None,
        labels: labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect(),
        mounts: vec![Mount { destination: "/data".into(), source: Some("/srv/volumes/data".into()) }],
    }
}

fn endpoint() -> Endpoint {
    Endpoint::Unix("/run/docker.sock".into())
}

fn read_one(container: &Container) -> Result<Target, Vec<String>> {
    let mut labelled = read(container, &endpoint()).unwrap();
    assert_eq!(labelled.targets.len(), 1, "{labelled:?}");
    let (_, target) = labelled.targets.remove(0);
    target.map_err(|findings| findings.iter().map(ToString::to_string).collect())
}

fn said(labels: &[(&str, &str)]) -> String {
    read_one(&container("shop-db", "postgres:16", labels)).unwrap_err().join("\n")
}

#[test]
fn a_container_without_our_labels_is_none_of_our_business() {
    assert_eq!(read(&container("a", "postgres", &[("com.example", "x"), ("svckitx.engine", "y")]), &endpoint()), None);
}

#[test]
fn one_word_is_enough_for_an_image_that_is_known() {
    let target = read_one(&container("db", "docker.io/library/mariadb:11", &[("svckit.backup", "yes")])).unwrap();
    let server = target.server.as_ref().unwrap();
    assert_eq!((server.engine, &server.databases), (EngineKind::Mysql, &Databases::All));
    assert_eq!(server.secret, SecretSource::Image);
    assert_eq!(target.name.as_str(), "db");
    assert_eq!(target.origin, Origin::Labels { container: "db".to_owned() });
    assert!(matches!(&target.service, Some(ServiceRef::Container(spec)) if spec.id == "db-id"));
    let unknown = read_one(&container("x", "my/app:1", &[("svckit.backup", "yes")])).unwrap_err().join("");
    assert!(unknown.contains("\"my/app:1\" is not known") && unknown.contains("svckit.engine=postgres"), "{unknown}");
    assert_eq!(read(&container("x", "my/app", &[("svckit.backup", "no")]), &endpoint()).unwrap().targets, []);
}

#[test]
fn every_label_is_read() {
    let labels = [
        ("svckit.schema", "1"),
        ("svckit.name", "immich"),
        ("svckit.engine", "postgresql"),
        ("svckit.database", "immich, wiki"),
        ("svckit.user", "backup"),
        ("svckit.password-secret", "db_password"),
        ("svckit.stop-timeout", "3m"),
        ("svckit.ready", "health;passes=3\ntcp:127.0.0.1:5432"),
        ("svckit.keep-last", "3"),
        ("svckit.keep-daily", "14"),
        ("svckit.priority", "-5"),
        ("svckit.after", "cache"),
        ("svckit.compress", "zstd:9"),
        ("svckit.validate", "SELECT 1 FROM a, b\nSELECT 2"),
    ];
    let target = read_one(&container("immich-db", "x", &labels)).unwrap();
    let server = target.server.unwrap();
    assert_eq!(target.name.as_str(), "immich");
    assert_eq!(server.engine, EngineKind::Postgres);
    assert_eq!(server.databases, Databases::Named(vec!["immich".parse().unwrap(), "wiki".parse().unwrap()]));
    assert_eq!(server.secret, SecretSource::DockerSecret("db_password".parse().unwrap()));
    assert_eq!(target.compression, Some(Compression::Zstd { level: 9, threads: 2 }));
    assert_eq!(server.validation.len(), 2);
    assert_eq!(target.ready, ["health;passes=3", "tcp:127.0.0.1:5432"]);
    assert_eq!(target.stop.timeout.unwrap().as_secs(), 180);
    assert_eq!((target.retention.unwrap().last, target.retention.unwrap().daily), (3, 14));
    assert_eq!((target.order.priority, target.order.after.len()), (-5, 1));
    let files =
        [("svckit.sqlite", "/data/app.db"), ("svckit.include", "/data/up loads\n/data/a,b"), ("svckit.mode", "Cold")];
    let target = read_one(&container("app", "x", &files)).unwrap();
    assert_eq!(target.sqlite, [Path::new("/srv/volumes/data/app.db")]);
    assert_eq!(target.include, [Path::new("/srv/volumes/data/up loads"), Path::new("/srv/volumes/data/a,b")]);
    assert_eq!(target.mode, Some(Mode::Cold));
}

#[test]
fn a_container_can_have_several_targets_that_share_what_has_no_name() {
    let labels = [
        ("svckit.keep-last", "3"),
        ("svckit.user", "reader"),
        ("svckit.db.engine", "postgres"),
        ("svckit.db.keep-last", "9"),
        ("svckit.files.include", "/data/up"),
    ];
    let mut labelled = read(&container("app", "x", &labels), &endpoint()).unwrap();
    labelled.targets.sort_by(|a, b| a.0.cmp(&b.0));
    let [(db, db_target), (files, files_target)] = labelled.targets.try_into().unwrap();
    assert_eq!((db.as_str(), files.as_str()), ("app-db", "app-files"));
    let (db, files) = (db_target.unwrap(), files_target.unwrap());
    assert_eq!((db.retention.unwrap().last, files.retention.unwrap().last), (9, 3));
    assert_eq!(db.server.unwrap().user.unwrap().as_str(), "reader");
    assert_eq!(files.include, [Path::new("/srv/volumes/data/up")]);
}

#[test]
fn a_name_is_one_that_outlives_the_container() {
    let mut compose = container("immich_postgres_1", "postgres", &[("svckit.backup", "1")]);
    compose.compose = Some(("immich".to_owned(), "database".to_owned(), None));
    assert_eq!(read_one(&compose).unwrap().name.as_str(), "immich-database");
    compose.compose = Some(("immich".to_owned(), "database".to_owned(), Some(2)));
    assert_eq!(read_one(&compose).unwrap().name.as_str(), "immich-database-2");
}

#[test]
fn a_mistake_is_told_with_container_label_value_and_what_to_write() {
    for (labels, wanted) in [
        (&[("svckit.engin", "postgres")][..], "label svckit.engin: there is no such label (write: svckit.engine=...)"),
        (&[("svckit.db.Engine", "postgres")], "(write: svckit.db.engine=...)"),
        (
            &[("svckit.engine", "oracle")],
            "label svckit.engine=\"oracle\": the engine \"oracle\" is not usable: it is none of",
        ),
        (&[("svckit.enable", "true")], "(write: svckit.backup=...)"),
        (&[("svckit.backup", "maybe")], "svckit.backup=\"maybe\": it is neither yes nor no"),
        (
            &[("svckit.sqlite", "data/app.db")],
            "\"data/app.db\" is no absolute path (write: svckit.sqlite=/data/app.db)",
        ),
        (&[("svckit.sqlite", "/else/app.db")], "/else/app.db: nothing of the host is mounted there"),
        (&[("svckit.sqlite", "/data/../../etc/shadow")], "it has `..` in it"),
        (&[("svckit.engine", "redis"), ("svckit.database", "a")], "Redis has no databases"),
        (&[("svckit.engine", "mysql"), ("svckit.mode", "cold")], "a database server is dumped by itself"),
        (&[("svckit.include", "/data/x"), ("svckit.user", "a")], "no engine is named"),
        (&[("svckit.backup", "yes"), ("svckit.keep-last", "-1")], "it is no whole number from 0 to 100000"),
        (&[("svckit.backup", "yes"), ("svckit.keep-last", "0")], "nothing would be kept"),
        (&[("svckit.backup", "yes"), ("svckit.stop-timeout", "90")], "it is no duration"),
        (&[("svckit.backup", "yes"), ("svckit.priority", "9999")], "from -1000 to 1000"),
        (&[("svckit.schema", "2"), ("svckit.engine", "postgres")], "of a newer svckit"),
        (&[("svckit.name", "../x"), ("svckit.engine", "postgres")], "label svckit.name=\"../x\": use letters"),
        (&[("svckit.engine", "")], "it is empty"),
        (
            &[("svckit.engine", "postgres"), ("svckit.password-env", "A"), ("svckit.password-secret", "b")],
            "one of them is enough",
        ),
    ] {
        let said = said(labels);
        assert!(said.starts_with("container shop-db") && said.contains(wanted), "{labels:?}: {said}");
    }
}

#[test]
fn a_label_can_t_run_a_command_choose_a_place_of_the_host_or_hold_a_password() {
    for (key, value) in [
        ("ready", "exec:/bin/sh -c id"),
        ("ready", "log:x;file=/etc/shadow"),
        ("command", "id"),
        ("on-failure", "id"),
        ("store", "/etc"),
        ("last-resort", "fenced-kill"),
        ("password-command", "id"),
        ("password-credential", "of-another"),
    ] {
        let label = format!("svckit.{key}");
        let said = said(&[("svckit.backup", "yes"), (&label, value)]);
        assert!(said.contains(&label), "{said}");
    }
    let said = said(&[("svckit.backup", "yes"), ("svckit.password", "hunter2")]);
    assert!(said.contains("everybody who may ask Docker") && !said.contains("hunter2"), "{said}");
    let said = self::said(&[("svckit.backup", "yes"), ("svckit.password-env", "hunter 2")]);
    assert!(said.contains("svckit.password-env") && !said.contains("hunter"), "{said}");
}

#[test]
fn what_is_wrong_with_one_target_stops_no_other_and_two_of_one_name_stop_both() {
    let good = container("good", "postgres", &[("svckit.backup", "yes")]);
    let bad = container("bad", "postgres", &[("svckit.engine", "x")]);
    let one = container("one", "postgres", &[("svckit.name", "same")]);
    let two = container("two", "postgres", &[("svckit.name", "same")]);
    let mine = container("mine", "postgres", &[("svckit.name", "notes")]);
    let labelled = [good, bad, one, two, mine].iter().filter_map(|c| read(c, &endpoint())).collect();
    let config = "[defaults]\nstore = \"/srv/b\"\n[target.notes]\nsqlite = [\"/n.db\"]\n";
    let search = Search { root: "/nonexistent".into(), home: None };
    let discovery = Discovery::new(Config::parse(config).unwrap(), search).with_labels(labelled);
    let good = discovery.target("good").unwrap();
    assert_eq!(good.store.as_deref(), Some(Path::new("/srv/b")), "the host's default");
    let error = discovery.target("bad").unwrap_err();
    assert_eq!(error.kind(), FailureKind::Config);
    assert!(discovery.target("same").unwrap_err().to_string().contains("in one and two"));
    assert_eq!(discovery.target("notes").unwrap().origin, Origin::Configured);
    let all: BTreeMap<String, Result<Target, DiscoverError>> = discovery.targets().into_iter().collect();
    assert!(all["good"].is_ok() && all["bad"].is_err() && all["same"].is_err());
    let names: Vec<&str> = discovery.configured().collect();
    assert!(names.contains(&"good") && names.contains(&"bad"), "{names:?}");
    assert_eq!(names.iter().filter(|name| **name == "notes").count(), 1, "{names:?}");
    let shadowed: Vec<(&str, String)> = discovery.shadowed().map(|(name, error)| (name, error.to_string())).collect();
    assert!(shadowed.len() == 1 && shadowed[0].0 == "notes" && shadowed[0].1.contains("of its own"), "{shadowed:?}");
}

#[test]
fn a_label_takes_no_name_of_a_service_that_the_host_has() {
    let root = tempfile::tempdir().unwrap();
    let plex = || read(&container("plex", "postgres", &[("svckit.backup", "yes")]), &endpoint()).unwrap();
    let named = || read(&container("mine", "postgres", &[("svckit.backup", "yes")]), &endpoint()).unwrap();
    let config = || Config::parse("[service.mine]\nunit = \"mine.service\"\n").unwrap();
    let found = || {
        let search = Search { root: root.path().to_owned(), home: None };
        Discovery::new(config(), search).with_labels(vec![plex(), named()])
    };
    // Nobody has installed it here: the container's name is as good as any.
    let discovery = found();
    assert!(matches!(discovery.target("plex").unwrap().origin, Origin::Labels { .. }));
    assert_eq!(discovery.shadowed().map(|(name, _)| name).collect::<Vec<_>>(), ["mine"]);
    assert!(matches!(discovery.service("mine").unwrap().origin, Origin::Configured));

    let data = root.path().join("var/lib/plexmediaserver/Library/Application Support/Plex Media Server");
    let databases = data.join("Plug-in Support/Databases");
    std::fs::create_dir_all(&databases).unwrap();
    for name in ["com.plexapp.plugins.library.db", "com.plexapp.plugins.library.blobs.db"] {
        std::fs::write(databases.join(name), b"").unwrap();
    }
    let discovery = found();
    assert_eq!(discovery.target("plex").unwrap().origin, Origin::Profile);
    let said: Vec<String> = discovery.shadowed().map(|(_, error)| error.to_string()).collect();
    assert!(said.len() == 2 && said[0].contains("svckit.name=ANOTHER"), "{said:?}");
    assert!(!discovery.configured().any(|name| name == "plex"), "labels alone don't make it one of all");
}

#[test]
fn the_document_is_the_table_of_the_code() {
    let document = include_str!("../../../LABELS.md");
    assert!(document.contains(&markdown()), "lib/LABELS.md is not what `svc-backup labels` prints:\n{}", markdown());
    for key in KEYS {
        let label = format!("svckit.{}", key.name);
        let mut labels = vec![(label.as_str(), key.example)];
        match key.name {
            "sqlite" | "include" | "backup" | "engine" => {}
            "mode" => labels.push(("svckit.sqlite", "/data/app.db")),
            _ => labels.push(("svckit.engine", "postgres")),
        }
        let read = read_one(&container("a", "postgres", &labels));
        assert!(read.is_ok(), "the example of {label} is not valid: {read:?}");
    }
}

fn some_label() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        proptest::sample::select(KEYS.iter().map(|key| key.name.to_owned()).collect::<Vec<_>>()),
        "[a-zA-Z.=-]{0,12}",
        ".{0,8}",
    ];
    (proptest::option::of("[a-z.]{0,6}"), key).prop_map(|(target, key)| match target {
        Some(target) => format!("svckit.{target}.{key}"),
        None => format!("svckit.{key}"),
    })
}

fn some_value() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(KEYS.iter().map(|key| key.example.to_owned()).collect::<Vec<_>>()),
        "[a-z0-9/,:;=\\n.*-]{0,30}",
        ".{0,60}",
        Just("x".repeat(100_000)),
        Just(",".repeat(100_000)),
    ]
}

proptest! {
    #[test]
    fn no_labels_can_make_it_panic_or_lead_out_of_the_mounts(
        labels in proptest::collection::btree_map(some_label(), some_value(), 1..8),
    ) {
        let mut container = container("c", "postgres", &[]);
        container.labels = labels;
        let Some(labelled) = read(&container, &endpoint()) else { return Ok(()) };
        for (_, target) in labelled.targets {
            match target {
                Ok(target) => {
                    for path in target.sqlite.iter().chain(&target.include) {
                        prop_assert!(path.starts_with("/srv/volumes/data"), "{path:?}");
                    }
                    let starts_none = !target.ready.iter().any(|check| check.starts_with("exec:"));
                    prop_assert!(starts_none && target.store.is_none());
                }
                Err(findings) => {
                    prop_assert!(!findings.is_empty());
                    prop_assert!(findings.iter().all(|finding| finding.to_string().len() < 2_000));
                }
            }
        }
    }
}
