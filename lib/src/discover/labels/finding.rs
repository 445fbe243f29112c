//! What is wrong with a label, and what to write instead.

use super::schema::{KEYS, NOT_BY_LABEL, OTHER_WORDS, PREFIX};
use crate::discover::error::nearest;

/// One thing that is wrong with the labels of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFinding {
    /// The container's name.
    pub container: String,
    /// The whole label; empty where what is wrong is that one is missing.
    pub label: String,
    /// Its value; `None` where it could be a secret, or where the label itself is wrong.
    pub value: Option<String>,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub instead: Option<String>,
}

impl std::fmt::Display for LabelFinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "container {}", self.container)?;
        match (&self.label, &self.value) {
            (label, _) if label.is_empty() => {}
            (label, Some(value)) => write!(f, ", label {label}={value:?}")?,
            (label, None) => write!(f, ", label {label}")?,
        }
        write!(f, ": {}", self.what)?;
        self.instead.as_ref().map_or(Ok(()), |instead| write!(f, " (write: {instead})"))
    }
}

/// A value is shown up to here: it can be megabytes.
const SHOWN_MAX: usize = 120;

fn shortened(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}\u{2026}", &text[..end]),
        None => text.to_owned(),
    }
}

/// The finding on a value that can't be read.
pub(super) fn bad_value(container: &str, label: &str, value: &str, what: String) -> LabelFinding {
    let key = label.rsplit('.').next().unwrap_or_default();
    let example = KEYS.iter().find(|known| known.name == key).map(|known| format!("{label}={}", known.example));
    LabelFinding {
        container: container.to_owned(),
        label: label.to_owned(),
        // What stands at a place for passwords may be one.
        value: (!key.contains("pass")).then(|| shortened(value, SHOWN_MAX)),
        what: shortened(&what, 4 * SHOWN_MAX),
        instead: example,
    }
}

/// The finding on a label that there is not: with what it is called here, or why there is none, or the nearest name.
pub(super) fn unknown(container: &str, label: &str) -> LabelFinding {
    let (scope, key) = label.rsplit_once('.').unwrap_or(("svckit", label));
    let lower = key.to_lowercase().replace('_', "-");
    let named = |key: &str| format!("{}.{key}=...", shortened(scope, SHOWN_MAX));
    let (what, instead) = if let Some((_, why)) = NOT_BY_LABEL.iter().find(|(name, _)| *name == lower) {
        ((*why).to_owned(), None)
    } else if let Some((_, here)) = OTHER_WORDS.iter().find(|(other, _)| *other == lower) {
        ("there is no such label".to_owned(), Some(named(here)))
    } else {
        let near = nearest(&lower, KEYS.iter().map(|known| known.name));
        ("there is no such label".to_owned(), near.map(named))
    };
    let label = shortened(label, SHOWN_MAX);
    LabelFinding { container: container.to_owned(), label, value: None, what, instead }
}

/// That something is missing.
pub(super) fn missing(container: &str, what: impl Into<String>, instead: &str) -> LabelFinding {
    LabelFinding {
        container: container.to_owned(),
        label: String::new(),
        value: None,
        what: shortened(&what.into(), 4 * SHOWN_MAX),
        instead: Some(format!("{PREFIX}{instead}")),
    }
}
