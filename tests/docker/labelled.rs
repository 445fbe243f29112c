//! What containers say by labels: found, rejected, backed up.

use serde_json::Value;
use svckit_testbed::command::run;
use svckit_testbed::stories::Story;

use crate::shared;
use svckit_testbed::docker::{Engine, QUICK};

pub(crate) const STORIES: &[Story] = &[
    ("a container's labels are enough for a cold backup that waits for its health", labels_are_enough),
    ("what Baktainer was told becomes labels and a configuration, without its passwords", taken_over),
    (
        "labels that can't be read stop their own target, and an engine that is away stops no other",
        labels_that_are_wrong,
    ),
];

/// A configuration that says where backups go, and nothing else.
fn configuration(engine: &Engine, name: &str) -> (String, String) {
    let (file, store) = (engine.path(&format!("{name}.toml")), engine.path(&format!("{name}-store")));
    std::fs::write(&file, format!("[defaults]\nstore = {store:?}\n")).unwrap();
    (file.display().to_string(), store.display().to_string())
}

/// The results of a run, a line each.
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn labels_are_enough() {
    // One of its own, as for all that is taken by `--all`: the labels of other stories are not this one's business.
    let engine = &Engine::start();
    let (config, store) = configuration(engine, "enough");
    let data = format!("{}:/data", engine.path("labelled").display());
    let options = [
        "--restart=always",
        "-v",
        &data,
        "--label=svckit.sqlite=/data/data.db",
        "--label=svckit.name=notes",
        "--label=svckit.mode=cold",
        "--label=svckit.ready=health;passes=2;interval=100ms",
        "--health-cmd=/usr/bin/true",
        "--health-interval=1s",
    ];
    let one = engine.service("labelled", &options, "--on-term slow --slow-for 500");
    let targets = run(engine.tool("svc-backup", &["targets", "--json", "--config", &config]), QUICK);
    let found = lines(&targets.stdout);
    let notes = found.iter().find(|target| target["target"] == "notes").unwrap_or_else(|| panic!("{targets:?}"));
    assert_eq!(notes["source"], "by labels");
    assert_eq!(notes["service"], "container labelled");
    assert_eq!(notes["databases"][0], one.database.display().to_string(), "as the host sees it");
    assert_eq!(notes["store"], store.as_str());

    let words = ["backup", "notes", "--json", "--config", &config];
    let report = run(engine.tool("svc-backup", &words), 4 * QUICK).expect(0).json();
    assert_eq!((&report["mode"], &report["service"]), (&Value::from("cold"), &Value::from("started")), "{report}");
    assert_eq!(one.field(".State.Health.Status"), "healthy", "ready, before the backup returned");
    one.assert_back(2, "always");
    run(engine.tool("svc-backup", &["verify", "--from", &store, "notes", "--restore"]), 4 * QUICK).expect(0);
    engine.docker(["rm", "-f", "labelled"]).expect(0);

    // It was backed up at the last run: that it is not any more is told until somebody says that it is meant.
    let all = || run(engine.tool("svc-backup", &["backup", "--all", "--config", &config]), 4 * QUICK);
    let gone = all();
    assert!(gone.stderr.contains("notes is not backed up any more") && gone.stderr.contains("labelled"), "{gone:?}");
    assert_ne!(gone.status, 0);
    run(engine.tool("svc-backup", &["forget", "notes"]), QUICK).expect(0);
    assert!(!all().stderr.contains("notes"));
}

fn labels_that_are_wrong() {
    let engine = &Engine::start();
    let (config, _) = configuration(engine, "wrong");
    let data = format!("{}:/data", engine.path("right").display());
    let right = engine.service("right", &["-v", &data, "--label=svckit.sqlite=/data/data.db"], "--on-term exit");
    engine.service("wrong", &["--label=svckit.engin=postgres", "--label=svckit.password=hunter2"], "--on-term exit");
    // As a restore test has one: none of the targets.
    engine.service("of-our-own", &["--label=svckit.scratch=1:1:of-no-boot:pid1"], "--on-term exit");
    engine.service("left-alone", &["--label=svckit.backup=no"], "--on-term exit");
    let all = run(engine.tool("svc-backup", &["backup", "--all", "--config", &config]), 4 * QUICK).expect(32);
    assert!(all.stdout.contains("right ") && all.stdout.contains("verified"), "{all:?}");
    for said in ["container wrong, label svckit.engin", "svckit.engine=...", "everybody who may ask Docker"] {
        assert!(all.stderr.contains(said), "{said}: {all:?}");
    }
    assert!(
        !all.stderr.contains("of-our-own") && !all.stderr.contains("hunter2") && !all.stdout.contains("left-alone"),
        "{all:?}"
    );
    assert_eq!(right.starts(), 1, "a hot backup stops nothing");

    // Nobody listens there; what the configuration has itself is backed up all the same.
    let own = format!(
        "[docker]\nendpoint = \"unix:///nonexistent/docker.sock\"\n[target.own]\nsqlite = [{:?}]\nstore = {:?}\n",
        right.database,
        engine.path("wrong-store")
    );
    std::fs::write(&config, own).unwrap();
    let all = run(engine.tool("svc-backup", &["backup", "--all", "--config", &config]), 4 * QUICK).expect(32);
    assert!(all.stderr.contains("/nonexistent/docker.sock") && all.stdout.contains("own "), "{all:?}");
    for name in ["right", "wrong", "left-alone"] {
        engine.docker(["rm", "-f", name]).expect(0);
    }
}

fn taken_over() {
    const SECRET: &str = "Str0ngPassw0rd";
    let engine = shared();
    let nothing = run(engine.tool("svc-backup", &["import", "baktainer"]), QUICK).expect(10);
    assert!(nothing.stderr.contains("nothing of Baktainer's was found"), "{nothing:?}");
    let variable = format!("POSTGRES_PASSWORD={SECRET}");
    let password = format!("--label=baktainer.db.password={SECRET}");
    let options = [
        "--label=baktainer.backup=true",
        "--label=baktainer.db.engine=postgres",
        "--label=baktainer.db.name=shop",
        "--label=baktainer.backup.priority=high",
        &password,
        "-e",
        &variable,
    ];
    engine.service("of-another", &options, "--on-term exit");
    let file = engine.path("baktainer.env");
    std::fs::write(&file, "# its own\nBT_CRON=15 3 * * *\nBT_ENCRYPTION_KEY=Str0ngPassw0rd\n").unwrap();
    let words = ["import", "baktainer", "--env-file", file.to_str().unwrap()];
    let said = run(engine.tool("svc-backup", &words), QUICK).expect(0);
    for wanted in [
        "svckit.database: \"shop\"",
        "svckit.password-env: \"POSTGRES_PASSWORD\"",
        "never had an effect",
        "03:15:00",
        "[defaults]",
    ] {
        assert!(said.stdout.contains(wanted), "{wanted}: {said:?}");
    }
    assert!(!said.stdout.contains(SECRET) && !said.stderr.contains(SECRET), "{said:?}");
    let imported = run(engine.tool("svc-backup", &[&words[..], &["--json"]].concat()), QUICK).expect(0).json();
    assert_eq!(imported["containers"][0]["container"], "of-another");
    engine.docker(["rm", "-f", "of-another"]).expect(0);
}
