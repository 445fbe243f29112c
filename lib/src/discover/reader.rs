//! A typed reader over a TOML document that remembers where everything stood. Findings are collected, so that one
//! run tells everything that is wrong; the values that a finding concerns are read as absent.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::error::{Finding, nearest};

/// One document and what was found wrong with it.
pub(crate) struct Document<'i> {
    text: &'i str,
    findings: RefCell<Vec<(usize, Finding)>>,
}

impl<'i> Document<'i> {
    pub(crate) fn new(text: &'i str) -> Self {
        Self { text, findings: RefCell::default() }
    }

    /// The root table; `None` when the text is no TOML.
    pub(crate) fn parse(&self) -> Option<Spanned<DeTable<'i>>> {
        let (root, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            self.find(error.span().map_or(0, |span| span.start), error.message().to_owned(), None);
        }
        errors.is_empty().then_some(root)
    }

    pub(crate) fn find(&self, at: usize, what: String, instead: Option<String>) {
        let (line, column) = self.position(at);
        self.findings.borrow_mut().push((at, Finding { line, column, what, instead }));
    }

    fn position(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// What was wrong, in the order of the text.
    pub(crate) fn into_findings(self) -> Vec<Finding> {
        let mut findings = self.findings.into_inner();
        findings.sort_by_key(|(at, _)| *at);
        findings.into_iter().map(|(_, finding)| finding).collect()
    }
}

/// One table, of which the keys that are read are remembered, so that [`Self::finish`] can tell the others.
pub(crate) struct Table<'d, 'i> {
    document: &'d Document<'i>,
    table: &'d DeTable<'i>,
    /// For people: `[target.plex]`.
    name: String,
    asked: RefCell<Vec<&'static str>>,
    /// Its keys are names that the writer chose.
    free: Cell<bool>,
}

type Value<'i> = Spanned<DeValue<'i>>;

impl<'d, 'i> Table<'d, 'i> {
    pub(crate) fn new(document: &'d Document<'i>, table: &'d DeTable<'i>, name: String) -> Self {
        Self { document, table, name, asked: RefCell::default(), free: Cell::new(false) }
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.iter().any(|(k, _)| k.get_ref().as_ref() == key)
    }

    fn get(&self, key: &'static str) -> Option<&'d Value<'i>> {
        self.asked.borrow_mut().push(key);
        self.table.iter().find(|(k, _)| k.get_ref().as_ref() == key).map(|(_, value)| value)
    }

    fn wrong(&self, key: &str, value: &Value<'i>, wanted: &str, instead: &str) {
        let what = format!("{key} in {} is {}, not {wanted}", self.name, a_type(value.get_ref()));
        self.document.find(value.span().start, what, Some(instead.to_owned()));
    }

    /// Says that the value of `key` is not acceptable.
    pub(crate) fn refuse(&self, key: &'static str, why: &str, instead: Option<&str>) {
        let at = self.get(key).map_or(0, |value| value.span().start);
        self.document.find(at, format!("{key} in {}: {why}", self.name), instead.map(str::to_owned));
    }

    pub(crate) fn text(&self, key: &'static str, example: &str) -> Option<String> {
        let value = self.get(key)?;
        let text = value.get_ref().as_str().map(str::to_owned);
        if text.is_none() {
            self.wrong(key, value, "a string", &format!("{key} = {example:?}"));
        }
        text.filter(|text| self.usable(key, value, text))
    }

    /// A NUL can be in no path and no argument.
    fn usable(&self, key: &str, value: &Value<'i>, text: &str) -> bool {
        let usable = !text.is_empty() && !text.contains('\0');
        if !usable {
            let what = format!("{key} in {} is empty or has a NUL character", self.name);
            self.document.find(value.span().start, what, None);
        }
        usable
    }

    pub(crate) fn path(&self, key: &'static str, example: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.text(key, example)?);
        if !path.is_absolute() {
            self.refuse(key, "a relative path means another file in each directory", Some(example));
            return None;
        }
        Some(path)
    }

    pub(crate) fn texts(&self, key: &'static str, example: &str) -> Option<Vec<String>> {
        let value = self.get(key)?;
        let instead = format!("{key} = [{example:?}]");
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(key, value, "an array of strings", &instead);
            return None;
        };
        let mut texts = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_str() {
                Some(text) if self.usable(key, item, text) => texts.push(text.to_owned()),
                Some(_) => {}
                None => self.wrong(key, item, "a string", &instead),
            }
        }
        Some(texts)
    }

    /// Absolute paths, or paths below a root where `relative` is allowed.
    pub(crate) fn paths(&self, key: &'static str, example: &str, relative: bool) -> Option<Vec<PathBuf>> {
        let paths: Vec<PathBuf> = self.texts(key, example)?.into_iter().map(PathBuf::from).collect();
        if !relative && let Some(bad) = paths.iter().find(|path| !path.is_absolute()) {
            let why = format!("the relative path {bad:?} means another file in each directory");
            self.refuse(key, &why, Some(&format!("{key} = [{example:?}]")));
            return None;
        }
        Some(paths)
    }

    pub(crate) fn duration(&self, key: &'static str, example: &str) -> Option<Duration> {
        let value = self.get(key)?;
        let instead = format!("{key} = {example:?}");
        let Some(text) = value.get_ref().as_str() else {
            self.wrong(key, value, "a string with a unit", &instead);
            return None;
        };
        match humantime::parse_duration(text) {
            // Longer than a year is a slip of the unit, and would overflow sums of deadlines at the far end.
            Ok(duration) if duration <= Duration::from_secs(366 * 86_400) => Some(duration),
            Ok(_) => {
                self.refuse(key, "longer than a year", Some(&instead));
                None
            }
            Err(error) => {
                self.refuse(key, &error.to_string(), Some(&instead));
                None
            }
        }
    }

    pub(crate) fn count(&self, key: &'static str, example: u32) -> Option<u32> {
        let value = self.get(key)?;
        let number = value.get_ref().as_integer().and_then(|n| u32::from_str_radix(n.as_str(), n.radix()).ok());
        if number.is_none() {
            self.wrong(key, value, "a whole number from 0", &format!("{key} = {example}"));
        }
        number
    }

    pub(crate) fn truth(&self, key: &'static str) -> Option<bool> {
        let value = self.get(key)?;
        let truth = value.get_ref().as_bool();
        if truth.is_none() {
            self.wrong(key, value, "true or false", &format!("{key} = true"));
        }
        truth
    }

    /// A whole number from `-max` to `max`.
    pub(crate) fn integer(&self, key: &'static str, example: i32, max: i32) -> Option<i32> {
        let value = self.get(key)?;
        let number = value.get_ref().as_integer().and_then(|n| i32::from_str_radix(n.as_str(), n.radix()).ok());
        let number = number.filter(|number| (-max..=max).contains(number));
        if number.is_none() {
            self.wrong(key, value, &format!("a whole number from -{max} to {max}"), &format!("{key} = {example}"));
        }
        number
    }

    /// One of the words.
    pub(crate) fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let first = words.first().map_or("", |(word, _)| word);
        let text = self.text(key, first)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let all: Vec<String> = words.iter().map(|(word, _)| format!("{key} = {word:?}")).collect();
            self.refuse(key, &format!("{text:?} is not one of its words"), Some(&all.join(" or ")));
        }
        found
    }

    pub(crate) fn table(&self, key: &'static str, example: &str) -> Option<Table<'d, 'i>> {
        let value = self.get(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(key, value, "a table", example);
            return None;
        };
        Some(Table::new(self.document, table, format!("{key} of {}", self.name)))
    }

    /// The tables of an array of tables.
    pub(crate) fn tables(&self, key: &'static str, example: &str) -> Vec<Table<'d, 'i>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(key, value, "an array of tables", example);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_table() {
                Some(table) => tables.push(Table::new(self.document, table, format!("{key} of {}", self.name))),
                None => self.wrong(key, item, "a table", example),
            }
        }
        tables
    }

    /// The named tables below `[key.NAME]`, with their names and where these stand.
    pub(crate) fn named(&self, key: &'static str) -> Vec<(String, usize, Table<'d, 'i>)> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let example = format!("[{key}.NAME]");
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(key, value, "a table of named tables", &example);
            return Vec::new();
        };
        let mut named = Vec::new();
        for (name, value) in table.iter() {
            match value.get_ref().as_table() {
                Some(inner) => {
                    let title = format!("[{key}.{}]", name.get_ref());
                    named.push((name.get_ref().to_string(), start(name), Table::new(self.document, inner, title)));
                }
                None => self.wrong(name.get_ref(), value, "a table", &example),
            }
        }
        named
    }

    /// All of its keys, whatever they are called, each of which is a string.
    pub(crate) fn all_texts(&self, example: &str) -> Vec<(String, String)> {
        let mut texts = Vec::new();
        for (key, value) in self.table.iter() {
            let name = key.get_ref().as_ref();
            match value.get_ref().as_str() {
                Some(text) if self.usable(name, value, text) => texts.push((name.to_owned(), text.to_owned())),
                Some(_) => {}
                None => self.wrong(name, value, "a string", &format!("{name} = {example:?}")),
            }
        }
        self.free.set(true);
        texts
    }

    /// Says that a key itself is not acceptable.
    pub(crate) fn refuse_named(&self, key: &str, why: &str, instead: Option<&str>) {
        let at = self.table.iter().find(|(k, _)| k.get_ref().as_ref() == key).map_or(0, |(k, _)| start(k));
        self.document.find(at, format!("{key} in {}: {why}", self.name), instead.map(str::to_owned));
    }

    /// Tells every key that nobody asked for.
    pub(crate) fn finish(self) {
        let asked = self.asked.borrow();
        if self.free.get() {
            return;
        }
        for (key, _) in self.table.iter() {
            let name = key.get_ref().as_ref();
            if asked.contains(&name) {
                continue;
            }
            let instead = nearest(name, asked.iter().copied()).map(|near| format!("{near} = ..."));
            self.document.find(start(key), format!("{} has no key {name:?}", self.name), instead);
        }
    }
}

fn start(key: &Spanned<DeString<'_>>) -> usize {
    key.span().start
}

fn a_type(value: &DeValue<'_>) -> String {
    let article = if matches!(value, DeValue::Integer(_) | DeValue::Array(_)) { "an" } else { "a" };
    format!("{article} {}", value.type_str())
}
