//! `svc-tend run`: the rules by their schedules, under systemd or by hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use svckit::FailureKind;
use svckit::tend::rule::{Checked, RuleError, RuleTask};
use svckit::tend::{Health, State, Supervised, Supervisor, TaskHealth, Worker};

use super::{ENDING, gate, listen, metrics, rules, said, state_dir};
use crate::app::App;
use crate::cli::tend::RunArgs;
use crate::error::ToolError;
use crate::exit::Outcome;

/// How often the health is looked at, where systemd's watchdog does not want it more often.
const LOOK: Duration = Duration::from_secs(10);
/// How often the figures are written.
const FIGURES: Duration = Duration::from_secs(60);

/// Runs until a signal ends it.
///
/// # Errors
/// When nothing of it can begin. Once it runs, nothing ends it but a signal.
pub(super) fn run(app: &App, args: &RunArgs) -> Result<Outcome, ToolError> {
    let rules = rules(app, &[])?;
    let mut unfit = Vec::new();
    for rule in &rules {
        match Checked::new(rule) {
            Ok(checked) => {
                for advice in &checked.advice {
                    let statement = advice.statement.as_deref().unwrap_or_default();
                    tracing::warn!(rule = rule.name, statement, "{}", advice.what);
                }
            }
            // It may come: a service that starts after us makes its database.
            Err(error @ RuleError::Unavailable { .. }) => tracing::warn!("{}", said(&error)),
            Err(error) => {
                tracing::error!("{}", said(&error));
                unfit.push(error);
            }
        }
    }
    // The others have their loops all the same; this one says at each pass what does not fit.
    if unfit.len() == rules.len()
        && let Some(first) = unfit.into_iter().next()
    {
        return Err(first.into());
    }
    let context = Arc::new(app.context_saying(ENDING)?);
    let directory = state_dir()?;
    let mut supervisor =
        Supervisor::new(&directory, context.cancel.clone()).map_err(ToolError::io("start", "the loops"))?;
    for rule in &rules {
        let state = State::open(&directory, &rule.name)?;
        let mut task = RuleTask::new(rule.clone(), &directory);
        if let Err(error) = task.look_for_violations(jiff::Timestamp::now()) {
            tracing::warn!(rule = rule.name, %error, "violated foreign keys were not looked for");
        }
        let worker = Worker::new(Box::new(task), state, rule.policy.clone());
        let task = Supervised { worker, schedule: rule.schedule.clone(), gate: gate(&context, rule) };
        supervisor.start(task).map_err(ToolError::io("start the loop of", &rule.name))?;
    }
    if let Some(address) = args.listen {
        listen::serve(address, rules.clone())?;
    }
    let mut notify = Notify::new();
    let mut written: Option<Instant> = None;
    supervisor.watch(notify.interval, &mut |healths| {
        notify.tell(healths, context.cancel.is_requested());
        if let Some(file) = args.textfile.as_deref().filter(|_| written.is_none_or(|at| at.elapsed() >= FIGURES)) {
            written = Some(Instant::now());
            if let Err(error) = metrics::write(&rules, file) {
                tracing::warn!("the figures were not written: {error}");
            }
        }
    });
    Ok(if notify.stuck { Outcome::Failed(FailureKind::Failed) } else { Outcome::Done })
}

/// What systemd is told (sd_notify(3)).
struct Notify {
    interval: Duration,
    watched: bool,
    ready: bool,
    stuck: bool,
    last: String,
}

impl Notify {
    fn new() -> Self {
        let watchdog = sd_notify::watchdog_enabled();
        let interval = watchdog.map_or(LOOK, |limit| (limit / 3).min(LOOK));
        Self { interval, watched: watchdog.is_some(), ready: false, stuck: false, last: String::new() }
    }

    /// The watchdog is fed by progress: not while a pass is stuck that does not even end when it is given up. What the
    /// others do goes on meanwhile; systemd then ends us in order, and starts us anew.
    fn tell(&mut self, healths: &[TaskHealth], stopping: bool) {
        let (mut states, mut words) = (Vec::new(), Vec::new());
        if !std::mem::replace(&mut self.ready, true) {
            states.push(NotifyState::Ready);
        }
        self.stuck = false;
        for TaskHealth { task: name, health } in healths {
            match health {
                Health::Working(since) => words.push(format!("{name}: works for {} s", since.elapsed().as_secs())),
                Health::Stuck(item) => {
                    self.stuck = true;
                    words.push(format!(
                        "{name}: stuck{}",
                        item.as_ref().map_or_else(String::new, |item| format!(" at {}", super::shown(item)))
                    ));
                }
                Health::Waiting(Some(next)) => words.push(format!("{name}: next at {}", next.strftime("%H:%M:%SZ"))),
                Health::Waiting(None) => words.push(format!("{name}: on demand")),
                Health::Ended => {}
            }
        }
        if self.watched && !self.stuck {
            states.push(NotifyState::Watchdog);
        }
        if stopping {
            states.push(NotifyState::Stopping);
        }
        let status = words.join(", ");
        if status != self.last {
            states.push(NotifyState::Status(&status));
        }
        if let Err(error) = sd_notify::notify(&states) {
            tracing::warn!(%error, "systemd could not be told");
        }
        self.last = status;
    }
}
