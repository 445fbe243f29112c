//! Tests of the configuration: what it accepts, what it says of what it does not, and that nothing makes it panic.

use super::*;
use crate::discover::{Discovery, Search};
use crate::failure::{Failure, FailureKind};

const WHOLE: &str = r#"
[defaults]
store = "/srv/backups"
on-failure = ["/usr/local/bin/tell-me", "backup"]

[service.mailbox]
pid-file = "/run/mailbox.pid"
start-command = ["/usr/bin/mailboxd", "--port", "4000"]

[target.notes]
unit = "notes.service"
sqlite = ["/var/lib/notes/notes.db"]
include = ["/etc/notes"]
mode = "cold"
ready = ["http:http://127.0.0.1:8080/health;timeout=90s"]
stop = { timeout = "2m", signals = [{ signal = "SIGINT", after = "30s" }], last-resort = "never" }
retention = { last = 7, daily = 14 }
ping = "https://hc-ping.com/12345678"
sqlite-program = "/usr/lib/notes/notes-sqlite"

[target.mail]
service = "mailbox"
sqlite = ["/var/lib/mail/mail.db"]
"#;

fn discovery(text: &str) -> Discovery {
    Discovery::new(Config::parse(text).unwrap(), Search { root: "/nonexistent".into(), home: None })
}

/// The findings, as a person reads them.
fn said(text: &str) -> Vec<String> {
    Config::parse(text).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn the_sqlite_program_is_that_of_the_place_where_the_data_is_unless_a_person_names_one() {
    let machine = tempfile::tempdir().unwrap();
    let program = |place: &str, config: &str| {
        let library = "Library/Application Support/Plex Media Server/Plug-in Support/Databases";
        let databases = machine.path().join(place).join(library);
        std::fs::create_dir_all(&databases).unwrap();
        std::fs::write(databases.join("com.plexapp.plugins.library.db"), b"x").unwrap();
        let search = Search { root: machine.path().to_owned(), home: None };
        let found = Discovery::new(Config::parse(config).unwrap(), search).target("plex").unwrap().sqlite_program;
        std::fs::remove_dir_all(machine.path().join(place)).unwrap();
        found.unwrap()
    };
    let (package, snap) = ("var/lib/plexmediaserver", "var/snap/plexmediaserver/common");
    assert_eq!(program(package, ""), Path::new("/usr/lib/plexmediaserver/Plex SQLite"));
    assert_eq!(program(snap, ""), Path::new("/snap/plexmediaserver/current/Plex SQLite"));
    let own = "[target.plex]\nsqlite-program = \"/opt/plex/sqlite\"\n";
    assert_eq!(program(snap, own), Path::new("/opt/plex/sqlite"));
}

#[test]
fn everything_that_the_manual_shows_is_read() {
    let discovery = discovery(WHOLE);
    let notes = discovery.target("notes").unwrap();
    assert_eq!(notes.service, Some(ServiceRef::Unit("notes.service".to_owned())));
    assert_eq!(notes.mode, Some(Mode::Cold));
    assert_eq!(notes.store.as_deref(), Some(Path::new("/srv/backups")), "from the defaults");
    assert_eq!(notes.stop.timeout, Some(std::time::Duration::from_secs(120)));
    assert_eq!(notes.stop.signals, [(StopSignal::Int, std::time::Duration::from_secs(30))]);
    assert_eq!(notes.retention, Some(Retention { last: 7, daily: 14, ..Retention::default() }));
    assert_eq!(notes.sqlite_program.as_deref(), Some(Path::new("/usr/lib/notes/notes-sqlite")));
    let mail = discovery.target("mail").unwrap();
    assert!(matches!(mail.service, Some(ServiceRef::PidFile(path, Some(_))) if path == Path::new("/run/mailbox.pid")));
    assert!(discovery.service("mailbox").unwrap().sqlite.is_empty());
}

#[test]
fn a_mistake_is_told_with_its_place_and_with_what_to_write() {
    let said = said("[target.a]\nsqlit = [\"/a.db\"]\nunit = 3\nmode = \"warm\"\nstore = \"backups\"\n");
    let wanted = [
        "1:9: [target.a] names no data (write: sqlite = [\"/path/to/the.db\"], or engine = \"postgres\" and its container or server)",
        "2:1: [target.a] has no key \"sqlit\" (write: sqlite = ...)",
        "3:8: unit in [target.a] is an integer, not a string (write: unit = \"notes.service\")",
        "4:8: mode in [target.a]: \"warm\" is not one of its words \
         (write: mode = \"hot\" or mode = \"fenced\" or mode = \"cold\")",
        "5:9: store in [target.a]: a relative path means another file in each directory (write: /srv/backups)",
    ];
    assert_eq!(said, wanted);
}

#[test]
fn each_kind_of_mistake_is_found() {
    let data = "sqlite = [\"/a.db\"]\n";
    for (bad, wanted) in [
        ("[target.\"../a\"]\nsqlite = [\"/a.db\"]", "not usable"),
        ("[target.a]\nsqlite = [\"a.db\"]", "relative path"),
        ("[target.a]\nsqlite = \"/a.db\"", "not an array"),
        ("[target.a]\nsqlite = [1]", "not a string"),
        ("[target.a]\nsqlite = [\"\"]", "empty"),
        ("[target.a]\nsqlite = [\"/a\\u0000\"]", "NUL"),
        ("[target]\na = 3", "not a table"),
        ("target = 3", "not a table of named tables"),
        ("[target.a]\nprofile = \"plx\"", "no profile"),
        ("[targets.a]", "no key \"targets\""),
        ("[target.a]\nsqlite = [\"/a\"]\nservice = \"none\"", "no [service.none]"),
        ("[target.a]\nengine = \"postgres\"\nserver = \"db\"", "it is unix:/PATH or HOST:PORT"),
        ("[target.a]\nengine = \"postgres\"\nserver = \"db:1\"\ncontainer = \"x\"", "reached by its address"),
        ("[target.a]\nengine = \"influxdb1\"\nserver = \"db:1\"", "in its container only"),
        ("[target.a\n", "1:"),
        ("[target.a]\n[target.a]", "duplicate"),
    ] {
        assert!(said(bad).join("\n").contains(wanted), "{bad}: {:?}", said(bad));
    }
    for (bad, wanted) in [
        ("ready = [\"htp:x\"]", "write: ready = [\"http:"),
        ("stop = { timeout = 90 }", "string with a unit"),
        ("stop = { timeout = \"90\" }", "timeout"),
        ("stop = { timeout = \"9000y\" }", "longer than a year"),
        ("stop = { last-resort = \"kill\" }", "not one of its words"),
        ("stop = { signals = [{ signal = \"SIGKILL\", after = \"1s\" }] }", "\"SIGKILL\" is not one of its words"),
        ("stop = { signals = [{ signal = \"SIGINT\" }] }", "lacks the time"),
        ("retention = {}", "nothing would be kept"),
        ("retention = { last = -1 }", "whole number"),
        ("unit = \"a.service\"\npid-file = \"/a\"", "one of unit"),
        ("start-command = [\"/a\"]", "belongs to a pid-file"),
        ("command = [\"a\"]", "whole path"),
        ("command = []", "it is empty"),
        ("ping = \"hc-ping.com/secret\"", "begins with https"),
    ] {
        let text = format!("[target.a]\n{data}{bad}");
        let said = said(&text).join("\n");
        assert!(said.contains(wanted), "{bad}: {said}");
        assert!(!said.contains("secret"), "the address of a ping is a secret: {said}");
    }
}

#[test]
fn what_is_not_there_is_said_by_kind() {
    let discovery = discovery(WHOLE);
    let unknown = discovery.target("note").unwrap_err();
    assert_eq!((unknown.kind(), unknown.hint().as_deref()), (FailureKind::Usage, Some("did you mean notes?")));
    let missing = discovery.target("plex").unwrap_err();
    assert_eq!(missing.kind(), FailureKind::No);
    assert!(missing.to_string().contains("com.plexapp.plugins.library.db"), "{missing}");
    assert!(discovery.service("plex").is_ok(), "its service can be operated without its data");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("svckit.toml");
    assert_eq!(Config::read(&path).unwrap_err().kind(), FailureKind::Config);
    std::fs::write(&path, b"\xff\xfe").unwrap();
    assert_eq!(Config::read(&path).unwrap_err().kind(), FailureKind::Config);
    std::fs::write(&path, vec![b'#'; 1 << 21]).unwrap();
    assert!(Config::read(&path).unwrap_err().to_string().contains("1 MiB"));
}

#[test]
fn a_file_that_others_could_change_is_not_obeyed() {
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};
    let dir = tempfile::tempdir().unwrap();
    let (open, own) = (dir.path().join("open"), dir.path().join("own"));
    std::fs::create_dir(&open).unwrap();
    std::fs::create_dir(&own).unwrap();
    let (path, link) = (own.join("svckit.toml"), open.join("svckit.toml"));
    std::fs::write(&path, WHOLE).unwrap();
    symlink(&path, &link).unwrap();
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    let refused = |path: &Path, wanted: &str| {
        let error = Config::read(path).unwrap_err();
        assert_eq!(error.kind(), FailureKind::Permission, "{error}");
        assert!(error.to_string().contains(wanted) && error.hint().unwrap().contains("chmod"), "{error}");
        let rules = crate::discover::file::read(path).unwrap_err();
        assert_eq!(rules.kind(), FailureKind::Permission);
    };
    for right in [0o600, 0o644] {
        mode(&path, right);
        assert!(Config::read(&path).is_ok() && Config::read(&link).is_ok());
    }
    mode(&path, 0o666);
    refused(&path, "svckit.toml can be written by everybody (mode 0666)");
    refused(&link, "own/svckit.toml can be written by everybody");
    mode(&path, 0o644);
    mode(&own, 0o777);
    refused(&path, "own can be written by everybody");
    // As /tmp is: a file in it stays its owner's.
    mode(&own, 0o1777);
    assert!(Config::read(&path).is_ok());
    mode(&open, 0o777);
    refused(&link, "open can be written by everybody");
    mode(&open, 0o1777);
    assert!(Config::read(&link).is_ok());
    if rustix::process::geteuid().is_root() {
        lchown(&link, Some(1234), None).unwrap();
        refused(&link, "belongs to user 1234");
        lchown(&path, None, Some(1234)).unwrap();
        mode(&path, 0o664);
        refused(&path, "can be written by group 1234");
        mode(&path, 0o644);
        assert!(Config::read(&path).is_ok());
        lchown(&path, Some(1234), None).unwrap();
        refused(&path, "belongs to user 1234");
    }
}

/// A small generator with a fixed seed: the same mutations on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

#[test]
fn no_mutation_makes_the_reader_panic_or_accept_a_relative_path() {
    const PIECES: [&str; 12] = ["[", "]", "=", "\"", "{", "}", "\n", "\u{0}", "é", "\"\"\"", "\\", "1e999"];
    let mut random = Random(0x5eed_5eed_5eed_5eed);
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut text: Vec<char> = WHOLE.chars().collect();
        for _ in 0..=random.below(4) {
            let at = random.below(text.len());
            match random.below(4) {
                0 => drop(text.remove(at)),
                1 => text.truncate(at.max(1)),
                2 => drop(text.splice(at..at, PIECES[random.below(PIECES.len())].chars()).collect::<Vec<_>>()),
                _ => {
                    let to = random.below(text.len());
                    text.swap(at, to);
                }
            }
            if text.is_empty() {
                text.push('#');
            }
        }
        let text: String = text.into_iter().collect();
        match Config::parse(&text) {
            Ok(config) => {
                accepted += 1;
                let all = config.targets.values().filter_map(|target| target.sqlite.as_ref()).flatten();
                assert!(all.into_iter().all(|path| path.is_absolute()), "{text}");
            }
            Err(findings) => {
                assert!(!findings.is_empty(), "refused without a reason: {text}");
                let lines = text.lines().count().max(1) + 1;
                assert!(findings.iter().all(|f| f.line >= 1 && f.line <= lines && f.column >= 1), "{text}");
            }
        }
    }
    assert!(accepted > 100, "the mutations must also leave valid texts: {accepted}");
}

#[test]
fn an_engine_behind_tls_is_named_with_its_files_and_without_them_is_refused() {
    let docker = |lines: &str| format!("[docker]\nendpoint = \"tcp://db.example:2376\"\n{lines}");
    let all = "tls-ca = \"/c/ca.pem\"\ntls-cert = \"/c/cert.pem\"\ntls-key = \"/c/key.pem\"\n";
    let Some(Endpoint::Tls { address, files }) = Config::parse(&docker(all)).unwrap().docker.endpoint else { panic!() };
    assert_eq!((address.as_str(), files.ca.to_str()), ("db.example:2376", Some("/c/ca.pem")));
    assert_eq!(files.client.unwrap().key, Path::new("/c/key.pem"));
    for (lines, wanted) in [
        (docker(""), "tls-ca, tls-cert and tls-key"),
        (docker("tls-ca = \"/a\"\ntls-cert = \"/a\""), "it lacks tls-key"),
        (docker("tls-cert = \"/a\"\ntls-key = \"/a\""), "it lacks tls-ca"),
        (docker("tls-ca = \"ca.pem\""), "relative path"),
        ("[docker]\ntls-ca = \"/a\"".to_owned(), "lacks its endpoint"),
        ("[docker]\ntls-ca = \"/a\"\nendpoint = \"unix:///a\"".to_owned(), "with TLS it is tcp://HOST:PORT"),
    ] {
        let said = said(&lines).join("\n");
        assert!(said.contains(wanted), "{lines}: {said}");
    }
}

#[test]
fn locks_on_a_network_file_system_are_refused_unless_it_is_said_otherwise() {
    assert_eq!(Config::parse("").unwrap().locks_on_network, OnNetwork::Refuse);
    assert_eq!(Config::parse("[locks]\non-network = \"warn\"\n").unwrap().locks_on_network, OnNetwork::Warn);
    let said = said("[locks]\non-network = \"allow\"\nwait = 3\n").join("\n");
    assert!(said.contains("\"allow\" is not one of its words") && said.contains("no key \"wait\""), "{said}");
}

#[test]
fn a_group_has_members_or_a_project_and_a_name_of_its_own() {
    let target = |name: &str| format!("[target.{name}]\nsqlite = [\"/{name}.db\"]\ncompress = \"none\"\n");
    let (a, b) = (target("a"), target("b"));
    let text = format!("{a}{b}[group.both]\nmembers = [\"b\", \"a\"]\nstore = \"/srv\"\nretention = {{ last = 3 }}\n");
    let found = discovery(&text);
    let group = found.group("both").unwrap();
    let names: Vec<&str> = group.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!((names, group.target.retention.unwrap().last), (vec!["b", "a"], 3));
    assert_eq!(group.members[0].compression, Some(Compression::None));
    assert_eq!((found.of_all(), found.is_group("both"), found.is_group("a")), (vec!["both".to_owned()], true, false));
    let unknown = discovery(&format!("{a}[group.g]\nmembers = [\"a\", \"c\"]\n")).group("g").unwrap_err();
    assert_eq!(unknown.kind(), FailureKind::Usage);
    let nobody = discovery("[group.g]\ncompose = \"shop\"\n").group("g").unwrap_err();
    assert_eq!(nobody.kind(), FailureKind::No);
    for (bad, wanted) in [
        ("[group.g]\n", "either members or a Compose project"),
        ("[group.g]\nmembers = [\"a\"]\ncompose = \"x\"\n", "either members or a Compose project"),
        ("[group.g]\nmembers = [\"a\", \"a\"]\n", "named twice"),
        ("[group.g]\nmembers = [\"../a\"]\n", "not usable"),
        ("[group.g]\nmembers = [\"a\"]\nmode = \"cold\"\n", "no key \"mode\""),
        ("[group.a]\nmembers = [\"a\"]\n", "has the name of a target"),
    ] {
        let said = said(&format!("{a}{bad}")).join("\n");
        assert!(said.contains(wanted), "{bad}: {said}");
    }
}
