//! Runs of several targets: what fails stops no other, and what became of them can be asked later.

// A test that can not go on has failed.
#![allow(clippy::unwrap_used)]

mod support;

use std::fmt::Write;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::Value;
use support::{Place, Said};

/// A configuration of these targets, each with further lines of its own; a database for each that is not to fail.
fn configure(place: &Place, targets: &[(&str, &str)]) -> String {
    let mut text = format!("[docker]\nlabels = false\n[defaults]\nstore = {:?}\n", place.path("store"));
    for (name, lines) in targets {
        let database = place.path(format!("{name}.db"));
        if !name.starts_with("bad") {
            let connection = rusqlite::Connection::open(&database).unwrap();
            connection.execute_batch("CREATE TABLE IF NOT EXISTS t(a); INSERT INTO t VALUES (1)").unwrap();
        }
        writeln!(text, "[target.{name}]\nsqlite = [{database:?}]\n{lines}").unwrap();
    }
    let path = place.path("svckit.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn all(place: &Place, config: &str, more: &[&str]) -> Said {
    place.backup(&[&["backup", "--all", "--config", config], more].concat())
}

#[test]
fn a_target_that_fails_stops_those_that_need_it_and_no_other_and_the_status_says_so() {
    let place = Place::new();
    place.backup(&["status"]).fails(10, &[]);
    let config = configure(
        &place,
        &[("early", "priority = 9"), ("bad", ""), ("needs", "after = [\"bad\"]"), ("late", "after = [\"early\"]")],
    );
    all(&place, &config, &[]).fails(32, &["bad", "needs", "it comes after bad, which failed"]);
    let status = place.backup(&["status"]);
    assert_eq!(status.code, 10, "{}", status.err);
    let row = |name: &str| status.out.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap().to_owned();
    assert!(row("early").contains("good") && row("late").contains("good"), "{}", status.out);
    assert!(row("bad").contains("never") && row("bad").contains("failed, last at"), "{}", status.out);
    assert!(status.out.contains("2 of 4 good"), "{}", status.out);

    // What failed is told until it is good again, or forgotten.
    all(&place, &config, &[]).fails(32, &["bad"]);
    let json = place.backup(&["status", "--json"]);
    let records: Vec<Value> = json.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let bad = records.iter().find(|record| record["target"] == "bad").unwrap();
    assert_eq!(
        (&bad["failures"], &bad["kind"], &bad["succeeded"]),
        (&Value::from(2), &Value::from("no"), &Value::Null)
    );
    std::fs::copy(place.path("late.db"), place.path("bad.db")).unwrap();
    all(&place, &config, &[]).succeeds();
    assert!(place.backup(&["status"]).succeeds().contains("4 of 4 good"));
    place.backup(&["forget", "bad"]).succeeds();
    place.backup(&["forget", "bad"]).fails(10, &["nothing is known of it"]);
    assert!(!place.backup(&["status"]).succeeds().contains("bad"));
    let mode = std::fs::metadata(place.path("state/state/targets/late.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "an error may say what others should not read");
}

#[test]
fn a_dry_run_leaves_no_trace_and_one_alone_has_a_record_too() {
    let place = Place::new();
    let config = configure(&place, &[("one", ""), ("two", "")]);
    assert!(all(&place, &config, &["--dry-run"]).succeeds().contains("would be backed up"));
    place.backup(&["status"]).fails(10, &[]);
    place.backup(&["backup", "two", "--config", &config]).succeeds();
    let status = place.backup(&["status"]);
    assert!(status.succeeds().contains("two ") && !status.out.contains("one "), "{}", status.out);
    all(&place, &config, &["--at-once", "0"]).fails(2, &["--at-once"]);
}

#[test]
fn two_targets_of_one_service_do_not_find_it_locked_by_each_other() {
    let place = Place::new();
    let mut service = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    std::fs::write(place.path("app.pid"), format!("{}\n", service.id())).unwrap();
    let of = format!("pid-file = {:?}", place.path("app.pid"));
    let names = ["a", "b", "c", "d", "e", "f"];
    let config = configure(&place, &names.map(|name| (name, of.as_str())));
    let all = all(&place, &config, &["--at-once", "6"]);
    let pid = rustix::process::Pid::from_child(&service);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    service.wait().unwrap();
    all.succeeds();
}

#[test]
fn a_circle_is_told_and_a_record_that_can_t_be_read_is_told_and_mended_by_the_next_backup() {
    let place = Place::new();
    let config = configure(&place, &[("a", "after = [\"b\"]"), ("b", "after = [\"a\"]"), ("c", "")]);
    all(&place, &config, &[]).fails(32, &["a", "it waits for others that wait for it"]);
    std::fs::write(place.path("state/state/targets/c.json"), "{").unwrap();
    place.backup(&["status"]).fails(10, &["c.json", "can't be read"]);
    place.backup(&["backup", "c", "--config", &config]).succeeds();
    assert!(place.backup(&["status"]).out.contains("c "));
}

#[test]
fn a_run_that_is_told_to_end_publishes_nothing_by_half_and_says_what_it_did_not_do() {
    let place = Place::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ping = format!("ping = \"http://{}/x\"", listener.local_addr().unwrap());
    let config = configure(&place, &[("one", &ping), ("two", "")]);
    let mut command = place.command(env!("CARGO_BIN_EXE_svc-backup"));
    command
        .args(["backup", "--all", "--at-once", "1", "--config", &config])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut run = command.spawn().unwrap();
    let mut err = BufReader::new(run.stderr.take().unwrap());
    // It has begun the first, and waits for an answer to its first ping until it has heard the signal.
    let (first_ping, _) = listener.accept().unwrap();
    let pid = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let mut said = String::new();
    while !said.contains("ending") {
        assert!(err.read_line(&mut said).unwrap() > 0, "{said}");
    }
    drop((first_ping, listener));
    let status = run.wait().unwrap();
    err.read_to_string(&mut said).unwrap();
    assert!(!status.success() && said.contains("back up two: cancelled"), "{status}: {said}");
    let store = place.path("store");
    let left: Vec<_> = std::fs::read_dir(&store).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    assert!(left.iter().all(|path| !path.ends_with("two")), "{left:?}");
    assert!(place.backup(&["status"]).out.contains("last run"), "the run is on record");
}
