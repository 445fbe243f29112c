//! Whatever starts a service does not while its database is repaired; and what runs in spite of that is not overrun.

use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use rustix::process::Signal;
use svckit_testbed::command::{ended, ours, program, sh, signal, start as run_in_background, svc_repair};
use svckit_testbed::stories::Story;
use svckit_testbed::unit::{QUICK, Recipe, Unit, property_of, reload, write_unit};

use crate::patient::{NOTES, add_notes, damage, enable_resume, notes};

pub(crate) const STORIES: &[Story] = &[
    ("neither its socket, timer, path and dependants nor a person start it under the repair", nobody),
    ("a process that has the database open in spite of the service's stop makes a repair refuse", stranger_before),
    ("a process that opens the database under the repair keeps it from being replaced", stranger_meanwhile),
];

const PORT: &str = "127.0.0.1:4719";

fn connect() -> std::io::Result<String> {
    let mut answer = String::new();
    let mut stream = TcpStream::connect(PORT)?;
    stream.set_read_timeout(Some(QUICK))?;
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A repair that has told the service to stop, and waits for [`Signal::CONT`]; the service has ended. It is held up when
/// that is in the record for the `count`th time: `signal`, so that it holds and has not gone on, or `end`, after which
/// it goes on until our signal comes.
fn under_repair(unit: &Unit, after: &str, count: usize) -> svckit_testbed::command::Running {
    let database = unit.databases[0].to_str().unwrap();
    let repair = run_in_background(ours("svc-repair", ["repair", database, "--unit", &unit.name, "--json"]));
    let seen = |events: &[svckit_testbed::record::Event]| events.iter().filter(|event| event.what == after).count();
    unit.record.wait_for("it is being stopped for the repair", QUICK, |events| seen(events) == count);
    assert!(signal(repair.pid(), Signal::STOP));
    // Having said so it takes a moment to be gone, and takes connections until then.
    for pid in unit.record.starts() {
        assert!(ended(pid, QUICK), "{pid}");
    }
    repair
}

fn nobody() {
    enable_resume();
    let recipe = Recipe::new().service_type("simple").args("--listen-on-stdin --on-term slow --slow-for 1000");
    let unit = recipe
        .service("StandardInput=socket\nStandardOutput=journal\nRestart=always\nRestartSec=0")
        .install("repair-starters");
    let wanted = unit.directory.join("wanted");
    write_unit("repair-starters.socket", &format!("[Socket]\nListenStream={PORT}\n"));
    write_unit("repair-starters.timer", "[Timer]\nOnActiveSec=0\nOnUnitInactiveSec=50ms\nAccuracySec=1ms\n");
    write_unit("repair-starters.path", &format!("[Path]\nPathExists={}\n", wanted.display()));
    let needing = "Requires=repair-starters.service\nAfter=repair-starters.service\n";
    write_unit(
        "needs-starters.service",
        &format!("[Unit]\n{needing}[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"),
    );
    reload();
    sh("systemctl", ["start", "repair-starters.socket"]).expect(0);
    connect().unwrap();
    unit.record.wait_for_commits(3, QUICK);
    unit.systemctl("stop").expect(0);
    add_notes(&unit);
    damage(&unit, "notes_title", 8);
    std::fs::write(&wanted, b"").unwrap();
    let triggers = ["repair-starters.socket", "repair-starters.timer", "repair-starters.path"];
    for trigger in triggers {
        sh("systemctl", ["start", trigger]).expect(0);
    }
    let (starts, observer) = (unit.record.starts().len(), unit.observe());

    let repair = under_repair(&unit, "signal", 2);
    // Each of them now, one after the other; the last is a person who means it.
    // The socket closes after its service: until then systemd takes a connection, and ends it.
    assert_eq!(connect().unwrap_or_default(), "", "its socket started it");
    std::fs::remove_file(&wanted).unwrap();
    std::fs::write(&wanted, b"").unwrap();
    let mut attempts = Vec::new();
    for words in [
        &["start", "--no-block", "needs-starters.service"][..],
        &["start", "--no-block", "repair-starters.service"],
        &["restart", "--no-block", "repair-starters.service"],
        &["reload-or-restart", "--no-block", "repair-starters.service"],
    ] {
        attempts.push(sh("systemctl", words));
    }
    // The timer would have fired many times: a whole other service is started and stopped meanwhile.
    let other = Recipe::new().start("beside-the-repair");
    other.systemctl("stop").expect(0);
    unit.assert_stopped();
    assert_eq!(unit.record.starts().len(), starts, "{attempts:?}");
    assert!(!ended(repair.pid(), std::time::Duration::ZERO));
    assert!(signal(repair.pid(), Signal::CONT));

    let said = repair.finish(QUICK).expect(0).json();
    assert_eq!((&said["outcome"], &said["service"]), (&"complete".into(), &"started".into()), "{said}");
    unit.assert_running();
    for trigger in triggers {
        assert_eq!(property_of(trigger, "ActiveState"), "active", "{trigger}");
    }
    assert!(connect().unwrap().contains("200 OK"));
    assert_eq!(unit.record.starts().len(), starts + 1, "{attempts:?}");
    for trigger in triggers {
        sh("systemctl", ["stop", trigger]).expect(0);
    }
    unit.assert_clean();
    unit.assert_nothing_lost();
    assert_eq!(notes(&unit.databases[0]).len() as i64, NOTES);
    assert_eq!(observer.no_kill(), []);
    unit.systemctl("stop").expect(0);
    svc_repair(["check", unit.databases[0].to_str().unwrap(), "--deep"]).expect(0);
}

/// Somebody has started the service's program by hand, beside its manager.
fn by_hand(unit: &Unit) -> svckit_testbed::command::Running {
    let mut command = Command::new(program("testbed-service"));
    let record = unit.directory.join("by-hand");
    command.arg("--record").arg(&record).arg("--database").arg(&unit.databases[0]);
    let running = run_in_background(command);
    svckit_testbed::record::Record::at(record).wait_for_commits(2, QUICK);
    running
}

fn end(running: svckit_testbed::command::Running) {
    assert!(signal(running.pid(), Signal::TERM));
    running.finish(QUICK).expect(0);
}

fn stranger_before() {
    enable_resume();
    let unit = crate::patient::start("repair-stranger", Recipe::new());
    let database = unit.databases[0].to_str().unwrap();
    damage(&unit, "notes_title", 8);
    let stranger = by_hand(&unit);
    let refused = svc_repair(["repair", database, "--unit", &unit.name]);
    assert!([21, 22].contains(&refused.status), "{refused:?}");
    assert!(refused.stderr.contains(&stranger.pid().to_string()), "it is named: {}", refused.stderr);
    unit.assert_running();
    unit.assert_clean();
    repaired_without(stranger, &unit);
}

/// Nothing of the database was replaced, and the stranger was left alone; once it has ended, the repair is done.
fn repaired_without(stranger: svckit_testbed::command::Running, unit: &Unit) {
    let database = unit.databases[0].to_str().unwrap();
    svc_repair(["check", database]).expect(11);
    assert!(!ended(stranger.pid(), std::time::Duration::ZERO));
    end(stranger);
    svc_repair(["repair", database, "--unit", &unit.name]).expect(0);
    svc_repair(["check", database]).expect(0);
    unit.assert_nothing_lost();
}

fn stranger_meanwhile() {
    enable_resume();
    let unit = crate::patient::start("repair-meanwhile", Recipe::new());
    let repair = held_up_repair(&unit);
    let stranger = by_hand(&unit);
    assert!(signal(repair.pid(), Signal::CONT));
    let refused = repair.finish(QUICK);
    assert!([21, 22].contains(&refused.status), "{refused:?}");
    // Which of them it is depends on how far it had come.
    let reasons = [" open", "changed it", "was not there when the replacement was prepared"];
    assert!(reasons.iter().any(|reason| refused.stderr.contains(reason)), "{}", refused.stderr);
    unit.assert_running();
    unit.assert_clean();
    repaired_without(stranger, &unit);
    assert_eq!(notes(&unit.databases[0]).len() as i64, NOTES);
}

/// One that has not replaced anything yet. A busy machine may keep us from its signal until it is done: then another.
fn held_up_repair(unit: &Unit) -> svckit_testbed::command::Running {
    let inode = || std::fs::metadata(&unit.databases[0]).unwrap().ino();
    for attempt in 1..=10 {
        damage(unit, "notes_title", 8);
        let before = inode();
        let repair = under_repair(unit, "end", 2 * attempt);
        if !ended(repair.pid(), std::time::Duration::ZERO) && inode() == before {
            return repair;
        }
        assert!(signal(repair.pid(), Signal::CONT));
        repair.finish(QUICK).expect(0);
        unit.systemctl("stop").expect(0);
    }
    panic!("ten repairs were done before they could be held up")
}
