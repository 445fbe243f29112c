//! What monitoring is told.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use svckit_testbed::command::{ended, run, signal, start};

use crate::bed::{Bed, QUICK};

/// A row that refers to nothing was there before us: it is named everywhere, and keeps nobody from being pruned.
pub(crate) fn violated() {
    let bed = Bed::new();
    bed.notes(1, 2);
    let figure = || bed.run(&["metrics"]).expect(0).stdout;
    assert!(figure().contains("svc_tend_foreign_key_violations{rule=\"notes\"} NaN"), "nobody has looked yet");
    let db = bed.db();
    db.pragma_update(None, "foreign_keys", false).unwrap();
    db.execute("INSERT INTO words(rowid, note, word) VALUES(77, 99, 'x')", []).unwrap();
    let named = serde_json::json!([{ "table": "words", "rowid": 77, "parent": "notes" }]);
    let tried = bed.run(&["once", "--dry-run", "--json"]).expect(0).json();
    assert_eq!((&tried["violations"], &tried["violating"], &tried["would_remove"]), (&1.into(), &named, &2.into()));
    let text = bed.run(&["once", "--dry-run"]).expect(0).stdout;
    assert!(text.contains("violation: row 77 of words refers to one of notes that is not there"), "{text}");
    let said = bed.run(&["once", "--json"]).expect(0).json();
    assert_eq!((&said["violations"], &said["violating"], &said["removed"]), (&1.into(), &named, &2.into()));
    assert_eq!(bed.run(&["status", "--json"]).json()["violations"], 1);
    assert!(bed.run(&["status"]).stdout.contains("violations     1 of foreign keys"));
    assert!(figure().contains("svc_tend_foreign_key_violations{rule=\"notes\"} 1\n"), "{}", figure());
    let munin = bed.run(&["munin", "fetch"]).expect(0).stdout;
    assert!(munin.contains("multigraph svc_tend_violations\nnotes.value 1\n"), "{munin}");
    // A daemon says it when it starts.
    db.execute("DELETE FROM words WHERE note = 99", []).unwrap();
    db.execute("INSERT INTO words(rowid, note, word) VALUES(78, 99, 'x'), (79, 98, 'x')", []).unwrap();
    let daemon = start(bed.tend(&["run"]));
    crate::bed::until("it has looked", || figure().contains("svc_tend_foreign_key_violations{rule=\"notes\"} 2\n"));
    assert!(signal(daemon.pid(), rustix::process::Signal::TERM));
    let told = daemon.finish(QUICK).expect(0).stderr;
    assert!(told.contains("a row refers to one that is not there") && told.contains("78"), "{told}");
    db.execute("DELETE FROM words", []).unwrap();
    bed.run(&["once"]).expect(0);
    assert!(figure().contains("svc_tend_foreign_key_violations{rule=\"notes\"} 0\n"), "{}", figure());
}

/// Before the first pass, with a database that is away, and after a pass.
pub(crate) fn unknown() {
    let bed = Bed::new();
    bed.notes(1, 2);
    let munin = |bed: &Bed, word: &str| bed.run(&["munin", word]).expect(0).stdout;
    let before = munin(&bed, "fetch");
    for line in ["notes.value 2", "nothing.value U", "multigraph svc_tend_staleness\nnotes.value U"] {
        assert!(before.contains(line), "{line}: {before}");
    }
    bed.run(&["once"]).expect(0);
    let after = munin(&bed, "fetch");
    assert!(after.contains("multigraph svc_tend_removed\nnotes.value 2"), "{after}");
    // Its own source is away: that figure alone is unknown.
    std::fs::rename(bed.path("notes.db"), bed.path("away.db")).unwrap();
    let away = munin(&bed, "fetch");
    assert!(away.contains("notes.value U\nnothing.value U"), "{away}");
    assert!(away.contains("multigraph svc_tend_removed\nnotes.value 2"), "{away}");
    let fields = |text: &str| text.lines().filter(|line| line.contains(".value ")).count();
    assert_eq!(fields(&before), fields(&away));
    bed.write_rules("on-demand = true");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let daemon = start(bed.tend(&["run", "--listen", &address]));
    crate::bed::until("it listens", || TcpStream::connect(&address).is_ok());
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(QUICK)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        let mut said = String::new();
        std::io::Read::read_to_string(&mut stream, &mut said).unwrap();
        said
    };
    // One that says nothing keeps nobody.
    let _silent = TcpStream::connect(&address).unwrap();
    let served = ask("/metrics");
    assert!(ask("/else").starts_with("HTTP/1.1 404"));
    assert!(signal(daemon.pid(), rustix::process::Signal::TERM));
    daemon.finish(QUICK).expect(0);
    bed.run(&["run", "--listen", "0.0.0.0:9780"]).expect(2);
    let metrics = bed.run(&["metrics"]).expect(0).stdout;
    assert!(served.starts_with("HTTP/1.1 200") && served.ends_with(&metrics), "{served}\n{metrics}");
    assert!(metrics.contains("svc_tend_figure{rule=\"notes\",figure=\"notes\"} NaN"), "{metrics}");
    assert!(metrics.contains("svc_tend_items_removed_total{rule=\"notes\"} 2"), "{metrics}");
    std::fs::write(bed.path("state/state/tend/tend.db"), vec![7; 8192]).unwrap();
    assert_eq!(fields(&munin(&bed, "fetch")), fields(&before), "also where our own state is gone");
    let config = munin(&bed, "config");
    assert_eq!(config.matches(".label ").count(), fields(&before));
    assert!(!config.contains(".value "));
    let mut dirty = bed.tend(&["munin", "config"]);
    dirty.env("MUNIN_CAP_DIRTYCONFIG", "1");
    assert_eq!(fields(&run(dirty, QUICK).expect(0).stdout), fields(&before));
}

/// The programs that read them.
pub(crate) fn taken() {
    let bed = Bed::new();
    bed.notes(1, 2);
    bed.run(&["once"]).expect(0);
    let metrics = bed.run(&["metrics"]).expect(0).stdout;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    assert!(said.status.success(), "{} of\n{metrics}", String::from_utf8_lossy(&said.stdout));

    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (plugins, settings) = (bed.path("plugins"), bed.path("settings"));
    for directory in [&plugins, &settings] {
        std::fs::create_dir(directory).unwrap();
    }
    std::fs::set_permissions(bed.directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let command = bed.tend(&["munin"]);
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let plugin = plugins.join("svc_tend");
    let script = format!(
        "#!/bin/sh\nSVCKIT_STATE_DIR='{}' exec {} \"${{1:-fetch}}\"\n",
        bed.path("state").display(),
        words.join(" ")
    );
    std::fs::write(&plugin, script).unwrap();
    std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(settings.join("svc"), "[svc_tend]\nuser root\n").unwrap();
    let node = bed.path("node.conf");
    std::fs::write(
        &node,
        format!(
            "log_file {0}/log\npid_file {0}/pid\nbackground 0\nsetsid 0\nuser root\ngroup root\nhost_name here\n\
             host 127.0.0.1\nport {port}\nallow ^127\\.0\\.0\\.1$\n",
            bed.directory.path().display()
        ),
    )
    .unwrap();
    // It looks for its plugins in one place only: for this one that place is ours.
    let mut munin = Command::new("unshare");
    let line = "mount --bind \"$1\" /etc/munin/plugins && mount --bind \"$2\" /etc/munin/plugin-conf.d && exec munin-node --config \"$3\"";
    munin.args(["--mount", "sh", "-c", line, "sh"]).args([&plugins, &settings, &node]);
    let daemon = start(munin);
    crate::bed::until("munin-node listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(QUICK)).unwrap();
    let (mut to, mut from) = (stream.try_clone().unwrap(), BufReader::new(stream));
    let mut greeting = String::new();
    from.read_line(&mut greeting).unwrap();
    let mut ask = |words: &str, many: bool| {
        to.write_all(format!("{words}\n").as_bytes()).unwrap();
        let mut said = String::new();
        while from.read_line(&mut said).unwrap() > 0 && many && !said.ends_with("\n.\n") {}
        said
    };
    ask("cap multigraph dirtyconfig", false);
    let listed = ask("list", false);
    let config = ask("config svc_tend", true);
    let values = ask("fetch svc_tend", true);
    assert!(signal(daemon.pid(), rustix::process::Signal::TERM));
    assert!(ended(daemon.pid(), QUICK));
    assert!(listed.contains("svc_tend"), "{listed}");
    for line in ["multigraph svc_tend_notes", "notes.label notes", "notes.value 0", "nothing.value U"] {
        assert!(config.contains(line), "{line}: {config}");
    }
    assert!(values.contains("multigraph svc_tend_removed\nnotes.value 2\n"), "{values}");
}
