//! Mirrors: of this machine, and behind a real sshd on loopback.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use svckit_testbed::command::{Outcome, Running, ended, ours, program, run, sh, start};
use tempfile::TempDir;

use crate::publishers::{UPDATE_MAX, state, update};
use crate::readers::{How, Seen, reader};
use crate::stress::scratch;

const PORT: &str = "22822";

fn publish(root: &Path, number: u64) {
    state(&root.join("source"), number);
    run(update(root, &[]), UPDATE_MAX).expect(0);
}

fn svc_publish<S: AsRef<std::ffi::OsStr>>(root: &Path, words: &[S]) -> Outcome {
    let mut command = ours("svc-publish", words);
    command.env("SVCKIT_STATE_DIR", root.join("state"));
    run(command, UPDATE_MAX)
}

/// The state that a tree serves, of all its files.
fn served(tree: &Path) -> String {
    let texts = crate::readers::FILES.map(|name| std::fs::read_to_string(tree.join("current").join(name)).unwrap());
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    texts[0].lines().next().unwrap().to_owned()
}

fn is(tree: &Path, number: u64) {
    assert_eq!(served(tree), format!("state {number:010}"));
}

pub(crate) fn local() {
    let directory = scratch();
    let root = directory.path();
    let (tree, mirror) = (root.join("tree"), root.join("mirror"));
    let words = [Path::new("mirror"), &tree, &mirror];
    svc_publish(root, &["status".as_ref(), mirror.as_path()]).expect(2);
    publish(root, 1);
    svc_publish(root, &words).expect(0);
    is(&mirror, 1);
    publish(root, 2);
    publish(root, 3);
    svc_publish(root, &words).expect(0);
    // Again, it has it already.
    svc_publish(root, &words).expect(0);
    is(&mirror, 3);
    let target = std::fs::read_link(mirror.join("current")).unwrap();
    assert_eq!(target, Path::new("generations/000003"), "the numbers are the tree's");
    // Nothing older, unless that is said.
    svc_publish(root, &["switch".as_ref(), tree.as_path(), "2".as_ref()]).expect(0);
    let refused = svc_publish(root, &words).expect(22);
    assert!(refused.stderr.contains("newer than 000002"), "{}", refused.stderr);
    is(&mirror, 3);
    let older = [Path::new("mirror"), Path::new("--allow-older"), &tree, &mirror];
    svc_publish(root, &older).expect(0);
    is(&mirror, 2);
    // What is damaged does not travel.
    publish(root, 4);
    std::fs::write(tree.join("current").join("Release"), "state 0000000004\n".repeat(20).replace('4', "5")).unwrap();
    svc_publish(root, &words).expect(12);
    is(&mirror, 2);
    let names = std::fs::read_dir(mirror.join("generations")).unwrap();
    let hidden = names.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.')).count();
    assert_eq!(hidden, 0);
}

/// A server of our own, with keys of its own.
struct Server {
    directory: TempDir,
    sshd: Running,
}

impl Server {
    fn start() -> Self {
        let directory = scratch();
        let root = directory.path();
        let path = |name: &str| root.join(name).to_string_lossy().into_owned();
        for key in ["host-key", "key"] {
            sh("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", &path(key)]).expect(0);
        }
        std::fs::copy(root.join("key.pub"), root.join("authorized")).unwrap();
        let bin = program("svc-publish").parent().unwrap().display().to_string();
        let text = format!(
            "Port {PORT}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
             StrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\n\
             SetEnv SVCKIT_STATE_DIR={} PATH={bin}:/usr/bin:/bin\n",
            path("host-key"),
            path("authorized"),
            path("state-of-the-mirror"),
        );
        std::fs::write(root.join("sshd_config"), text).unwrap();
        std::fs::create_dir_all("/run/sshd").unwrap();
        let mut command = Command::new("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(root.join("sshd_config"));
        let server = Self { sshd: start(command), directory };
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(format!("127.0.0.1:{PORT}")).is_err() {
            assert!(std::time::Instant::now() < until, "sshd does not come up");
            assert!(!ended(server.sshd.pid(), Duration::from_millis(50)), "sshd has ended");
        }
        server
    }

    fn ssh(&self) -> String {
        let key = self.directory.path().join("key");
        format!(
            "ssh -F none -p {PORT} -i {} -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
             -o LogLevel=ERROR",
            key.display()
        )
    }

    fn mirror(&self, root: &Path, more: &[&str]) -> Command {
        let mut command = ours("svc-publish", ["mirror", "--quiet", "--ssh"]);
        command.arg(self.ssh()).args(more).arg(root.join("tree"));
        // A name with a space and a quote: two shells and rsync pass it on.
        command.arg(format!("127.0.0.1:{}", self.tree().display())).env("SVCKIT_STATE_DIR", root.join("state"));
        command
    }

    fn tree(&self) -> PathBuf {
        self.directory.path().join("the mirror's tree")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.sshd.kill();
    }
}

pub(crate) fn remote() {
    let (server, directory) = (Server::start(), scratch());
    let root = directory.path();
    publish(root, 1);
    run(server.mirror(root, &[]), UPDATE_MAX).expect(0);
    is(&server.tree(), 1);
    let first = std::fs::metadata(server.tree().join("current/Release")).unwrap();
    // A second one of the same content is linked there.
    run(update(root, &[]), UPDATE_MAX).expect(0);
    run(server.mirror(root, &[]), UPDATE_MAX).expect(0);
    let second = std::fs::metadata(server.tree().join("current/Release")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::ino(&first), std::os::unix::fs::MetadataExt::ino(&second));
    // Killed at whatever moment: the mirror serves one whole state, and the next mirroring works.
    let reads = reader(How::Leased, &server.tree(), 0, Duration::from_secs(4));
    let mut number = 2;
    while !ended(reads.pid(), Duration::ZERO) {
        number += 1;
        publish(root, number);
        let mut mirroring = start(server.mirror(root, &["--wait", "20s"]));
        if number % 2 == 1 && !ended(mirroring.pid(), Duration::from_millis(40 * (number % 13))) {
            mirroring.kill();
        }
        drop(mirroring.finish(UPDATE_MAX));
        served(&server.tree());
    }
    let seen: Seen = serde_json::from_value(reads.finish(UPDATE_MAX).expect(0).json()).unwrap();
    assert!(seen.mixed == 0 && seen.missing == 0 && seen.changes > 1, "{seen:?}");
    run(server.mirror(root, &["--wait", "20s"]), UPDATE_MAX).expect(0);
    is(&server.tree(), number);
    // The lock of the other side is held from the offer to the switch, and an older generation is refused there.
    svc_publish(root, &["switch".as_ref(), root.join("tree").as_path(), "--back".as_ref()]).expect(0);
    let refused = run(server.mirror(root, &[]), UPDATE_MAX).expect(22);
    assert!(refused.stderr.contains("newer than"), "{}", refused.stderr);
    run(server.mirror(root, &["--allow-older"]), UPDATE_MAX).expect(0);
    assert_eq!(served(&server.tree()), served(&root.join("tree")));
    // The other side that hears nothing gives the tree up in time, and at a signal.
    for (more, signal) in [(&["--command-timeout", "300ms"][..], None), (&[], Some(rustix::process::Signal::TERM))] {
        let mut command = ours("svc-publish", ["receive"]);
        command.args(more).arg(server.tree()).env("SVCKIT_STATE_DIR", root.join("state"));
        let (silent, _kept) = std::io::pipe().unwrap();
        let receiving = svckit_testbed::command::start_with_input(command, silent);
        if let Some(signal) = signal {
            assert!(svckit_testbed::command::signal(receiving.pid(), signal));
        }
        assert_ne!(receiving.finish(UPDATE_MAX).status, 0);
    }
    // Nobody is there.
    let mut nowhere = ours("svc-publish", ["mirror", "--ssh", "ssh -F none -p 1 -o BatchMode=yes"]);
    nowhere.arg(root.join("tree")).arg("127.0.0.1:/tree").env("SVCKIT_STATE_DIR", root.join("state"));
    let failed = run(nowhere, UPDATE_MAX).expect(30);
    assert!(failed.stderr.contains("the connection ended"), "{}", failed.stderr);
}
