//! In a test machine with its own systemd: what a power cut would leave stopped is not begun.

use svckit_testbed::command::{program, run, sh, start};
use svckit_testbed::stories::Story;
use svckit_testbed::unit::{reload, write_unit};

use svckit_testbed::docker::{Container, Engine, QUICK};

pub(crate) const STORIES: &[Story] = &[
    ("a container is not held where nothing would bring it back at boot", refused_without_resume),
    ("a power cut in the middle of a cold backup: the container is back after the boot", power_cut),
];

const UNIT: &str = "svc-resume.service";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The shipped unit, with the state of this engine's stories.
fn enable_resume(engine: &Engine) {
    let shipped = std::fs::read_to_string("bins/units/svc-resume.service").unwrap();
    let bin = program("svc-ctl").parent().unwrap().display().to_string();
    let state = engine.path("state").display().to_string();
    let here = shipped.replace("@BINDIR@", &bin).replace("/var/lib/svckit/journal", &format!("{state}/state/journal"));
    let here = here.replace("RequiresMountsFor=/var/lib/svckit\n", "");
    assert!(!here.contains("/var/lib"), "{here}");
    let here = here.replace("[Service]\n", &format!("[Service]\nEnvironment=SVCKIT_STATE_DIR={state}\n"));
    write_unit(UNIT, &here);
    reload();
    sh("systemctl", ["enable", UNIT]).expect(0);
}

fn disable_resume() {
    sh("systemctl", ["disable", "--now", UNIT]).expect(0);
    std::fs::remove_file(format!("/etc/systemd/system/{UNIT}")).unwrap();
    reload();
}

fn untouched(one: &Container<'_>, starts: usize, policy: &str) {
    one.assert_back(starts, policy);
    assert!(one.record.events().iter().all(|event| event.what != "signal"), "it was never told to stop");
}

fn refused_without_resume() {
    let engine = &Engine::start();
    let one = engine.service("restarted", &["--restart=unless-stopped"], "--on-term exit");
    let plain = engine.service("plain", &[], "--on-term exit");
    let (database, store) = (one.database.display().to_string(), engine.path("store").display().to_string());
    let backup = |mode| ["backup", "--container", "restarted", "--sqlite", &database, "--mode", mode, "--to", &store];
    let refused = [
        run(engine.tool("svc-backup", &backup("cold")), 4 * QUICK),
        engine.svc_ctl(&["restart", "--container", "restarted"]),
        engine.svc_ctl(&["stop", "--container", "restarted"]),
    ];
    for refused in refused {
        let refused = refused.expect(22);
        for said in ["container restarted", "after a power cut", "systemctl enable svc-resume.service"] {
            assert!(refused.stderr.contains(said), "{said}: {refused:?}");
        }
    }
    run(engine.tool("svc-backup", &backup("hot")), 4 * QUICK).expect(0);
    untouched(&one, 1, "unless-stopped");

    // Nobody would have started this one after a power cut. A database that is half replaced is another matter.
    let own = plain.database.display().to_string();
    let cold = ["backup", "--container", "plain", "--sqlite", &own, "--mode", "cold", "--to", &store];
    run(engine.tool("svc-backup", &cold), 4 * QUICK).expect(0);
    plain.assert_back(2, "no");
    let restore = ["restore", "--from", &store, "plain", "--to", &own, "--container", "plain"];
    let refused = run(engine.tool("svc-backup", &restore), 4 * QUICK).expect(22);
    assert!(refused.stderr.contains("systemctl enable svc-resume.service"), "{refused:?}");
    plain.assert_back(2, "no");

    enable_resume(engine);
    run(engine.tool("svc-backup", &backup("cold")), 4 * QUICK).expect(0);
    one.assert_back(2, "unless-stopped");
    run(engine.tool("svc-backup", &restore), 4 * QUICK).expect(0);
    plain.assert_back(3, "no");
    disable_resume();
}

fn power_cut() {
    let mut engine = Engine::start();
    enable_resume(&engine);
    let name = "cut";
    {
        let one = engine.service(name, &["--restart=unless-stopped"], "--on-term slow --slow-for 3000");
        let (database, store) = (one.database.display().to_string(), engine.path("store").display().to_string());
        let words = ["backup", "--container", name, "--sqlite", &database, "--mode", "cold", "--to", &store];
        let mut running = start(engine.tool("svc-backup", &words));
        one.record.wait_for("SIGTERM has come", QUICK, |events| events.iter().any(|event| event.what == "signal"));
        assert_eq!(one.field(".HostConfig.RestartPolicy.Name"), "no", "held");
        sh("systemctl", ["kill", "--signal=KILL", "svckit-guard-*.service"]).expect(0);
        running.kill();
        running.finish(QUICK).expect(128 + 9);
        // Whatever ran is gone, and then the engine.
        engine.docker(["kill", name]).expect(0);
        engine.docker(["wait", name]).expect(0);
    }
    engine.kill_daemon();
    let boot_id = engine.path("boot_id");
    std::fs::write(&boot_id, "00000000-0000-4000-8000-000000000002\n").unwrap();
    // The machine has one of its own there already, of a file that is gone.
    sh("umount", [BOOT_ID]).expect(0);
    sh("mount", ["--bind", boot_id.to_str().unwrap(), BOOT_ID]).expect(0);
    // The control: the engine alone leaves it down.
    engine.start_daemon();
    assert_eq!(engine.container(name).field(".State.Status"), "exited");
    engine.kill_daemon();
    // Enabled, it begins before the engine is there; what it can't do yet its guard does.
    assert_ne!(sh("systemctl", ["start", UNIT]).status, 0, "the engine is not there yet");
    engine.start_daemon();
    engine.container(name).assert_back(2, "unless-stopped");
    sh("umount", [BOOT_ID]).expect(0);
    disable_resume();
}
