//! Whether every definition in the schema is SQL. SQLite's own parser says so, on an empty database in memory: a
//! statement is compiled there and never run.

use rusqlite::Connection;

use super::super::schema::{Object, ObjectKind, Schema};
use super::report::{Finding, FindingKind, Findings, Loss};

pub(super) fn check(schema: &Schema, findings: &Findings) {
    let parser = Connection::open_in_memory().ok();
    for object in &schema.objects {
        if let Some(what) = fault(object, parser.as_ref()) {
            let loss = match object.kind {
                ObjectKind::Index => Loss::Index,
                ObjectKind::Table | ObjectKind::VirtualTable => Loss::Unknown,
                ObjectKind::View | ObjectKind::Trigger => Loss::Nothing,
            };
            findings.add(Finding::new(FindingKind::Schema, loss, what).of(&object.name));
        }
    }
}

fn fault(object: &Object, parser: Option<&Connection>) -> Option<String> {
    let automatic = object.kind == ObjectKind::Index && object.name.starts_with("sqlite_autoindex_");
    let Some(sql) = &object.sql else {
        return (!automatic).then(|| "it has no definition".to_owned());
    };
    let kind = match object.kind {
        ObjectKind::Table => "TABLE",
        ObjectKind::VirtualTable => "VIRTUAL",
        ObjectKind::Index => "INDEX",
        ObjectKind::View => "VIEW",
        ObjectKind::Trigger => "TRIGGER",
    };
    let mut words = sql.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let creates = words.next().is_some_and(|word| word.eq_ignore_ascii_case("create"))
        && words.take(2).any(|word| word.eq_ignore_ascii_case(kind));
    if !creates {
        return Some("its definition is not one".to_owned());
    }
    // Everything else that SQLite may say (no such table, no such collation) is due to the empty database.
    let text = parser?.prepare(sql).err()?.to_string();
    let is_syntax = ["syntax error", "unrecognized token", "incomplete input"].iter().any(|word| text.contains(word));
    is_syntax.then(|| format!("its definition can't be read: {}", text.split(" in ").next().unwrap_or_default()))
}
