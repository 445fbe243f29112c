//! Ordinary stops, slow ones, refused ones, and what depends on a container.

use svckit_testbed::command::{run, start};
use svckit_testbed::stories::Story;

use crate::shared;
use svckit_testbed::docker::QUICK;

pub(crate) const STORIES: &[Story] = &[
    ("a container stops, stays stopped, starts again and keeps its policy", an_ordinary_life),
    ("a stop longer than Docker's own is waited for, and nobody is killed", slower_than_dockers_stop_time),
    ("control: docker stop kills the same container in the middle of its stop", control_docker_stop),
    ("a container that does not stop in time is left alone, and started after its end", too_slow),
    ("a paused container obeys its stop", paused),
    ("a container that a stop would destroy or kill is refused", refused),
    ("what depends on a container is stopped before it and started after it", dependants),
    ("a container that was recreated is found again", recreated),
    ("a hot and a cold backup of a container's database verify, and the container is back", backups),
];

fn an_ordinary_life() {
    let engine = shared();
    let one = engine.service("ordinary", &["--restart=unless-stopped"], "--on-term exit");
    let status = engine.svc_ctl(&["status", "--container", "ordinary", "--json"]).expect(0).json();
    assert_eq!(status["service"], "container ordinary", "{status}");
    let stopped = engine.svc_ctl(&["stop", "--container", "ordinary"]).expect(0);
    assert!(stopped.stdout.contains("clean stop"), "{stopped:?}");
    assert_eq!(one.field(".State.Status"), "exited");
    assert_eq!(one.field(".HostConfig.RestartPolicy.Name"), "unless-stopped");
    one.assert_ended_in_order();
    engine.svc_ctl(&["status", "--container", "ordinary"]).expect(10);
    engine.svc_ctl(&["resume"]).expect(0);
    assert_eq!(one.starts(), 1, "a person's stop is left alone");
    engine.svc_ctl(&["start", "--container", "ordinary", "--ready", "unit;passes=2"]).expect(0);
    one.assert_back(2, "unless-stopped");
    engine.svc_ctl(&["restart", "--container", &one.field(".Id")[..12]]).expect(0);
    one.assert_back(3, "unless-stopped");
}

fn slower_than_dockers_stop_time() {
    let engine = shared();
    let one = engine.service("slow", &["--stop-timeout=1", "--restart=always"], "--on-term slow --slow-for 4000");
    engine.svc_ctl(&["restart", "--container", "slow"]).expect(0);
    one.assert_ended_in_order();
    one.assert_back(2, "always");
}

fn control_docker_stop() {
    let engine = shared();
    let one = engine.service("control", &["--stop-timeout=1"], "--on-term slow --slow-for 4000");
    engine.docker(["stop", "control"]).expect(0);
    assert_eq!(one.field(".State.ExitCode"), "137");
    assert!(one.record.events().iter().all(|event| event.what != "end"), "it was killed");
}

fn too_slow() {
    let engine = shared();
    let one = engine.service("too-slow", &["--stop-timeout=1", "--restart=always"], "--on-term slow --slow-for 9000");
    let late = engine.svc_ctl(&["restart", "--container", "too-slow", "--stop-timeout", "2s"]).expect(31);
    assert!(late.stderr.contains("too-slow"), "{late:?}");
    one.assert_back(2, "always");
    one.assert_ended_in_order();
}

fn paused() {
    let engine = shared();
    let one = engine.service("paused", &["--restart=on-failure:3"], "--on-term exit");
    engine.docker(["pause", "paused"]).expect(0);
    engine.svc_ctl(&["restart", "--container", "paused"]).expect(0);
    one.assert_ended_in_order();
    one.assert_back(2, "on-failure");
    assert_eq!(one.field(".HostConfig.RestartPolicy.MaximumRetryCount"), "3");
}

fn refused() {
    let engine = shared();
    for (name, option, why) in [
        ("removes-itself", "--rm", "--rm"),
        ("stop-kills", "--stop-signal=KILL", "SIGKILL"),
        ("swarms", "--label=com.docker.swarm.task.id=x", "Swarm"),
    ] {
        let one = engine.service(name, &[option], "--on-term exit");
        let refused = engine.svc_ctl(&["stop", "--container", name]).expect(22);
        assert!(refused.stderr.contains(why), "{refused:?}");
        engine.svc_ctl(&["audit", "--container", name]).expect(22);
        assert_eq!(one.field(".State.Status"), "running");
        one.record.wait_for_commits(2, QUICK);
    }
    let unknown = engine.svc_ctl(&["stop", "--container", "nobody"]).expect(30);
    assert!(unknown.stderr.contains("No such container"), "{unknown:?}");
    engine.svc_ctl(&["stop", "--container", "a/b"]).expect(2);
}

/// As Compose labels them: the API needs the database, the web the API; the cache needs nothing.
fn dependants() {
    let engine = shared();
    let label = |name: &str, value: &str| format!("--label=com.docker.compose.{name}={value}");
    let member = |service: &str, needs: &str| {
        let labels = [label("project", "shop"), label("service", service), label("depends_on", needs)];
        let options: Vec<&str> = labels.iter().map(String::as_str).collect();
        engine.service(&format!("shop-{service}"), &options, "--on-term exit")
    };
    let db = member("db", "");
    let api = member("api", "db:service_started:false");
    let web = member("web", "api:service_started:true");
    let cache = member("cache", "");
    let stopped = engine.svc_ctl(&["restart", "--container", "shop-db", "--json"]).expect(0);
    for one in [&db, &api, &web] {
        one.assert_back(2, "no");
        one.assert_ended_in_order();
    }
    assert_eq!(cache.starts(), 1, "{stopped:?}");
    let at = |field: &str| [&web, &api, &db].map(|one| one.field(field));
    // The database's run begins first; times of RFC 3339 sort as texts.
    assert!(at(".State.StartedAt").is_sorted_by(|later, earlier| later >= earlier), "{:?}", at(".State.StartedAt"));
}

fn recreated() {
    let engine = shared();
    let labels = ["--label=com.docker.compose.project=again", "--label=com.docker.compose.service=db"];
    let options = [labels[0], labels[1], "--label=com.docker.compose.container-number=1"];
    let _old = engine.service("again-1", &options, "--on-term exit");
    engine.svc_ctl(&["stop", "--container", "again-1"]).expect(0);
    engine.docker(["rename", "again-1", "again-old"]).expect(0);
    engine.docker(["rm", "again-old"]).expect(0);
    std::fs::rename(engine.path("again-1"), engine.path("again-data")).unwrap();
    let anew = engine.service("again-1", &options, "--on-term exit");
    // The journal's entry of the stop has the id of the old one.
    engine.svc_ctl(&["start", "--container", "again-1"]).expect(0);
    anew.assert_back(1, "no");
    engine.svc_ctl(&["restart", "--container", "again-1"]).expect(0);
    anew.assert_back(2, "no");
}

fn backups() {
    let engine = shared();
    let one = engine.service("kept", &["--restart=always"], "--on-term slow --slow-for 500");
    let (database, store) = (one.database.display().to_string(), engine.path("store").display().to_string());
    for (mode, starts) in [("hot", 1), ("cold", 2)] {
        let words = ["backup", "--container", "kept", "--sqlite", &database, "--mode", mode, "--to", &store];
        run(engine.tool("svc-backup", &words), 4 * QUICK).expect(0);
        one.assert_back(starts, "always");
    }
    run(engine.tool("svc-backup", &["verify", "--from", &store, "--restore"]), 4 * QUICK).expect(0);
    let before = one.record.acknowledged().len();
    let words = ["restore", "--from", &store, "kept", "--to", &database, "--container", "kept"];
    run(engine.tool("svc-backup", &words), 4 * QUICK).expect(0);
    one.assert_back(3, "always");
    assert!(one.record.acknowledged().len() > before);
    // Beside it: two operations on one container never run at once.
    let first = start(engine.tool("svc-ctl", &["restart", "--container", "kept"]));
    one.record.wait_for("it is asked to stop", QUICK, |events| {
        events.iter().filter(|event| event.what == "signal").count() == 3
    });
    engine.svc_ctl(&["restart", "--container", "kept"]).expect(20);
    first.finish(QUICK).expect(0);
    one.assert_back(4, "always");
}
