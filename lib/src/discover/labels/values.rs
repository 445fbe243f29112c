//! The labels of one target, read one by one. What is wrong is collected, and the value is read as absent.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::finding::{LabelFinding, bad_value, unknown};
use super::schema::{KEYS, PREFIX};

/// The longest list of a label. A label is written by a person.
const ITEMS_MAX: usize = 256;
/// The longest stop that can be meant.
const STOP_MAX: Duration = Duration::from_secs(24 * 3600);

/// The labels that hold for one target: its own, and those without a target's name where it has none of its own.
pub(super) struct Values<'a> {
    container: &'a str,
    /// By key: the whole label and its value.
    values: BTreeMap<&'a str, (&'a str, &'a str)>,
    /// The keys that do not only come from the labels of all targets.
    own: BTreeSet<&'a str>,
    findings: RefCell<Vec<LabelFinding>>,
}

/// A label's target, if it names one, and key; `None` for a label that is not ours.
pub(super) fn split(label: &str) -> Option<(Option<&str>, &str)> {
    let rest = label.strip_prefix(PREFIX)?;
    Some(match rest.rsplit_once('.') {
        Some((target, key)) => (Some(target), key),
        None => (None, rest),
    })
}

impl<'a> Values<'a> {
    /// `own` are this target's, `shared` those that hold for every target of the container.
    pub(super) fn new(
        container: &'a str,
        own: impl Iterator<Item = (&'a str, &'a str)>,
        shared: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut values =
            Self { container, values: BTreeMap::new(), own: BTreeSet::new(), findings: RefCell::default() };
        for (is_own, (label, value)) in shared.map(|one| (false, one)).chain(own.map(|one| (true, one))) {
            let Some((_, key)) = split(label) else { continue };
            if !KEYS.iter().any(|known| known.name == key) {
                values.findings.get_mut().push(unknown(container, label));
                continue;
            }
            values.values.insert(key, (label, value));
            if is_own {
                values.own.insert(key);
            }
        }
        values
    }

    pub(super) fn into_findings(self) -> Vec<LabelFinding> {
        self.findings.into_inner()
    }

    pub(super) fn find(&self, finding: LabelFinding) {
        self.findings.borrow_mut().push(finding);
    }

    pub(super) fn refuse(&self, key: &str, what: impl Into<String>) {
        if let Some((label, value)) = self.values.get(key) {
            self.find(bad_value(self.container, label, value, what.into()));
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Whether this target's own labels have it.
    pub(super) fn is_own(&self, key: &str) -> bool {
        self.own.contains(key)
    }

    /// What a label says, without the space around it.
    pub(super) fn text(&self, key: &'static str) -> Option<&'a str> {
        let (_, value) = self.values.get(key)?;
        let value = value.trim();
        if value.is_empty() || value.contains('\0') {
            self.refuse(key, "it is empty, or has a NUL character");
            return None;
        }
        Some(value)
    }

    pub(super) fn parsed<T: FromStr<Err: std::fmt::Display>>(&self, key: &'static str) -> Option<T> {
        match self.text(key)?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                // What stands at a place for passwords may be one, and an error may repeat it.
                let of_secret = key.starts_with("password");
                let what = if of_secret { "it is no name that there could be".to_owned() } else { error.to_string() };
                self.refuse(key, what);
                None
            }
        }
    }

    pub(super) fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, value)| *value);
        if found.is_none() {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.refuse(key, format!("it is none of {}", all.join(", ")));
        }
        found
    }

    pub(super) fn yes(&self, key: &'static str) -> Option<bool> {
        const WORDS: [(&str, bool); 8] = [
            ("yes", true),
            ("no", false),
            ("true", true),
            ("false", false),
            ("on", true),
            ("off", false),
            ("1", true),
            ("0", false),
        ];
        let text = self.text(key)?;
        let found = WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, value)| *value);
        if found.is_none() {
            self.refuse(key, "it is neither yes nor no");
        }
        found
    }

    pub(super) fn number<T: TryFrom<i64>>(&self, key: &'static str, min: i64, max: i64) -> Option<T> {
        let text = self.text(key)?;
        let number = text.parse().ok().filter(|number| (min..=max).contains(number)).and_then(|n| T::try_from(n).ok());
        if number.is_none() {
            self.refuse(key, format!("it is no whole number from {min} to {max}"));
        }
        number
    }

    pub(super) fn duration(&self, key: &'static str) -> Option<Duration> {
        match humantime::parse_duration(self.text(key)?) {
            Ok(duration) if !duration.is_zero() && duration <= STOP_MAX => Some(duration),
            Ok(_) => {
                self.refuse(key, "it is not between 1ms and 1day");
                None
            }
            Err(error) => {
                self.refuse(key, format!("it is no duration: {error}"));
                None
            }
        }
    }

    /// The items of a list: in lines where it has several lines, else between commas.
    pub(super) fn items(&self, key: &'static str) -> Vec<&'a str> {
        let Some(text) = self.text(key) else { return Vec::new() };
        let by_line = if text.contains('\n') { '\n' } else { ',' };
        self.bounded(key, text.split(by_line))
    }

    /// The lines of a text that may have commas.
    pub(super) fn lines(&self, key: &'static str) -> Vec<&'a str> {
        self.text(key).map(|text| self.bounded(key, text.split('\n'))).unwrap_or_default()
    }

    fn bounded(&self, key: &'static str, items: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
        let mut items: Vec<&str> = items.map(str::trim).filter(|item| !item.is_empty()).take(ITEMS_MAX + 1).collect();
        if items.len() > ITEMS_MAX {
            self.refuse(key, format!("it lists more than {ITEMS_MAX}"));
            items.clear();
        }
        items
    }

    /// Each item of a list in a type of its own; those that are not usable are told.
    pub(super) fn parsed_items<T: FromStr<Err: std::fmt::Display>>(&self, key: &'static str) -> Vec<T> {
        let parse = |item: &str| item.parse().map_err(|error: T::Err| self.refuse(key, error.to_string())).ok();
        self.items(key).into_iter().filter_map(parse).collect()
    }

    /// Absolute paths.
    pub(super) fn paths(&self, key: &'static str) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for item in self.items(key) {
            match item.starts_with('/') {
                true => paths.push(PathBuf::from(item)),
                false => self.refuse(key, format!("{item:?} is no absolute path")),
            }
        }
        paths
    }
}
