//! The wait: every check in turn, N passes in a row on one run.

use std::time::Instant;

use super::probe::Prober;
use super::{ReadyCheck, Subject};
use crate::progress::Cancel;

/// A service on which every check passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The run on which they passed.
    pub run: String,
}

/// The check that did not pass in time.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("not ready: {check} did not pass {passes} times in a row within {timeout_s} s: {reason}")]
pub struct NotReady {
    /// The check.
    pub check: String,
    /// How often it had to.
    pub passes: u32,
    /// Within how many seconds.
    pub timeout_s: f64,
    /// What it answered last.
    pub reason: String,
}

/// Waits until every check has passed so often in a row as it asks for, all on one run of the service: a restart in
/// between starts everything anew. Each check's time begins when the one before it has passed.
///
/// # Errors
/// [`NotReady`] names the check and its last answer. Also for an empty list of a service that is not up.
pub fn wait_ready(checks: &[ReadyCheck], subject: &dyn Subject, cancel: &Cancel) -> Result<Ready, NotReady> {
    let mut probers: Vec<Prober<'_>> = checks.iter().map(Prober::new).collect();
    // Bounded: every restart of the service costs one of them.
    const RUNS_MAX: u32 = 10;
    let mut runs = 0;
    'runs: loop {
        runs += 1;
        let mut run: Option<String> = None;
        for (check, prober) in checks.iter().zip(&mut probers) {
            match pass(check, prober, subject, cancel, run.as_deref())? {
                Passed::OnRun(now) => run = Some(now),
                Passed::RunChanged if runs < RUNS_MAX => continue 'runs,
                Passed::RunChanged => return Err(not_ready(check, format!("the service was restarted {runs} times"))),
            }
        }
        match run.map_or_else(|| subject.is_up(), |run| Ok(Some(run))) {
            Ok(Some(run)) => return Ok(Ready { run }),
            Ok(None) => return Err(bare("the service is not up".to_owned())),
            Err(reason) => return Err(bare(reason)),
        }
    }
}

enum Passed {
    OnRun(String),
    RunChanged,
}

fn pass(
    check: &ReadyCheck,
    prober: &mut Prober<'_>,
    subject: &dyn Subject,
    cancel: &Cancel,
    run: Option<&str>,
) -> Result<Passed, NotReady> {
    let deadline = Instant::now() + check.timeout;
    let mut current: Option<String> = None;
    let mut in_a_row = 0;
    loop {
        let mut reason: String;
        match subject.is_up() {
            Ok(Some(now)) => {
                if run.is_some_and(|run| run != now) {
                    return Ok(Passed::RunChanged);
                }
                if current.as_ref() != Some(&now) {
                    in_a_row = 0;
                    current = Some(now);
                }
                match prober.attempt(subject, deadline.min(Instant::now() + check.timeout), cancel) {
                    Ok(()) => {
                        in_a_row += 1;
                        reason = format!("it passed {in_a_row} times");
                    }
                    Err(why) => {
                        in_a_row = 0;
                        reason = why;
                    }
                }
                // A pass counts for the run that was up before and after it.
                let same = subject.is_up().is_ok_and(|after| after == current);
                if !same {
                    in_a_row = 0;
                    reason = "the service went down or was restarted during the probe".to_owned();
                }
                if in_a_row >= check.passes
                    && let Some(run) = current.take()
                {
                    return Ok(Passed::OnRun(run));
                }
            }
            Ok(None) => {
                in_a_row = 0;
                current = None;
                reason = "the service is not up".to_owned();
            }
            Err(why) => {
                in_a_row = 0;
                reason = why;
            }
        }
        let now = Instant::now();
        if now >= deadline {
            return Err(not_ready(check, reason));
        }
        if cancel.is_requested() {
            return Err(not_ready(check, "the wait was cancelled".to_owned()));
        }
        // A change of the service ends the interval early.
        subject.wait_change((now + check.interval).min(deadline), cancel).map_err(|why| not_ready(check, why))?;
    }
}

fn not_ready(check: &ReadyCheck, reason: String) -> NotReady {
    let timeout_s = check.timeout.as_secs_f64();
    NotReady { check: check.probe.to_string(), passes: check.passes, timeout_s, reason }
}

fn bare(reason: String) -> NotReady {
    NotReady { check: "unit".to_owned(), passes: 1, timeout_s: 0.0, reason }
}
