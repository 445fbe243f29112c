//! The journal of an update: each step stands there before it is taken. It tells people where an update stopped; what is
//! to be done about it is told by the names in the tree.

use serde::{Deserialize, Serialize};

use super::{Generation, PublishError, Tree};
use crate::world::disk::{AtPath, remove_durably, write_durably};
use crate::world::{ProcessId, clock};

const MODE: u32 = 0o644;

/// An update that is running, or that did not end well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interrupted {
    /// `update`, `receive`.
    pub operation: String,
    /// The generation that it makes.
    pub generation: Generation,
    /// Who makes it.
    pub process: ProcessId,
    /// When it began (RFC 3339, UTC).
    pub began: String,
    /// Its steps, the last one being where it is, or stopped.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What is done: `copy`, `run`, `sync`, `check`, `verify`, `name`, `switch`.
    pub name: String,
    /// How far it is.
    pub state: StepState,
    /// Since when (RFC 3339, UTC).
    pub since: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// It was begun: it runs, or its process died in it.
    Begun,
    /// It is done.
    Done,
    /// It failed.
    Failed,
}

impl Interrupted {
    /// Whether its process is still at work.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.is_alive().unwrap_or(false) && self.steps.iter().all(|step| step.state != StepState::Failed)
    }
}

fn path(tree: &Tree) -> std::path::PathBuf {
    tree.state().join("journal.json")
}

/// What stands in the journal; one that can't be read tells nothing.
pub(super) fn read(tree: &Tree) -> Option<Interrupted> {
    serde_json::from_slice(&std::fs::read(path(tree)).ok()?).ok()
}

/// Nothing is left to tell.
pub(super) fn forget(tree: &Tree) -> Result<(), PublishError> {
    Ok(remove_durably(&path(tree))?)
}

/// The journal of the update that we are.
#[derive(Debug)]
pub(super) struct Steps {
    tree: Tree,
    of: Interrupted,
}

impl Steps {
    pub(super) fn begin(tree: &Tree, operation: &str, generation: Generation) -> Result<Self, PublishError> {
        let process = ProcessId::own().at("read", std::path::Path::new("/proc/self/stat"))?;
        let of = Interrupted {
            operation: operation.to_owned(),
            generation,
            process,
            began: clock::now_rfc3339(),
            steps: Vec::new(),
        };
        let steps = Self { tree: tree.clone(), of };
        steps.write(true)?;
        Ok(steps)
    }

    /// The step before is done, and this one begins.
    pub(super) fn step(&mut self, name: &str) -> Result<(), PublishError> {
        self.end_last(StepState::Done, None);
        let (name, since) = (name.to_owned(), clock::now_rfc3339());
        self.of.steps.push(Step { name, state: StepState::Begun, since, why: None });
        self.write(false)
    }

    /// The step that was begun failed. Best effort: what is told to the person stands on its own.
    pub(super) fn fail(&mut self, why: &str) {
        self.end_last(StepState::Failed, Some(why.to_owned()));
        if let Err(error) = self.write(true) {
            tracing::debug!(%error, "the failed step could not be noted");
        }
    }

    /// All is done.
    pub(super) fn done(self) -> Result<(), PublishError> {
        forget(&self.tree)
    }

    fn end_last(&mut self, state: StepState, why: Option<String>) {
        if let Some(last) = self.of.steps.last_mut() {
            (last.state, last.why) = (state, why);
        }
    }

    /// Only the first and the last state are made durable: a power cut may show an earlier step, and nothing hangs on it.
    fn write(&self, durably: bool) -> Result<(), PublishError> {
        let path = path(&self.tree);
        let text = serde_json::to_vec(&self.of).map_err(std::io::Error::from).at("write", &path)?;
        if durably {
            return Ok(write_durably(&path, &text, MODE)?);
        }
        let temporary = path.with_file_name(".journal.json.svckit-tmp");
        std::fs::write(&temporary, text).at("write to", &temporary)?;
        Ok(std::fs::rename(&temporary, &path).at("rename into place", &path)?)
    }
}
