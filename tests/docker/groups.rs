//! Groups: members taken together, as one backup or none, and everybody back.

use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::Value;
use svckit_testbed::command::{run, signal, start};
use svckit_testbed::docker::{Container, Engine, QUICK};
use svckit_testbed::stories::Story;

use crate::servers::bed::{Server, alone, assert_no_scratch};
use crate::shared;

pub(crate) const STORIES: &[Story] = &[
    ("a group is taken while all of its cold members are down, as one backup that gives each of them back", together),
    ("a group has a PostgreSQL server beside a cold member, as one backup", with_postgres),
    ("a group of which one member fails, or that is ended, leaves no backup and nobody stopped", as_a_whole),
    ("a group of a Compose project has the targets of its containers", of_compose),
];

/// A configuration with these targets and a group of them, and its store.
fn configuration(engine: &Engine, group: &str, text: &str) -> (String, std::path::PathBuf) {
    let (file, store) = (engine.path(&format!("{group}.toml")), engine.path(&format!("{group}.groups")));
    std::fs::write(&file, format!("[defaults]\nstore = {store:?}\n{text}")).unwrap();
    (file.display().to_string(), store)
}

fn cold(container: &Container<'_>) -> String {
    format!(
        "[target.{0}]\ncontainer = {0:?}\nsqlite = [{1:?}]\nmode = \"cold\"\n",
        container.name,
        container.database.display().to_string()
    )
}

/// What the engine tells of these containers: nanoseconds, container, the program's id, what happened.
fn events(engine: &Engine, names: &[&str]) -> Vec<(u128, String, String, String)> {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let until = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
    let format = "{{.TimeNano}}\t{{.Actor.Attributes.name}}\t{{index .Actor.Attributes \"execID\"}}\t{{.Action}}";
    let said =
        engine.docker(["events", "--since", "1", "--until", &until, "--filter", "type=container", "--format", format]);
    let fields = |line: &str| {
        let mut fields = line.splitn(4, '\t').map(str::to_owned);
        // A statement of several lines goes on below its event.
        let at = fields.next()?.parse().ok()?;
        Some((at, fields.next()?, fields.next()?, fields.next()?))
    };
    let all = said.expect(0).stdout.lines().filter_map(fields).collect::<Vec<_>>();
    all.into_iter().filter(|(_, name, ..)| names.contains(&name.as_str())).collect()
}

fn together() {
    let _alone = alone();
    let engine = shared();
    let server = Server::mysql("group-db");
    let web = engine.service("group-web", &["--restart=always"], "--on-term slow --slow-for 800");
    let jobs = engine.service("group-jobs", &["--restart=unless-stopped"], "--on-term exit");
    let text = format!(
        "{}{}compress = \"none\"\n[target.group-db]\ncontainer = \"group-db\"\nengine = \"mysql\"\ncompress = \"zstd:1:1\"\n\
         [group.shop]\nmembers = [\"group-db\", \"group-web\", \"group-jobs\"]\n",
        cold(&web),
        cold(&jobs)
    );
    let (config, store) = configuration(engine, "shop", &text);
    let tool = |words: &[&str]| run(engine.tool("svc-backup", &[words, &["--config", &config]].concat()), 6 * QUICK);
    let planned = tool(&["backup", "--group", "shop", "--dry-run"]).expect(0);
    assert!(planned.stdout.contains("stop and hold container group-jobs"), "{planned:?}");
    assert!(!store.exists() && web.starts() == 1, "a plan changes nothing");

    let report = tool(&["backup", "--group", "shop", "--json"]).expect(0).json();
    web.assert_back(2, "always");
    jobs.assert_back(2, "unless-stopped");
    web.assert_ended_in_order();
    let members = report["members"].as_array().unwrap();
    assert_eq!(
        members.iter().map(|member| member["mode"].as_str().unwrap()).collect::<Vec<_>>(),
        ["dump", "cold", "cold"]
    );
    assert!(members[1]["downtime_ms"].as_f64().unwrap() > 800.0, "{report}");

    let told = events(engine, &["group-db", "group-web", "group-jobs"]);
    let at = |what: &str, of: &str| {
        let found = told.iter().filter(|(_, name, _, action)| name.contains(of) && action.starts_with(what));
        found.map(|(at, ..)| *at).collect::<Vec<u128>>()
    };
    let dumpers: Vec<&String> = told
        .iter()
        .filter(|(.., action)| action.starts_with("exec_start: mariadb-dump --defaults"))
        .map(|(_, _, id, _)| id)
        .collect();
    let dumps = |what: &str| {
        let of_dumps = told.iter().filter(|(_, _, id, action)| dumpers.contains(&id) && action.starts_with(what));
        of_dumps.map(|(at, ..)| *at).collect::<Vec<u128>>()
    };
    let (down, up) = (
        [at("die", "group-web"), at("die", "group-jobs")].concat(),
        [at("start", "group-web"), at("start", "group-jobs")].concat(),
    );
    // The first start of each is that of the story.
    let back: Vec<u128> = up.iter().copied().filter(|at| down.iter().any(|down| at > down)).collect();
    assert_eq!((down.len(), back.len(), dumps("exec_start").len()), (2, 2, 2), "{told:?}");
    assert!(down.iter().max() < dumps("exec_start").iter().min(), "dumped before all were down: {told:?}");
    assert!(dumps("exec_die").iter().max() < back.iter().min(), "somebody was back before all was taken: {told:?}");

    let from = store.display().to_string();
    let listed = tool(&["list", "--from", &from, "--json"]).expect(0).json();
    assert_eq!(listed["members"], serde_json::json!(["group-db", "group-web", "group-jobs"]));
    let directory = std::path::PathBuf::from(report["path"].as_str().unwrap());
    let manifest: Value = serde_json::from_slice(&std::fs::read(directory.join("manifest.json")).unwrap()).unwrap();
    let of_jobs = manifest["payloads"].as_array().unwrap().iter().find(|one| one["member"] == "group-jobs").unwrap();
    assert_eq!((of_jobs["codec"].as_str(), manifest["version"].as_u64()), (Some("none"), Some(3)));
    let plain = std::fs::read(directory.join(of_jobs["file"].as_str().unwrap())).unwrap();
    assert!(plain.starts_with(b"SQLite format 3\0"), "what is not compressed can be opened as it is");
    let verified = tool(&["verify", "--from", &from, "--restore"]).expect(0);
    assert!(verified.stdout.contains("loaded"), "{verified:?}");
    assert_no_scratch(engine);

    let look = engine.path("look.db").display().to_string();
    let which = tool(&["restore", "--from", &from, "shop", "--to", &look]).expect(2);
    assert!(which.stderr.contains("--member group-db"), "{which:?}");
    tool(&["restore", "--from", &from, "shop", "--member", "nobody", "--to", &look]).expect(2);
    tool(&["restore", "--from", &from, "shop", "--member", "group-jobs", "--to", &look]).expect(0);
    assert!(std::fs::read(&look).unwrap() == plain, "the member that was asked for, and as it was");
    server.sql("DROP DATABASE shop;");
    let words = ["restore", "--from", &from, "shop", "--member", "group-db", "--container", "group-db", "--overwrite"];
    let loaded = tool(&[&words[..], &["--discard"]].concat()).expect(0);
    assert!(loaded.stdout.contains("loaded: databases.sql"), "{loaded:?}");
    assert_eq!(server.sql("SELECT COUNT(*) FROM shop.item;").lines().last(), Some("20000"));

    // One bit.
    let file = directory.join(of_jobs["file"].as_str().unwrap());
    let mut bytes = plain;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    tool(&["verify", "--from", &from]).expect(12);
    for name in ["group-web", "group-jobs"] {
        engine.docker(["rm", "-f", name]).expect(0);
    }
}

fn with_postgres() {
    let _alone = alone();
    let engine = shared();
    let server = crate::servers::postgres::server("group-pg", "trust");
    server.sql(include_str!("servers/shop.pg.sql"));
    let web = engine.service("group-pg-web", &["--restart=always"], "--on-term exit");
    let text = format!(
        "{}[target.group-pg]\ncontainer = \"group-pg\"\nengine = \"postgres\"\n\
         [group.wiki]\nmembers = [\"group-pg\", \"group-pg-web\"]\n",
        cold(&web)
    );
    let (config, store) = configuration(engine, "wiki", &text);
    let tool = |words: &[&str]| run(engine.tool("svc-backup", &[words, &["--config", &config]].concat()), 6 * QUICK);
    let report = tool(&["backup", "--group", "wiki", "--json"]).expect(0).json();
    web.assert_back(2, "always");
    let of_server = report["members"].as_array().unwrap().iter().find(|one| one["member"] == "group-pg").unwrap();
    let of_shop = of_server["dumped"].as_array().unwrap().iter().find(|one| one["name"] == "shop").unwrap();
    assert!(of_shop["rows"].as_u64().unwrap() > 25_000, "{report}");

    // Every stream of the server ended before the cold member was started again.
    let told = events(engine, &["group-pg", "group-pg-web"]);
    let back =
        told.iter().filter(|(_, name, _, action)| name == "group-pg-web" && action == "start").map(|(at, ..)| *at);
    let dumpers: Vec<&String> = told
        .iter()
        .filter(|(.., action)| action.starts_with("exec_start: pg_dump") && !action.contains("--version"))
        .map(|(_, _, id, _)| id)
        .collect();
    let ended = told.iter().filter(|(_, _, id, action)| dumpers.contains(&id) && action.starts_with("exec_die"));
    let ended: Vec<u128> = ended.map(|(at, ..)| *at).collect();
    // The roles, the maintenance database and the shop's.
    assert_eq!(ended.len(), 3, "{told:?}");
    assert!(ended.iter().max() < back.max().as_ref(), "{told:?}");

    let from = store.display().to_string();
    let verified = tool(&["verify", "--from", &from, "--restore"]).expect(0);
    assert!(verified.stdout.contains("loaded, every definition"), "{verified:?}");
    assert_no_scratch(engine);
    server.sql("DROP DATABASE shop;");
    let words = ["restore", "--from", &from, "wiki", "--member", "group-pg", "--container", "group-pg", "--overwrite"];
    tool(&[&words[..], &["--discard"]].concat()).expect(0);
    assert_eq!(server.sql("\\c shop\nSELECT count(*) FROM big").trim(), "20000");
    engine.docker(["rm", "-f", "group-pg-web"]).expect(0);
}

fn as_a_whole() {
    let engine = shared();
    let slow = engine.service("whole-slow", &["--restart=always"], "--on-term slow --slow-for 4000");
    let quick = engine.service("whole-quick", &["--restart=always"], "--on-term exit");
    let removed = engine.service("whole-removed", &["--rm"], "--on-term exit");
    let members = |name: &str, members: &str| format!("[group.{name}]\nmembers = [{members}]\n");
    let text = format!(
        "{}{}{}{}{}",
        cold(&slow),
        cold(&quick),
        cold(&removed),
        members("refused", "\"whole-removed\", \"whole-quick\""),
        members("ended", "\"whole-slow\", \"whole-quick\"")
    );
    let (config, store) = configuration(engine, "whole", &text);
    let tool = |words: &[&str]| engine.tool("svc-backup", &[words, &["--config", &config]].concat());
    let stored = || {
        let found = std::fs::read_dir(&store).into_iter().flatten().flatten();
        let backups = found.flat_map(|target| std::fs::read_dir(target.path()).into_iter().flatten().flatten());
        let names = backups.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name != ".lock").collect::<Vec<String>>()
    };
    // The last is stopped first; what would delete the other is found when its turn comes.
    let refused = run(tool(&["backup", "--group", "refused"]), 4 * QUICK).expect(22);
    assert!(refused.stderr.contains("whole-removed") && refused.stderr.contains("--rm"), "{refused:?}");
    quick.assert_back(2, "always");
    assert_eq!((removed.starts(), stored()), (1, Vec::new()));

    let running = start(tool(&["backup", "--group", "ended"]));
    slow.record.wait_for("SIGTERM has come", QUICK, |events| events.iter().any(|event| event.what == "signal"));
    assert!(signal(running.pid(), Signal::TERM));
    let ended = running.finish(4 * QUICK);
    assert_ne!(ended.status, 0, "{ended:?}");
    quick.assert_back(3, "always");
    slow.assert_back(2, "always");
    slow.assert_ended_in_order();
    assert_eq!(stored(), Vec::<String>::new());

    let mut killed = start(tool(&["backup", "--group", "ended"]));
    slow.record.wait_for("SIGTERM has come again", QUICK, |events| {
        events.iter().filter(|event| event.what == "signal").count() == 2
    });
    killed.kill();
    killed.finish(QUICK).expect(128 + 9);
    quick.assert_back(4, "always");
    slow.assert_back(3, "always");
    run(tool(&["backup", "--group", "ended"]), Duration::from_secs(120)).expect(0);
    assert_eq!(stored().len(), 1, "what the killed one left is swept, and the next is whole");
    for name in ["whole-slow", "whole-quick", "whole-removed"] {
        engine.docker(["rm", "-f", name]).expect(0);
    }
}

fn of_compose() {
    let engine = shared();
    let mut made = Vec::new();
    for (name, project) in [("stack-web", "stack"), ("stack-jobs", "stack"), ("stack-other", "another")] {
        let data = format!("{}:/data", engine.path(name).display());
        let (project, service) = (
            format!("--label=com.docker.compose.project={project}"),
            format!("--label=com.docker.compose.service={name}"),
        );
        let labelled = format!("--label=svckit.name={name}");
        let options = ["-v", &data, "--label=svckit.sqlite=/data/data.db", &labelled, &project, &service];
        made.push(engine.service(name, &options, "--on-term exit"));
    }
    let (config, store) =
        configuration(engine, "stack", "[group.stack]\ncompose = \"stack\"\n[group.none]\ncompose = \"none\"\n");
    let tool = |words: &[&str]| run(engine.tool("svc-backup", &[words, &["--config", &config]].concat()), 4 * QUICK);
    let report = tool(&["backup", "--group", "stack", "--json"]).expect(0).json();
    let mut names: Vec<&str> =
        report["members"].as_array().unwrap().iter().map(|member| member["member"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["stack-jobs", "stack-web"], "{report}");
    assert!(store.join("stack").is_dir() && !store.join("stack-web").exists());
    let none = tool(&["backup", "--group", "none"]).expect(10);
    assert!(none.stderr.contains("has no members"), "{none:?}");
    tool(&["backup", "--group", "stak"]).expect(2);
    for one in made {
        engine.docker(["rm", "-f", &one.name]).expect(0);
    }
}
