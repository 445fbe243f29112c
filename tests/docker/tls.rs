//! An engine behind TCP and TLS: used as its socket is, and refused where one side can't trust the other.

use std::process::Command;

use svckit_testbed::command::{Outcome, run, start};
use svckit_testbed::stories::Story;

use crate::servers::bed::Server;
use crate::shared;
use svckit_testbed::docker::{Engine, QUICK};

pub(crate) const STORIES: &[Story] = &[
    ("an engine behind TLS is used as its socket is, also while its certificates are renewed", whole_way),
    ("a server is dumped through an engine behind TLS", dumped),
    ("where an engine and svckit can't trust each other, it is said which side does not, and why", no_trust),
];

/// What `[docker]` says of the engine.
#[derive(Clone)]
struct Settings {
    host: &'static str,
    ca: String,
    client: Option<(String, String)>,
}

fn settings(engine: &Engine, client: &str) -> Settings {
    let file = |name: &str| engine.certificate(name).display().to_string();
    Settings { host: "127.0.0.1", ca: file("ca"), client: Some((file(client), file(&format!("{client}-key")))) }
}

fn configured(engine: &Engine, name: &str, settings: &Settings) -> String {
    let Settings { host, ca, client } = settings;
    let (port, _) = engine.tls.unwrap();
    let mut text = format!("[docker]\nendpoint = \"tcp://{host}:{port}\"\ntls-ca = {ca:?}\n");
    if let Some((cert, key)) = client {
        text.push_str(&format!("tls-cert = {cert:?}\ntls-key = {key:?}\n"));
    }
    let file = engine.path(&format!("{name}.toml"));
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

/// Without the socket in its environment.
fn tool(engine: &Engine, program: &str, words: &[&str]) -> Command {
    let mut command = engine.tool(program, words);
    command.env_remove("DOCKER_HOST");
    command
}

fn whole_way() {
    let engine = shared();
    let one = engine.service("encrypted", &["--restart=always"], "--on-term slow --slow-for 3000");
    // Files of its own, which are renewed in the middle.
    let directory = engine.path("renewed");
    std::fs::create_dir(&directory).unwrap();
    let put = |from: &str, to: &str| {
        let (new, to) = (directory.join("new"), directory.join(to));
        std::fs::copy(engine.certificate(from), &new).unwrap();
        std::fs::rename(&new, to).unwrap();
    };
    for (from, to) in [("ca", "ca.pem"), ("client", "cert.pem"), ("client-key", "key.pem")] {
        put(from, to);
    }
    let file = |name: &str| directory.join(name).display().to_string();
    let here = Settings { host: "127.0.0.1", ca: file("ca.pem"), client: Some((file("cert.pem"), file("key.pem"))) };
    let config = configured(engine, "encrypted", &here);
    let words = ["restart", "-v", "--container", "encrypted", "--config", &config];
    let running = start(tool(engine, "svc-ctl", &words));
    one.record.wait_for("SIGTERM has come", QUICK, |events| events.iter().any(|event| event.what == "signal"));
    // Half of a renewal: no pair.
    put("other-key", "key.pem");
    let ended = running.finish(4 * QUICK).expect(0);
    assert!(ended.stderr.contains("can't be used yet"), "{ended:?}");
    one.assert_back(2, "always");

    let running = start(tool(engine, "svc-ctl", &["status", "--container", "encrypted", "--config", &config]));
    let half = running.finish(QUICK).expect(3);
    assert!(half.stderr.contains("is not the key of tls-cert"), "{half:?}");
    put("client-key", "key.pem");
    let running = start(tool(engine, "svc-ctl", &words));
    one.record.wait_for("SIGTERM has come again", QUICK, |events| {
        events.iter().filter(|event| event.what == "signal").count() == 2
    });
    put("client", "cert.pem");
    let ended = running.finish(4 * QUICK).expect(0);
    assert!(ended.stderr.contains("have changed: read again"), "{ended:?}");
    one.assert_back(3, "always");

    // As Docker's own programs are told, in a directory of its names.
    let mut command = tool(engine, "svc-ctl", &["restart", "--container", "encrypted"]);
    let (port, _) = engine.tls.unwrap();
    command.env("DOCKER_HOST", format!("tcp://127.0.0.1:{port}"));
    command.env("DOCKER_TLS_VERIFY", "1").env("DOCKER_CERT_PATH", &directory);
    run(command, 4 * QUICK).expect(0);
    one.assert_back(4, "always");
    engine.docker(["rm", "-f", "encrypted"]).expect(0);
}

fn dumped() {
    let engine = shared();
    let client = &["redis-cli", "--no-auth-warning", "-a", "far away"];
    let server = Server::start("redis", "far-cache", "REDIS_PASSWORD=far away", &[], client);
    server.wait_for_log("eady to accept connections");
    let keys: String = (0..20_000).map(|n| format!("SET key:{n} value-{n}-{}\n", "x".repeat(100))).collect();
    server.sql(&keys);
    let config = configured(engine, "dumped", &settings(engine, "client"));
    let store = server.store().display().to_string();
    let words =
        ["backup", "--engine", "redis", "--container", "far-cache", "--to", &store, "--config", &config, "--json"];
    let report = run(tool(engine, "svc-backup", &words), 4 * QUICK).expect(0).json();
    assert_eq!(report["databases"][0]["rows"], 20_000, "{report}");
}

/// What `svc-ctl status` says with these settings.
#[track_caller]
fn refused(engine: &Engine, settings: &Settings, code: i32, said: &[&str]) -> Outcome {
    let config = configured(engine, "refused", settings);
    let words = ["status", "--container", "anything", "--config", &config];
    let outcome = run(tool(engine, "svc-ctl", &words), QUICK).expect(code);
    for text in said {
        assert!(outcome.stderr.contains(text), "{text:?} is not said: {outcome:?}");
    }
    outcome
}

fn no_trust() {
    let mut engine = Engine::start();
    let good = settings(&engine, "client");
    refused(&engine, &good, 30, &["anything"]);
    let file = |name: &str| engine.certificate(name).display().to_string();
    let (other_ca, loose) = (file("other-ca"), engine.path("loose.pem").display().to_string());

    refused(&engine, &Settings { ca: other_ca, ..good.clone() }, 22, &["none of the authorities in tls-ca"]);
    let renamed = Settings { host: "localhost", ..good.clone() };
    refused(&engine, &renamed, 22, &["for another name", "localhost"]);
    refused(
        &engine,
        &Settings { client: None, ..good.clone() },
        23,
        &["client certificate", "add tls-cert and tls-key"],
    );
    refused(&engine, &settings(&engine, "other"), 23, &["does not accept the client certificate", "--tlscacert"]);
    refused(&engine, &settings(&engine, "client-old"), 23, &["does not accept the client certificate"]);

    let cert = file("client");
    std::fs::copy(engine.certificate("client-key"), &loose).unwrap();
    let with_key = |key: &str| Settings { client: Some((cert.clone(), key.to_owned())), ..good.clone() };
    std::fs::set_permissions(&loose, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    refused(&engine, &with_key(&loose), 23, &[&loose, "others can read", "chmod"]);
    refused(&engine, &with_key("/nonexistent/key.pem"), 3, &["tls-key /nonexistent/key.pem"]);
    refused(&engine, &with_key(&file("other-key")), 3, &["is not the key of tls-cert"]);
    refused(&engine, &with_key(&cert), 23, &["others can read"]);
    let ca_key = file("ca-key");
    refused(&engine, &Settings { ca: ca_key.clone(), ..good.clone() }, 3, &[&ca_key, "no certificate"]);

    // Without TLS: not to another machine, and not to a port that wants it.
    let (port, _) = engine.tls.unwrap();
    for (host, code) in [(format!("tcp://192.0.2.1:{port}"), 2), (format!("tcp://127.0.0.1:{port}"), 30)] {
        let mut command = tool(&engine, "svc-ctl", &["status", "--container", "anything"]);
        run(std::mem::replace(command.env("DOCKER_HOST", host), Command::new("true")), QUICK).expect(code);
    }

    engine.kill_daemon();
    engine.tls = Some((port, "server-old"));
    engine.start_daemon();
    refused(&engine, &good, 22, &["has expired", "renewed"]);
}
