//! Reading a unit's properties: a property that this systemd does not have is `None`, never a default.

use std::collections::HashMap;

use zbus::{OwnedVariant, Variant};

/// The properties of one object, as they were at one moment.
#[derive(Debug)]
pub(super) struct Properties(HashMap<String, OwnedVariant>);

/// One command of an Exec setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExecCommand {
    pub(super) argv: Vec<String>,
}

impl Properties {
    pub(super) fn new(all: HashMap<String, OwnedVariant>) -> Self {
        Self(all)
    }

    fn get(&self, name: &str) -> Option<&Variant<'static>> {
        self.0.get(name).map(|value| &**value)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Variant::Str(text) => Some(text.as_str()),
            Variant::ObjectPath(path) => Some(path.as_str()),
            _ => None,
        }
    }

    /// A text that is not empty.
    pub(super) fn word(&self, name: &str) -> Option<&str> {
        self.text(name).filter(|text| !text.is_empty())
    }

    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let Some(Variant::Array(array)) = self.get(name) else {
            return Vec::new();
        };
        array
            .iter()
            .filter_map(|item| if let Variant::Str(text) = item { Some(text.to_string()) } else { None })
            .collect()
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        match self.get(name)? {
            Variant::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// A number of any integer type; a negative one is `None`.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Variant::U64(value) => Some(*value),
            Variant::U32(value) => Some(u64::from(*value)),
            Variant::I32(value) => u64::try_from(*value).ok(),
            Variant::I64(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    pub(super) fn small(&self, name: &str) -> Option<i32> {
        self.number(name).and_then(|value| i32::try_from(value).ok())
    }

    /// Bytes as hexadecimal digits; `None` where they are missing or all zero.
    pub(super) fn hex(&self, name: &str) -> Option<String> {
        let Some(Variant::Array(array)) = self.get(name) else {
            return None;
        };
        let bytes: Vec<u8> =
            array.iter().filter_map(|item| if let Variant::U8(byte) = item { Some(*byte) } else { None }).collect();
        bytes.iter().any(|byte| *byte != 0).then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The job of a unit, as the path of its object; `None` where there is none.
    pub(super) fn job(&self) -> Option<String> {
        let Variant::Structure(pair) = self.get("Job")? else {
            return None;
        };
        match pair.fields() {
            [Variant::U32(id), Variant::ObjectPath(path)] if *id != 0 => Some(path.to_string()),
            _ => None,
        }
    }

    /// The commands of an Exec setting (`a(sasbttttuii)`).
    pub(super) fn commands(&self, name: &str) -> Vec<ExecCommand> {
        let Some(Variant::Array(array)) = self.get(name) else {
            return Vec::new();
        };
        array
            .iter()
            .filter_map(|item| {
                let Variant::Structure(command) = item else { return None };
                let Some(Variant::Array(words)) = command.fields().get(1) else { return None };
                let argv = words
                    .iter()
                    .filter_map(|word| if let Variant::Str(word) = word { Some(word.to_string()) } else { None })
                    .collect();
                Some(ExecCommand { argv })
            })
            .collect()
    }

    /// The parameters of the conditions or asserts of one kind (`a(sbbsi)`), `!` in front of a negated one.
    pub(super) fn asserts(&self, kind: &str) -> Vec<String> {
        let Some(Variant::Array(array)) = self.get("Asserts") else {
            return Vec::new();
        };
        array
            .iter()
            .filter_map(|item| {
                let Variant::Structure(assert) = item else { return None };
                match assert.fields() {
                    [Variant::Str(name), _, Variant::Bool(negated), Variant::Str(parameter), ..]
                        if name.as_str() == kind =>
                    {
                        Some(format!("{}{parameter}", if *negated { "!" } else { "" }))
                    }
                    _ => None,
                }
            })
            .collect()
    }
}
