//! Telling somebody how a run went: a command after a failure, and pings as healthchecks.io understands them.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::failure::{Failure, FailureKind};
use crate::world::program::wait_for;

/// How long one ping may take, name resolution and handshake included.
const PING_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long the command may run; after that it is asked to end.
const COMMAND_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long curl may take beyond that.
const CURL_END_MAX: Duration = Duration::from_secs(5);

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The run begins.
    Start,
    /// It succeeded.
    Success,
    /// It failed.
    Fail,
}

/// Nobody could be told. Never says the address: it is a secret.
#[derive(Debug, thiserror::Error)]
pub enum AlertError {
    /// The ping was not taken.
    #[error("the configured ping was not taken: {reason}")]
    Ping {
        /// What happened, in general words.
        reason: String,
    },
    /// The command did not run or did not succeed.
    #[error("the on-failure command {program:?} {reason}")]
    Command {
        /// The program.
        program: String,
        /// What happened.
        reason: String,
    },
}

impl Failure for AlertError {
    fn kind(&self) -> FailureKind {
        FailureKind::Failed
    }
}

/// Pings the address: as it is for success, with `/start` or `/fail` after its path for the others. Bounded by 15 s.
///
/// `https` goes through curl(1): the library links no TLS of its own. The address reaches it through a pipe, not
/// through its arguments, which every user of the machine could read.
///
/// # Errors
/// When it is not taken, in words that don't give the address away.
pub fn ping(address: &str, event: Event) -> Result<(), AlertError> {
    let address = with_event(address, event);
    if address.starts_with("https://") {
        return ping_by_curl(&address).map_err(|reason| AlertError::Ping { reason });
    }
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(PING_WAIT_MAX))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .build()
        .into();
    match agent.get(address).call() {
        Ok(_) => Ok(()),
        Err(error) => Err(AlertError::Ping { reason: in_general(&error) }),
    }
}

fn ping_by_curl(address: &str) -> Result<(), String> {
    if address.contains(|c: char| c.is_control() || c == '"' || c == '\\') {
        return Err("it is no address".to_owned());
    }
    let mut child = Command::new("curl")
        .args(["--config", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("an https address needs curl, which can't be started: {error}"))?;
    let seconds = PING_WAIT_MAX.as_secs();
    let config = format!("url = \"{address}\"\nsilent\nfail\ngloboff\nproto = \"=https\"\nmax-time = {seconds}\n");
    // A curl that ended without reading says why by its status.
    let _read_or_ended = child.stdin.take().map(|mut stdin| stdin.write_all(config.as_bytes()));
    match wait_for(child, PING_WAIT_MAX + CURL_END_MAX, None).map_err(|error| error.kind().to_string())? {
        None => Err("curl did not end".to_owned()),
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("curl ended with {status}; curl(1) tells what that means")),
    }
}

fn with_event(address: &str, event: Event) -> String {
    let suffix = match event {
        Event::Start => "/start",
        Event::Success => "",
        Event::Fail => "/fail",
    };
    let (path, query) = address.split_once('?').map_or((address, None), |(path, query)| (path, Some(query)));
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    format!("{}{suffix}{query}", path.trim_end_matches('/'))
}

/// The library's own texts may repeat the address.
fn in_general(error: &ureq::Error) -> String {
    match error {
        ureq::Error::StatusCode(status) => format!("the answer was {status}"),
        ureq::Error::Timeout(_) => format!("no answer in {}", humantime::format_duration(PING_WAIT_MAX)),
        ureq::Error::HostNotFound => "its host has no address".to_owned(),
        ureq::Error::Io(error) => error.kind().to_string(),
        ureq::Error::ConnectionFailed => "no connection".to_owned(),
        ureq::Error::BadUri(_) => "it is no address".to_owned(),
        _ => "the request failed".to_owned(),
    }
}

/// Runs the command with the target and the reason as two more arguments, for at most a minute.
///
/// # Errors
/// When it can't be started, does not succeed, or does not end.
pub fn run_on_failure(argv: &[String], target: &str, reason: &str) -> Result<(), AlertError> {
    let Some((program, arguments)) = argv.split_first() else { return Ok(()) };
    let failed = |reason: String| AlertError::Command { program: program.clone(), reason };
    // An argument can't hold a NUL.
    let reason = reason.replace('\0', " ");
    let child = Command::new(program)
        .args(arguments)
        .args([target, &reason])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| failed(format!("can't be started: {error}")))?;
    match wait_for(child, COMMAND_WAIT_MAX, None).map_err(|error| failed(format!("can't be waited for: {error}")))? {
        None => Err(failed(format!("did not end in {}", humantime::format_duration(COMMAND_WAIT_MAX)))),
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(failed(format!("ended with {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    /// Answers one request with a status line, and tells the request line.
    fn answer_once(status: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/ping/uuid-secret", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            line
        });
        (address, server)
    }

    #[test]
    fn each_event_has_its_address() {
        for (event, path) in [(Event::Start, "/start"), (Event::Success, ""), (Event::Fail, "/fail")] {
            let (address, server) = answer_once("200 OK");
            ping(&address, event).unwrap();
            assert_eq!(server.join().unwrap(), format!("GET /ping/uuid-secret{path} HTTP/1.1\r\n"));
        }
        assert_eq!(with_event("https://h/x/?rid=1", Event::Fail), "https://h/x/fail?rid=1");
    }

    #[test]
    fn a_ping_that_is_not_taken_is_said_without_its_address() {
        let (address, server) = answer_once("404 Not Found");
        let error = ping(&address, Event::Success).unwrap_err().to_string();
        assert!(error.contains("404") && !error.contains("secret"), "{error}");
        drop(server.join());
        let error = ping(&address, Event::Success).unwrap_err().to_string();
        assert!(!error.contains("secret"), "nobody listens any more: {error}");
        let error = ping("http:// bad secret", Event::Success).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn an_https_address_is_in_nobodys_arguments_and_in_no_error() {
        // Nobody speaks TLS there: curl fails, or is not installed. Either way the answer says nothing of the address.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("https://{}/uuid-secret", listener.local_addr().unwrap());
        drop(listener);
        let error = ping(&address, Event::Start).unwrap_err().to_string();
        assert!(error.contains("curl") && !error.contains("secret"), "{error}");
        let error = ping("https://h/\"\nurl = \"file:///secret", Event::Start).unwrap_err().to_string();
        assert!(error.contains("no address") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn the_command_gets_target_and_reason_and_its_failure_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("told");
        let argv = |script: &str| ["/bin/sh", "-c", script, "sh"].map(str::to_owned).to_vec();
        let script = format!("printf '%s|%s' \"$1\" \"$2\" > {}", file.display());
        run_on_failure(&argv(&script), "notes", "no\0space").unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), "notes|no space");
        assert!(run_on_failure(&argv("exit 3"), "notes", "x").unwrap_err().to_string().contains("exit status: 3"));
        assert!(run_on_failure(&["/nonexistent".to_owned()], "notes", "x").is_err());
    }
}
