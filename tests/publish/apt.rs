//! Two Debian repositories merged by a script, and apt reading the result over HTTP while it is published.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use svckit_testbed::command::{Outcome, Running, ended, ours, run, start};
use tempfile::TempDir;

use crate::publishers::UPDATE_MAX;
use crate::stress::scratch;

/// Nobody's on a machine of tests.
const PORT: u16 = 22_823;
const APT_MAX: Duration = Duration::from_secs(60);
/// Readings beside the publisher.
const READINGS: usize = 25;
/// The control is caught within so many.
const CONTROL_READINGS: usize = 200;
/// Packages of each source: the index is large enough to be caught half-written.
const PACKAGES: usize = 1500;

/// Makes the merged repository in `$3` from the sources `$1` and `$2`, in the order in which scripts do it. `$4` is
/// whether indices have names by their content too.
const MERGE: &str = r#"
set -eu
index=main/binary-amd64/Packages
mkdir -p "$3/dists/stable/main/binary-amd64"
cd "$3/dists/stable"
cat "$1/Packages" "$2/Packages" > $index
sum=$(sha256sum < $index | cut -d ' ' -f 1)
if [ "$4" = yes ]; then
  mkdir -p main/binary-amd64/by-hash/SHA256
  cp $index main/binary-amd64/by-hash/SHA256/$sum
fi
printf 'Suite: stable\nCodename: stable\nArchitectures: amd64\nComponents: main\nAcquire-By-Hash: %s\nDate: %s\nSHA256:\n %s %s %s\n' \
  "$4" "$(LC_ALL=C date -Ru)" "$sum" "$(wc -c < $index)" $index > Release
"#;

/// The source with that name and state: every stanza changes with it.
fn source(root: &Path, name: &str, state: u64) {
    let stanza = |n: usize| {
        format!(
            "Package: {name}-{n}\nVersion: {state}.{n}\nArchitecture: amd64\nMaintainer: Nobody <nobody@example.org>\n\
             Filename: pool/{name}-{n}_{state}.deb\nSize: {}\nSHA256: {:064x}\nDescription: a package of {name}\n\n",
            1000 + n,
            state * 1_000_000 + n as u64,
        )
    };
    let directory = root.join(name);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("Packages.new"), (0..PACKAGES).map(stanza).collect::<String>()).unwrap();
    fs::rename(directory.join("Packages.new"), directory.join("Packages")).unwrap();
}

fn merge(root: &Path, into: &Path, by_hash: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", MERGE, "merge"]).args([root.join("one"), root.join("two"), into.to_owned()]).arg(by_hash);
    command
}

/// The merge as the command of an update: it writes into the new generation.
fn published(root: &Path) -> Command {
    let mut command = ours("svc-publish", ["update", "--quiet", "--seed", "none", "--keep", "3"]);
    command.args(["--carry", "**/by-hash/**", "--carry-for", "50"]).arg(root.join("tree")).args(["--run", "--"]);
    command.args(["sh", "-c", MERGE, "merge"]).args([root.join("one"), root.join("two"), ".".into()]).arg("yes");
    command.env("SVCKIT_STATE_DIR", root.join("state"));
    command
}

/// An HTTP server for one directory, on loopback.
struct Web {
    nginx: Running,
    _directory: TempDir,
}

impl Web {
    fn start(root: &Path) -> Self {
        let directory = scratch();
        let own = directory.path().display();
        let text = format!(
            "daemon off; master_process off; pid {own}/pid; error_log {own}/errors;\nevents {{}}\n\
             http {{ access_log off; client_body_temp_path {own}/a; proxy_temp_path {own}/b; fastcgi_temp_path {own}/c;\n\
             uwsgi_temp_path {own}/d; scgi_temp_path {own}/e;\n\
             server {{ listen 127.0.0.1:{PORT}; root {}; }} }}\n",
            root.display()
        );
        fs::write(directory.path().join("nginx.conf"), text).unwrap();
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-c").arg(directory.path().join("nginx.conf")).arg("-e").arg(directory.path().join("errors"));
        let web = Self { nginx: start(command), _directory: directory };
        let until = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", PORT)).is_err() {
            assert!(Instant::now() < until, "nginx does not come up");
            assert!(!ended(web.nginx.pid(), Duration::from_millis(50)), "nginx has ended");
        }
        web
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.nginx.kill();
    }
}

/// `apt-get update`, from nothing, with nothing of this machine's apt.
fn apt(root: &Path) -> Outcome {
    let own = root.join("apt");
    let _not_there_yet = fs::remove_dir_all(&own);
    for name in ["lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d", "etc/trusted.gpg.d"]
    {
        fs::create_dir_all(own.join(name)).unwrap();
    }
    fs::write(own.join("status"), "").unwrap();
    fs::write(own.join("list"), format!("deb [trusted=yes] http://127.0.0.1:{PORT} stable main\n")).unwrap();
    let path = |name: &str| own.join(name).display().to_string();
    let options = [
        format!("Dir::State={}", own.display()),
        format!("Dir::State::lists={}", path("lists")),
        format!("Dir::State::status={}", path("status")),
        format!("Dir::Cache={}", path("cache")),
        format!("Dir::Etc={}", path("etc")),
        format!("Dir::Etc::sourcelist={}", path("list")),
        "Dir::Etc::sourceparts=-".to_owned(),
        "APT::Architecture=amd64".to_owned(),
        "APT::Architectures=amd64".to_owned(),
        "APT::Sandbox::User=root".to_owned(),
        "APT::Update::Error-Mode=any".to_owned(),
        "Acquire::Languages=none".to_owned(),
        "Acquire::http::Proxy=DIRECT".to_owned(),
        "Acquire::Retries=0".to_owned(),
    ];
    let mut command = Command::new("apt-get");
    command.args(options.iter().flat_map(|option| ["-o", option.as_str()])).arg("update");
    run(command, APT_MAX)
}

fn is_mismatch(outcome: &Outcome) -> bool {
    let text = format!("{}{}", outcome.stdout, outcome.stderr);
    text.contains("Hash Sum mismatch") || text.contains("unexpected size")
}

/// Reads until `enough` says so, while `publish` is called with one number after the other; the readings and the updates.
fn read_beside(root: &Path, publish: impl Fn(u64) + Sync, enough: impl Fn(usize, &Outcome) -> bool) -> (usize, u64) {
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut number = 1;
            while !is_over.load(std::sync::atomic::Ordering::SeqCst) {
                number += 1;
                publish(number);
            }
            number
        });
        let mut readings = 0;
        loop {
            let outcome = apt(root);
            readings += 1;
            if enough(readings, &outcome) {
                break;
            }
        }
        is_over.store(true, std::sync::atomic::Ordering::SeqCst);
        (readings, publisher.join().unwrap())
    })
}

fn sources(root: &Path, number: u64) {
    source(root, "one", number);
    source(root, "two", number);
}

fn tell(name: &str, readings: usize, updates: u64) {
    let text = format!("{name}: {readings} runs of apt-get update, {updates} states published\n");
    let _nobody_reads = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
}

pub(crate) fn never_a_mismatch() {
    let directory = scratch();
    let root = directory.path();
    sources(root, 1);
    run(published(root), UPDATE_MAX).expect(0);
    let _web = Web::start(&root.join("tree/current"));
    apt(root).expect(0);
    let publish = |number| {
        sources(root, number);
        run(published(root), UPDATE_MAX).expect(0);
    };
    let (readings, updates) = read_beside(root, publish, |readings, outcome| {
        assert!(outcome.status == 0 && !is_mismatch(outcome), "{outcome:?}");
        readings == READINGS
    });
    assert!(updates > 3, "nothing was published beside: {updates}");
    tell("apt", readings, updates);
}

pub(crate) fn a_naive_script_shows_one() {
    let directory = scratch();
    let root = directory.path();
    sources(root, 1);
    let place = root.join("tree/current");
    run(merge(root, &place, "no"), UPDATE_MAX).expect(0);
    let _web = Web::start(&place);
    apt(root).expect(0);
    let publish = |number| {
        sources(root, number);
        run(merge(root, &place, "no"), UPDATE_MAX).expect(0);
    };
    let is_caught = std::cell::Cell::new(false);
    let (readings, updates) = read_beside(root, publish, |readings, outcome| {
        is_caught.set(is_mismatch(outcome));
        is_caught.get() || readings == CONTROL_READINGS
    });
    assert!(is_caught.get(), "the control was not caught in {readings} readings and {updates} updates");
    tell("control: apt, in place", readings, updates);
}
