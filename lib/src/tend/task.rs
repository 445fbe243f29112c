//! What a maintenance task is: which items are due, and dealing with some of them.

use std::cmp::Ordering;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jiff::Timestamp;

use super::control::Control;
use crate::failure::{Failure, FailureKind};

/// Why an item, a unit or a look for items failed; it decides who is blamed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// This item can't be dealt with. The others can.
    #[error("{0}")]
    Item(String),
    /// Nothing is wrong with any item: something is locked, away or full. The pass ends, and comes again soon.
    #[error("{0}")]
    Unavailable(String),
    /// Nothing is wrong with any item, and a person has to change something. The pass ends, and comes again.
    #[error("{0}")]
    Broken(String),
}

impl Failure for TaskError {
    fn kind(&self) -> FailureKind {
        FailureKind::Failed
    }

    fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// Periodic work on items. An item is a name that is the same in each pass, and that sorts.
pub trait Task: Send {
    /// A pass begins. What can be interrupted keeps the control, and looks at [`Control::is_overdue`].
    fn begin(&mut self, _control: &Control) {}

    /// A pass has ended. Nothing depends on it: a pass that is killed has no end.
    fn end(&mut self) {}

    /// The order of items: that of their names, where the task has no other.
    fn compare(&self, one: &str, other: &str) -> Ordering {
        one.cmp(other)
    }

    /// The items that are due at `now`, at most `limit`, in the order of [`Self::compare`], behind `after`. What it finds is
    /// not changed by it.
    ///
    /// # Errors
    /// When it can't be told.
    fn due(&mut self, now: Timestamp, after: Option<&str>, limit: usize) -> Result<Vec<String>, TaskError>;

    /// Deals with the items of one unit, by [`Unit::each`]. What belongs together in one transaction begins before and is
    /// committed behind that call; an error takes the whole unit back.
    ///
    /// # Errors
    /// When the unit as a whole failed: nothing of it was done.
    fn work(&mut self, unit: &mut Unit<'_>) -> Result<(), TaskError>;
}

/// What became of an item in a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dealt {
    Done,
    Failed { reason: String, panicked: bool },
}

/// Some items that are dealt with together.
#[derive(Debug)]
pub struct Unit<'c> {
    items: Vec<String>,
    now: Timestamp,
    dealt: Vec<Dealt>,
    control: &'c Control,
}

impl<'c> Unit<'c> {
    pub(super) fn new(items: Vec<String>, now: Timestamp, control: &'c Control) -> Self {
        Self { items, now, dealt: Vec::new(), control }
    }

    /// The time at which the items were due.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The deadlines of the pass: what can be interrupted looks at them.
    #[must_use]
    pub fn control(&self) -> &'c Control {
        self.control
    }

    /// Calls `deal` with one item after the other. An error or a panic of one is remembered as that item's. Ends early
    /// where the time of the unit or of the pass is over, or the end was asked for; the items behind come in the next unit.
    ///
    /// # Errors
    /// The first that is no item's fault.
    pub fn each(&mut self, mut deal: impl FnMut(&str) -> Result<(), TaskError>) -> Result<(), TaskError> {
        self.dealt.clear();
        self.control.begin_unit();
        for item in &self.items {
            if !self.dealt.is_empty() && self.control.unit_is_over() {
                break;
            }
            self.control.begin_item(item);
            // What a panic leaves half done is the unit's own: its transaction is taken back to before the item.
            let result = catch_unwind(AssertUnwindSafe(|| deal(item)));
            self.control.end_item();
            self.dealt.push(match result {
                Ok(Ok(())) => Dealt::Done,
                Ok(Err(TaskError::Item(reason))) => Dealt::Failed { reason, panicked: false },
                Ok(Err(other)) => return Err(other),
                Err(panic) => Dealt::Failed { reason: message_of(panic.as_ref()), panicked: true },
            });
        }
        Ok(())
    }

    /// Each item that was dealt with, and how; empty where the task did not call [`Self::each`].
    pub(super) fn into_dealt(self) -> Vec<(String, Dealt)> {
        self.items.into_iter().zip(self.dealt).collect()
    }
}

/// What a panic said.
pub(super) fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("without a word"))
}
