//! Help, usage errors, completions, manual pages and the configuration, by running the programs.

mod support;

use std::os::unix::fs::PermissionsExt;

use clap::{Command, CommandFactory};
use support::Place;
use svckit_tools::cli::{backup, ctl, lock, publish, repair, tend};

fn every_command(command: &Command, check: &mut dyn FnMut(&Command)) {
    for sub in command.get_subcommands() {
        check(sub);
        every_command(sub, check);
    }
}

#[test]
fn the_command_lines_are_consistent() {
    backup::Cli::command().debug_assert();
    ctl::Cli::command().debug_assert();
    repair::Cli::command().debug_assert();
    lock::Cli::command().debug_assert();
    publish::Cli::command().debug_assert();
    tend::Cli::command().debug_assert();
}

#[test]
fn every_command_has_help_with_an_example() {
    let programs = [backup::Cli::command(), ctl::Cli::command(), repair::Cli::command(), lock::Cli::command()];
    for program in programs.into_iter().chain([publish::Cli::command(), tend::Cli::command()]) {
        every_command(&program, &mut |command| {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name}");
            let is_group = command.get_subcommands().next().is_some();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(is_group || help.contains("Example"), "{name}");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name} {}", argument.get_id());
            }
        });
    }
}

#[test]
fn help_has_the_exit_codes_and_goes_to_standard_output() {
    let place = Place::new();
    let said = [place.backup(&["--help"]), place.ctl(&["--help"]), place.repair(&["--help"]), place.lock(&["--help"])];
    for said in said.into_iter().chain([place.publish(&["--help"]), place.tend(&["--help"])]) {
        let out = said.succeeds();
        assert!(out.contains("Examples:") && out.contains("  40  the service is not back"), "{out}");
        assert!(said.err.is_empty(), "{}", said.err);
        assert!(!out.contains('\u{1b}'), "no colours where there is no terminal");
    }
    assert!(place.backup(&["--version"]).succeeds().starts_with("svc-backup "));
}

#[test]
fn a_command_line_that_means_nothing_is_a_usage_error() {
    let place = Place::new();
    let to = place.path("store");
    let to = to.to_str().unwrap();
    place.backup::<&str>(&[]).fails(2, &["Usage"]);
    place.backup(&["bakup"]).fails(2, &["backup"]);
    place.backup(&["backup", "--to", to]).fails(2, &["--sqlite"]);
    place.backup(&["backup", "plex", "--sqlite", "/a.db", "--to", to]).fails(2, &["cannot be used"]);
    place.backup(&["backup", "--sqlite", "/a.db", "--mode", "warm", "--to", to]).fails(2, &["hot, fenced, cold"]);
    place.backup(&["backup", "--sqlite", "/a.db"]).fails(2, &["no store was named", "hint: add --to"]);
    place.backup(&["backup", "--sqlite", "/a.db", "--name", "../x", "--to", to]).fails(2, &["not usable"]);
    place.backup(&["backup", "plx", "--to", to]).fails(2, &["no target \"plx\"", "hint: did you mean plex?"]);
    place.backup(&["backup", "--sqlite", "/a.db", "--fence-hold-max", "2", "--to", to]).fails(2, &["90s or 5m"]);
    place.backup(&["restore", "--from", to, "a", "not/a/backup", "--to", "/x"]).fails(2, &["not usable"]);
    place.backup(&["expire", "--from", to]).fails(2, &["no rule says what is kept", "--keep-last"]);
    place.backup(&["expire", "--from", to, "--keep-last", "0"]).fails(2, &["nothing would be kept"]);
    place.backup(&["install-units", "--dir"]).fails(2, &["--dir"]);
    place.ctl(&["stop"]).fails(2, &["no service was named"]);
    place.ctl(&["stop", "--unit", "a", "--pid-file", "/b"]).fails(2, &["cannot be used"]);
    place.ctl(&["stop", "--start-command", "/b"]).fails(2, &["--pid-file"]);
    for (line, wanted) in [
        ("cd /srv && ./noted", "\"&&\", which only a shell knows"),
        ("true; /bin/noted", "\"true;\", which only a shell knows"),
        ("A=1 /bin/noted", "\"A=1\", which only a shell knows"),
        ("noted-which-nobody-has", "no program in PATH"),
    ] {
        place.ctl(&["restart", "--pid-file", "/b", "--start-command", line]).fails(2, &[wanted, "sh -c"]);
    }
    place.ctl(&["status", "--container", "a/b"]).fails(2, &["can't be meant"]);
    place.ctl(&["status", "--service", "plexx"]).fails(2, &["did you mean plex?"]);
    place.ctl(&["wait", "--unit", "a", "--ready", "htp:x"]).fails(2, &["htp"]);
    place.repair(&["check"]).fails(2, &["<PATH>"]);
    place.repair(&["check", "/a.db", "--scratch", "/b"]).fails(2, &["--deep"]);
    place.repair(&["check", "/a.db", "--deep", "--scratch", "/none/b"]).fails(2, &["directory /none/b", "hint: "]);
    place.repair(&["check", "/none.db"]).fails(2, &["there is no database /none.db", "hint: "]);
    place.publish(&["update", "/tree"]).fails(2, &["--from"]);
    place.publish(&["update", "/tree", "--run"]).fails(2, &["CMD"]);
    place.publish(&["update", "/tree", "--from", "a", "--check", "'"]).fails(2, &["quotes"]);
    place.publish(&["switch", "/tree", "0"]).fails(2, &["no generation"]);
    place.publish(&["gc", "/tree", "--keep", "0"]).fails(2, &["--keep"]);
    assert!(!place.path("store").exists() && !place.path("state").exists(), "nothing was made");
}

#[test]
fn a_failure_is_also_a_json_object_where_that_is_asked_for() {
    let said = Place::new().backup(&["--json", "backup", "plex", "--to", "/nowhere"]);
    said.fails(10, &["svc-backup: plex: Plex Media Server was not found here", "hint: "]);
    let value: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((value["kind"].as_str(), value["exit"].as_u64()), (Some("no"), Some(10)));
    assert!(value["error"].as_str().unwrap().contains("com.plexapp.plugins.library.db"), "{value}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let place = Place::new();
    for arguments in [&["completions", "bash"][..], &["--help"], &["install-units", "--dry-run"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = place.command(env!("CARGO_BIN_EXE_svc-backup"));
        let said = command.args(arguments).stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let said = said.wait_with_output().unwrap();
        assert_eq!(
            (said.status.code(), String::from_utf8(said.stderr).unwrap().as_str()),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
}

#[test]
fn completions_and_manual_pages_come_from_the_same_source() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.backup(&["completions", shell]).succeeds().to_owned();
        assert!(script.contains("fence-hold-max"), "{shell}");
        assert!(!place.ctl(&["completions", shell]).succeeds().is_empty());
        assert!(place.repair(&["completions", shell]).succeeds().contains("deep"));
        assert!(place.lock(&["completions", shell]).succeeds().contains("conflict-exit-code"));
        assert!(place.publish(&["completions", shell]).succeeds().contains("carry-for"));
        assert!(place.tend(&["completions", shell]).succeeds().contains("quarantine"));
    }
    place.backup(&["man", "man"]).succeeds();
    place.ctl(&["man", "man"]).succeeds();
    place.repair(&["man", "man"]).succeeds();
    place.lock(&["man", "man"]).succeeds();
    let pages =
        ["svc-backup.1", "svc-backup-backup.1", "svc-ctl.1", "svc-ctl-stop.1", "svc-repair-check.1", "svc-lock-run.1"];
    place.publish(&["man", "man"]).succeeds();
    place.tend(&["man", "man"]).succeeds();
    let further = ["svc-publish.1", "svc-publish-update.1", "svc-tend.1", "svc-tend-once.1"];
    for page in pages.into_iter().chain(further) {
        let text = std::fs::read_to_string(place.path("man").join(page)).unwrap();
        assert!(text.contains("svc") && text.contains(".SH"), "{page}");
    }
    assert!(!place.path("man/svc-backup-guard.1").exists(), "what is hidden has no page");
    let main = std::fs::read_to_string(place.path("man/svc-backup.1")).unwrap();
    assert!(main.contains(".SH EXIT STATUS"), "{main}");
}

#[test]
fn rules_of_maintenance_are_checked_before_anything_is_removed() {
    let place = Place::new();
    place.tend(&["status"]).fails(2, &["there are no rules", "tend.toml", "--config"]);
    let file = place.path("tend.toml");
    let with = |arguments: &[&str]| place.tend(&[&["--config", file.to_str().unwrap()], arguments].concat());
    std::fs::write(&file, "[rule.notes]\ntable = 3\nkey = \"id\"\nexpird = \"1\"\n").unwrap();
    let said = with(&["check"]);
    said.fails(3, &["2:9: table", "expird", "database", "every", "svc-tend check"]);
    assert!(!said.err.contains("there is no rule in it"), "{}", said.err);
    place
        .tend(&["check", "--config", "nowhere.toml"])
        .fails(3, &["can't read the configuration", "hint: check the path"]);
    let (database, text) = (place.path("notes.db"), |table: &str| {
        format!(
            "[rule.notes]\ndatabase = \"{}\"\nevery = \"1h\"\ntable = \"{table}\"\nkey = \"id\"\nexpired = \"old\"\n",
            place.path("notes.db").display()
        )
    });
    std::fs::write(&file, text("notes")).unwrap();
    with(&["check"]).fails(30, &["can't open", "notes.db"]);
    let db = rusqlite::Connection::open(&database).unwrap();
    db.execute_batch("CREATE TABLE notes(id INTEGER PRIMARY KEY, old); INSERT INTO notes VALUES(1, 1), (2, 0)")
        .unwrap();
    with(&["check"]).succeeds();
    assert!(with(&["once", "--dry-run"]).succeeds().contains("1 would be removed"));
    with(&["status"]).fails(10, &[]);
    with(&["once", "other"]).fails(2, &["no rule \"other\"", "it has notes"]);
    assert!(with(&["once"]).succeeds().contains("1 removed, 0 failed"));
    with(&["status"]).succeeds();
    with(&["quarantine", "retry", "notes", "1"]).fails(10, &["not in quarantine"]);
    std::fs::write(&file, text("nots")).unwrap();
    with(&["once"]).fails(3, &["no table nots", "it has notes"]);
    with(&["run"]).fails(3, &["no table nots"]);
}

#[test]
fn the_configuration_is_checked_line_by_line() {
    let place = Place::new();
    place.backup(&["config", "check"]).fails(10, &["there is no configuration", "svckit.toml"]);
    let file = place.path("svckit.toml");
    std::fs::write(&file, "[target.notes]\nsqlit = [\"/n.db\"]\nsqlite = [\"/n.db\"]\nmode = 3\n").unwrap();
    let said = place.backup(&["config", "check", "--config", "svckit.toml"]);
    assert_eq!(said.code, 3, "{}", said.err);
    assert_eq!(
        said.out,
        "svckit.toml:2:1: [target.notes] has no key \"sqlit\"\n    write: sqlite = ...\n\
         svckit.toml:4:8: mode in [target.notes] is an integer, not a string\n    write: mode = \"hot\"\n"
    );
    let said = place.backup(&["config", "check", "--json", "--config", "svckit.toml"]);
    let first: serde_json::Value = serde_json::from_str(said.out.lines().next().unwrap()).unwrap();
    assert_eq!((first["kind"].as_str(), first["line"].as_u64()), (Some("config"), Some(2)));
    place.backup(&["targets", "--config", "svckit.toml"]).fails(3, &["2:1", "hint: ", "svc-backup config check"]);

    std::fs::create_dir_all(place.path("home/.config/svckit")).unwrap();
    let own = place.path("home/.config/svckit/svckit.toml");
    let text = "[target.notes]\nsqlite = [\"/n.db\"]\nping = \"https://hc-ping.com/very-secret\"\nstore = \"/srv\"\n";
    std::fs::write(&own, text).unwrap();
    assert!(place.backup(&["config", "check"]).succeeds().contains("valid, targets: notes"));
    let said = place.backup(&["targets", "--json"]);
    let target: serde_json::Value = serde_json::from_str(said.succeeds().lines().next().unwrap()).unwrap();
    assert_eq!((target["target"].as_str(), target["store"].as_str()), (Some("notes"), Some("/srv")));
    assert!(!said.out.contains("secret") && !place.backup(&["targets", "-vv"]).out.contains("secret"));
}

#[test]
fn units_are_printed_written_and_found_unchanged() {
    let place = Place::new();
    std::fs::create_dir(place.path("units")).unwrap();
    let would = place.backup(&["install-units", "--dir", "units", "--dry-run"]);
    assert!(would.succeeds().contains("Persistent=yes"));
    assert_eq!(std::fs::read_dir(place.path("units")).unwrap().count(), 0);
    assert!(place.backup(&["install-units", "--dir", "units"]).succeeds().contains("svc-resume.service: written"));
    let service = place.path("units/svc-backup@.service");
    let text = std::fs::read_to_string(&service).unwrap();
    let program = env!("CARGO_BIN_EXE_svc-backup");
    assert!(text.contains(&format!("ExecStart={program} --quiet backup %i")), "{text}");
    assert_eq!(std::fs::metadata(&service).unwrap().permissions().mode() & 0o777, 0o644);
    assert!(place.backup(&["install-units", "--dir", "units"]).succeeds().contains("svc-resume.service: unchanged"));
    place
        .backup(&["install-units", "--dir", "none"])
        .fails(30, &["can't create none/.svc-backup@.service", "No such file"]);
}
