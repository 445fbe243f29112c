//! Through a proxy that lets only those requests pass that svckit needs.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use svckit_testbed::command::{ended, run, signal};
use svckit_testbed::stories::Story;

use crate::shared;
use svckit_testbed::docker::{Engine, QUICK};

pub(crate) const STORIES: &[Story] =
    &[("through a proxy that lets only what svckit needs pass, it works and nothing else does", least_privilege)];

/// The configuration that is shipped, with its sockets here.
struct Proxy {
    child: Child,
    host: String,
}

impl Proxy {
    fn start(engine: &Engine) -> Self {
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bins/docker/haproxy.cfg");
        let text = std::fs::read_to_string(shipped).unwrap();
        let socket = engine.path("proxy.sock");
        let here = text
            .replace("/run/svckit-proxy/docker.sock", socket.to_str().unwrap())
            .replace("/var/run/docker.sock", engine.host().strip_prefix("unix://").unwrap());
        let configuration = engine.path("haproxy.cfg");
        std::fs::write(&configuration, here).unwrap();
        let child = Command::new("haproxy").arg("-db").arg("-f").arg(&configuration).spawn().unwrap();
        let until = Instant::now() + QUICK;
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < until, "haproxy does not listen");
            std::thread::yield_now();
        }
        Self { child, host: format!("unix://{}", socket.display()) }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).unwrap();
        signal(pid, Signal::TERM);
        assert!(ended(pid, Duration::from_secs(30)), "haproxy does not end");
        drop(self.child.wait());
    }
}

fn least_privilege() {
    let engine = shared();
    let proxy = Proxy::start(engine);
    let through = |program: &str, words: &[&str]| {
        let mut command = engine.tool(program, words);
        command.env("DOCKER_HOST", &proxy.host);
        run(command, 4 * QUICK)
    };
    let data = format!("{}:/data", engine.path("proxied").display());
    let options = ["--restart=always", "-v", &data, "--label=svckit.sqlite=/data/data.db", "--label=svckit.mode=cold"];
    let one = engine.service("proxied", &options, "--on-term slow --slow-for 500");
    through("svc-ctl", &["restart", "--container", "proxied"]).expect(0);
    one.assert_back(2, "always");
    let store = engine.path("proxied-store");
    through("svc-backup", &["backup", "proxied", "--to", store.to_str().unwrap()]).expect(0);
    one.assert_back(3, "always");
    engine.docker(["pause", "proxied"]).expect(0);
    through("svc-ctl", &["restart", "--container", "proxied"]).expect(0);
    one.assert_back(4, "always");

    // Its log can be read, and has no such line.
    let words = ["wait", "--container", "proxied", "--ready", "log:nothing of the kind;timeout=1s"];
    let not_ready = through("svc-ctl", &words).expect(10);
    assert!(not_ready.stderr.contains("no line matches"), "{not_ready:?}");

    // What would kill or take over is kept out, whoever asks.
    for words in [
        &["stop", "proxied"][..],
        &["stop", "-t", "0", "proxied"],
        &["kill", "proxied"],
        &["restart", "proxied"],
        &["rm", "-f", "proxied"],
        &["run", "--label=new-one", "-v", "/:/host", "testbed", "true"],
    ] {
        let mut command = Command::new("docker");
        command.args(words).env("DOCKER_HOST", &proxy.host);
        let refused = run(command, QUICK);
        // An answer that comes before the request is whole is an error of the connection for docker.
        let is_refused = refused.stderr.contains("403") || refused.stderr.contains("error during connect");
        assert!(refused.status != 0 && is_refused, "{refused:?}");
    }
    let new = engine.docker(["ps", "-aq", "--filter", "label=new-one"]).expect(0).stdout;
    assert_eq!((one.starts(), new.as_str()), (4, ""));
    engine.docker(["rm", "-f", "proxied"]).expect(0);
}
