//! The text form of a check.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::{Probe, ReadyCheck};
use crate::failure::{Failure, FailureKind};

/// A readiness check that can't be read, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the readiness check {text:?} can't be read: {reason}")]
pub struct ReadyParseError {
    text: String,
    reason: String,
}

impl Failure for ReadyParseError {
    fn kind(&self) -> FailureKind {
        FailureKind::Usage
    }
    fn hint(&self) -> Option<String> {
        Some(
            "write unit, pid, health, tcp:HOST:PORT, http:URL[=STATUS], exec:COMMAND or log:REGEX, then options such as \
             ;timeout=90s;interval=500ms;passes=3"
                .to_owned(),
        )
    }
}

/// The longest time that a bound may have: a day.
const BOUND_MAX: Duration = Duration::from_secs(24 * 3600);
/// The shortest interval: a probe that never rests would be a load of its own.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

impl FromStr for ReadyCheck {
    type Err = ReadyParseError;

    fn from_str(text: &str) -> Result<Self, ReadyParseError> {
        parse(text).map_err(|reason| ReadyParseError { text: text.to_owned(), reason })
    }
}

fn parse(text: &str) -> Result<ReadyCheck, String> {
    if text.contains(['\n', '\0']) {
        return Err("it has a line break or a zero byte".to_owned());
    }
    let (spec, options) = split_options(text);
    let mut check = ReadyCheck::new(probe(spec)?);
    for option in options {
        let (key, value) = option.split_once('=').ok_or_else(|| format!("the option {option:?} has no value"))?;
        match key {
            "timeout" => check.timeout = duration(key, value)?,
            "interval" => {
                check.interval = duration(key, value)?;
                if check.interval < INTERVAL_MIN {
                    return Err(format!("interval={value} is less than 10ms"));
                }
            }
            "passes" => {
                check.passes = value
                    .parse()
                    .ok()
                    .filter(|n| (1..=1000).contains(n))
                    .ok_or_else(|| format!("passes={value} is no number from 1 to 1000"))?;
            }
            "file" => match &mut check.probe {
                Probe::Log { file, .. } if value.starts_with('/') => *file = Some(PathBuf::from(value)),
                Probe::Log { .. } => return Err(format!("file={value} is no absolute path")),
                _ => return Err("only a log check has a file".to_owned()),
            },
            _ => return Err(format!("there is no option {key:?}; there are timeout, interval, passes and file")),
        }
    }
    Ok(check)
}

/// The options are the trailing parts that begin with a known key, so that a command, a URL or a regular expression
/// may have a `;` of its own.
fn split_options(text: &str) -> (&str, Vec<&str>) {
    const KEYS: [&str; 4] = ["timeout=", "interval=", "passes=", "file="];
    let mut spec = text;
    let mut options = Vec::new();
    while let Some((before, last)) = spec.rsplit_once(';') {
        if !KEYS.iter().any(|key| last.starts_with(key)) {
            break;
        }
        options.push(last);
        spec = before;
    }
    options.reverse();
    (spec, options)
}

fn duration(key: &str, value: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(value).map_err(|e| format!("{key}={value}: {e}"))?;
    if parsed.is_zero() || parsed > BOUND_MAX {
        return Err(format!("{key}={value} is not between 1ms and 1day"));
    }
    Ok(parsed)
}

fn probe(spec: &str) -> Result<Probe, String> {
    let (kind, rest) = spec.split_once(':').unwrap_or((spec, ""));
    match (kind, rest) {
        ("unit", "") if spec == "unit" => Ok(Probe::Unit),
        ("pid", "") if spec == "pid" => Ok(Probe::Pid),
        ("health", "") if spec == "health" => Ok(Probe::Health),
        ("tcp", address) => {
            let (host, port) = address.rsplit_once(':').ok_or("tcp: needs HOST:PORT")?;
            let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| format!("{port:?} is no port"))?;
            let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
            if host.is_empty() || host.contains(char::is_whitespace) {
                return Err(format!("{host:?} is no host"));
            }
            Ok(Probe::Tcp { host: host.to_owned(), port })
        }
        ("http", rest) => http(rest),
        ("exec", command) => {
            let argv = shlex::split(command).ok_or("the command has an open quote")?;
            if argv.first().is_none_or(String::is_empty) {
                return Err("exec: needs a command".to_owned());
            }
            Ok(Probe::Exec { argv })
        }
        ("log", pattern) => {
            if pattern.is_empty() {
                return Err("log: needs a regular expression".to_owned());
            }
            regex::Regex::new(pattern).map_err(|e| format!("the regular expression: {e}"))?;
            Ok(Probe::Log { pattern: pattern.to_owned(), file: None })
        }
        _ => Err("it is none of unit, pid, health, tcp:, http:, exec:, log:".to_owned()),
    }
}

fn http(rest: &str) -> Result<Probe, String> {
    // `http:http://host/path` and the short `http://host/path` are the same check.
    let full = if rest.starts_with("//") { format!("http:{rest}") } else { rest.to_owned() };
    let (url, status) = match full.rsplit_once('=') {
        Some((url, digits)) if digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit()) => {
            let status: u16 = digits.parse().map_err(|_| format!("{digits:?} is no status"))?;
            if !(100..=599).contains(&status) {
                return Err(format!("{status} is no HTTP status"));
            }
            (url.to_owned(), Some(status))
        }
        _ => (full, None),
    };
    if !url.starts_with("http://") || url.len() <= "http://".len() || url.contains(char::is_whitespace) {
        return Err(format!("{url:?} is no http:// URL"));
    }
    Ok(Probe::Http { url, status })
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit => f.write_str("unit"),
            Self::Pid => f.write_str("pid"),
            Self::Health => f.write_str("health"),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
            Self::Http { url, status: Some(status) } => write!(f, "http:{url}={status}"),
            Self::Http { url, status: None } => write!(f, "http:{url}"),
            Self::Exec { argv } => {
                let words = shlex::try_join(argv.iter().map(String::as_str)).map_err(|_| fmt::Error)?;
                write!(f, "exec:{words}")
            }
            Self::Log { pattern, .. } => write!(f, "log:{pattern}"),
        }
    }
}

impl fmt::Display for ReadyCheck {
    /// The text form with every option, so that it reads back as the same check.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.probe)?;
        if let Probe::Log { file: Some(file), .. } = &self.probe {
            write!(f, ";file={}", file.display())?;
        }
        let (timeout, interval) = (humantime::format_duration(self.timeout), humantime::format_duration(self.interval));
        write!(f, ";timeout={timeout};interval={interval};passes={}", self.passes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_reads_back_as_itself() {
        for text in [
            "unit",
            "pid;passes=3",
            "health;passes=2",
            "tcp:127.0.0.1:8080;timeout=5s;interval=50ms;passes=2",
            "tcp:[::1]:80",
            "http:http://127.0.0.1:32400/identity",
            "http://127.0.0.1/health?x=a;b=401",
            "http:http://h/q?a=b=204",
            "exec:/bin/sh -c 'exit 0; true';timeout=1m",
            "log:ready (to|for) work;passes=1",
            "log:up;file=/var/log/a b.log;timeout=2s",
        ] {
            let check: ReadyCheck = text.parse().unwrap();
            assert_eq!(check.to_string().parse::<ReadyCheck>().unwrap(), check, "{text}");
        }
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        for text in [
            "",
            "unit:",
            "unitx",
            "tcp:",
            "tcp:host",
            "tcp:host:0",
            "tcp:host:99999",
            "tcp::80",
            "http:",
            "http:ftp://x",
            "http://",
            "http:http://h=999",
            "exec:",
            "exec:'open",
            "exec:''",
            "log:",
            "log:(",
            "pid;passes=0",
            "pid;passes=x",
            "pid;timeout=0s",
            "pid;timeout=2days",
            "pid;interval=1ms",
            "pid;file=/x",
            "log:x;file=rel",
            "pid;speed=3",
            "pid;timeout",
            "log:a\nb",
        ] {
            assert!(text.parse::<ReadyCheck>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_reads_back(text in "\\PC{0,60}") {
            if let Ok(check) = text.parse::<ReadyCheck>() {
                prop_assert_eq!(check.to_string().parse::<ReadyCheck>().unwrap(), check);
            }
        }

        #[test]
        fn near_misses_do_not_panic(kind in "(unit|pid|tcp|http|exec|log)", rest in "[:;=/a-z0-9'\\[\\]. ]{0,40}") {
            let text = format!("{kind}{rest}");
            if let Ok(check) = text.parse::<ReadyCheck>() {
                prop_assert_eq!(check.to_string().parse::<ReadyCheck>().unwrap(), check);
            }
        }
    }
}
