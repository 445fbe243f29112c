//! Readiness against real sockets, commands and files.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Instant;

use super::*;
use crate::world::wait;
use std::os::fd::AsFd;

/// A service that is up, whose run changes after so many questions.
struct Runs {
    asked: Cell<u32>,
    changes_after: u32,
}

impl Subject for Runs {
    fn is_up(&self) -> Result<Option<String>, String> {
        self.asked.set(self.asked.get() + 1);
        Ok(Some(if self.asked.get() > self.changes_after { "second" } else { "first" }.to_owned()))
    }
    fn log(&self, _lines_max: usize) -> Result<Vec<String>, String> {
        Ok(vec!["starting".to_owned(), "ready to serve".to_owned()])
    }
    fn wait_change(&self, until: Instant, cancel: &Cancel) -> Result<(), String> {
        wait::readable(&[cancel.as_fd()], until).map(|_| ()).map_err(|e| e.to_string())
    }
}

fn check(text: &str) -> Result<Ready, NotReady> {
    let subject = Runs { asked: Cell::new(0), changes_after: u32::MAX };
    wait_ready(&[text.parse().unwrap()], &subject, &Cancel::new().unwrap())
}

fn serve(answers: Vec<&'static str>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0u8; 1024];
            let _read = stream.read(&mut request);
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    port
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const BUSY: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const MOVED: &str = "HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

#[test]
fn passes_count_in_a_row_only() {
    let port = serve(vec![OK, BUSY, OK, OK]);
    let ready = check(&format!("http://127.0.0.1:{port}/;passes=2;interval=10ms;timeout=20s"));
    assert_eq!(ready.unwrap().run, "first");
}

#[test]
fn the_status_that_is_asked_for_counts_and_redirects_are_not_followed() {
    let port = serve(vec![MOVED]);
    check(&format!("http://127.0.0.1:{port}/=302;timeout=20s")).unwrap();
    let port = serve(vec![MOVED; 50]);
    let error = check(&format!("http://127.0.0.1:{port}/;timeout=100ms;interval=10ms")).unwrap_err();
    assert!(error.to_string().contains("it answers 302"), "{error}");
}

#[test]
fn a_restart_in_between_starts_the_count_anew() {
    let subject = Runs { asked: Cell::new(0), changes_after: 3 };
    let checks = ["pid;passes=3;interval=10ms;timeout=20s".parse().unwrap()];
    let ready = wait_ready(&checks, &subject, &Cancel::new().unwrap()).unwrap();
    assert_eq!(ready.run, "second");
}

#[test]
fn a_closed_port_is_not_ready_and_the_error_says_which_check() {
    let port = { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() };
    let error = check(&format!("tcp:127.0.0.1:{port};timeout=50ms;interval=10ms")).unwrap_err();
    assert!(error.to_string().contains(&format!("tcp:127.0.0.1:{port}")), "{error}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    check(&format!("tcp:127.0.0.1:{};timeout=5s", listener.local_addr().unwrap().port())).unwrap();
}

#[test]
fn commands_are_run_without_a_shell_and_bounded() {
    check("exec:/bin/true").unwrap();
    let error = check("exec:/bin/false;timeout=1s;interval=10ms").unwrap_err();
    assert!(error.to_string().contains("exit status: 1"), "{error}");
    // Were it a shell line, the command would exit 0.
    check("exec:/bin/false \\; /bin/true;timeout=50ms;interval=10ms").unwrap_err();
    let began = Instant::now();
    check("exec:cat /dev/zero;timeout=100ms;interval=10ms").unwrap_err();
    assert!(began.elapsed() < std::time::Duration::from_secs(30));
}

#[test]
fn only_lines_of_this_run_count() {
    check("log:^ready to").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("service.log");
    std::fs::write(&path, "ready of an earlier run\n").unwrap();
    let text = format!("log:^ready;file={};timeout=50ms;interval=10ms", path.display());
    check(&text).unwrap_err();
    let checks: [ReadyCheck; 1] =
        [format!("log:^ready;file={};timeout=20s;interval=10ms", path.display()).parse().unwrap()];
    let subject = Runs { asked: Cell::new(0), changes_after: u32::MAX };
    let cancel = Cancel::new().unwrap();
    let mut probers = super::probe::Prober::new(&checks[0]);
    assert!(probers.attempt(&subject, Instant::now(), &cancel).is_err());
    let mut log = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    log.write_all(b"ready").unwrap();
    assert!(probers.attempt(&subject, Instant::now(), &cancel).is_err(), "a line without an end is none yet");
    log.write_all(b" now\n").unwrap();
    probers.attempt(&subject, Instant::now(), &cancel).unwrap();
}
