//! Whether every definition in the schema is SQL. SQLite's own parser says so, on an empty database in memory: a
//! statement is compiled there and never run.

use rusqlite::Connection;

use super::super::schema::{Object, ObjectKind, Schema};
use super::opened;
use super::report::{Finding, FindingKind, Findings, Loss, NotChecked};

pub(super) fn check(schema: &Schema, findings: &Findings, not_checked: &mut Vec<NotChecked>) {
    let parser = Connection::open_in_memory().ok();
    let add = |object: &Object, what: String| {
        let loss = match object.kind {
            ObjectKind::Index => Loss::Index,
            ObjectKind::Table | ObjectKind::VirtualTable => Loss::Unknown,
            ObjectKind::View | ObjectKind::Trigger => Loss::Nothing,
        };
        findings.add(Finding::new(FindingKind::Schema, loss, what).of(&object.name));
    };
    let mut known = vec![false; schema.objects.len()];
    for (object, known) in schema.objects.iter().zip(&mut known) {
        if let Some(what) = fault(object, parser.as_ref()) {
            add(object, what);
            *known = true;
        }
    }
    // What can't be read may have been what others need.
    if !schema.faults.is_empty() {
        return;
    }
    missing_indices(schema, findings);
    if schema.objects.len() > opened::OBJECTS_MAX {
        let why = "it has too many definitions: each was read by itself only".to_owned();
        not_checked.push(NotChecked { object: "sqlite_schema".to_owned(), why });
        return;
    }
    for (at, what) in opened::unreadable(schema, known) {
        if let Some(object) = schema.objects.get(at) {
            add(object, what);
        }
    }
}

/// The indices that the constraints of a table call for: SQLite takes a schema without one of them for malformed.
fn missing_indices(schema: &Schema, findings: &Findings) {
    for table in schema.objects.iter().filter(|object| object.kind == ObjectKind::Table) {
        let Some(shape) = table.table_shape.as_ref().filter(|shape| !shape.doubtful) else { continue };
        for number in shape.automatic_with_a_tree() {
            let name = format!("sqlite_autoindex_{}_{number}", table.name);
            if !schema.objects.iter().any(|o| o.kind == ObjectKind::Index && o.name.eq_ignore_ascii_case(&name)) {
                let what = format!("its definition calls for the index {name}, which there is not");
                findings.add(Finding::new(FindingKind::Schema, Loss::Unknown, what).of(&table.name));
            }
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
    let message = message_of(parser?.prepare(sql).err()?)?;
    is_syntax(&message).then(|| format!("its definition can't be read: {message}"))
}

/// What SQLite itself says.
pub(super) fn message_of(error: rusqlite::Error) -> Option<String> {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } | rusqlite::Error::SqliteFailure(_, Some(msg)) => Some(msg),
        _ => None,
    }
}

/// As SQLite's parser words it: a table may be called so, too.
fn is_syntax(message: &str) -> bool {
    message.starts_with("near \"") && message.ends_with("\": syntax error")
        || message.starts_with("unrecognized token: \"")
        || message == "incomplete input"
}
