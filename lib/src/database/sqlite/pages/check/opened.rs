//! Whether SQLite can open a database with these definitions: it reads all of them before anything else, and one that it
//! can't read makes all of the database unusable to it.
//!
//! It reads them in an empty database in memory whose schema has the same rows, and so exactly as it would read them where
//! they are: what only the service knows (functions, collations, modules) is not asked for, and nothing is run. What is
//! due to a bound of this build is no damage.

use rusqlite::{Connection, params};

use super::super::schema::{Object, ObjectKind, Schema};

/// More definitions are not tried: each needs a page.
pub(super) const OBJECTS_MAX: usize = 20_000;
/// SQLite names the first that it can't read; those that follow it are told up to a bound.
const ROUNDS_MAX: usize = 16;
/// What the messages of bounds have in them.
const BOUNDS: [&str; 10] = [
    "too many",
    "too large",
    "too big",
    "too long",
    "too deep",
    "overflow",
    "out of memory",
    "not authorized",
    "non-deterministic",
    "unsafe use",
];

/// The places of the objects that SQLite can't read, and why. `left_out`: those that are known to be damaged.
pub(super) fn unreadable(schema: &Schema, mut left_out: Vec<bool>) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    // What is no text is replaced, and two names may be the same then.
    let is_odd = |text: &str| text.contains(char::REPLACEMENT_CHARACTER);
    if schema.objects.iter().any(|object| is_odd(&object.name) || is_odd(&object.table)) {
        return found;
    }
    // Statistics would be read from the tables as well, and have nothing else that could be wrong.
    for (object, out) in schema.objects.iter().zip(&mut left_out) {
        *out |= object.name.to_ascii_lowercase().starts_with("sqlite_stat");
    }
    for _ in 0..ROUNDS_MAX {
        leave_out_what_belongs_to_it(schema, &mut left_out);
        let objects = schema.objects.iter().enumerate().filter(|(at, _)| !left_out[*at]);
        let Some(message) = refusal(objects.clone()) else { break };
        let Some((at, why)) = blamed(objects, &message) else { break };
        left_out[at] = true;
        if !BOUNDS.iter().any(|bound| why.contains(bound)) {
            found.push((at, why));
        }
    }
    found
}

/// Without its table, an index or a trigger can't be read either.
fn leave_out_what_belongs_to_it(schema: &Schema, left_out: &mut [bool]) {
    let owns = |kind| matches!(kind, ObjectKind::Table | ObjectKind::VirtualTable | ObjectKind::View);
    let gone: Vec<String> = (schema.objects.iter().zip(left_out.iter()))
        .filter(|(object, out)| **out && owns(object.kind))
        .map(|(object, _)| object.name.to_ascii_lowercase())
        .collect();
    for (object, out) in schema.objects.iter().zip(left_out) {
        *out |= !owns(object.kind) && gone.contains(&object.table.to_ascii_lowercase());
    }
}

/// What SQLite says to a schema; `None` where it takes it, or nothing can be known.
fn refusal<'a>(objects: impl Iterator<Item = (usize, &'a Object)> + Clone) -> Option<String> {
    const PAGE: usize = 512;
    let connection = Connection::open_in_memory().ok()?;
    let fill = || -> rusqlite::Result<()> {
        connection.execute_batch(&format!(
            "PRAGMA page_size={PAGE}; PRAGMA writable_schema=ON; CREATE TABLE room(x);
             INSERT INTO room VALUES(zeroblob({})); DELETE FROM sqlite_schema;",
            // SQLite looks whether their first pages exist.
            (objects.clone().count() + 8) * PAGE
        ))?;
        let mut insert = connection.prepare("INSERT INTO sqlite_schema VALUES(?1, ?2, ?3, ?4, ?5)")?;
        let mut root = 2;
        for (_, object) in objects.clone() {
            let (kind, has_pages) = match object.kind {
                ObjectKind::Table => ("table", true),
                ObjectKind::VirtualTable => ("table", false),
                ObjectKind::Index => ("index", true),
                ObjectKind::View => ("view", false),
                ObjectKind::Trigger => ("trigger", false),
            };
            root += u32::from(has_pages);
            let root = if has_pages { root } else { 0 };
            insert.execute(params![kind, object.name, object.table, root, object.sql])?;
        }
        Ok(())
    };
    fill().ok()?;
    let read = connection
        .execute_batch("PRAGMA writable_schema=RESET")
        .and_then(|()| connection.prepare("SELECT * FROM sqlite_schema").map(drop));
    super::syntax::message_of(read.err()?)
}

/// The object that the message names, and what it says of it.
fn blamed<'a>(objects: impl Iterator<Item = (usize, &'a Object)>, message: &str) -> Option<(usize, String)> {
    let rest = message.strip_prefix("malformed database schema (")?;
    let why = |object: &Object| {
        let why = rest.strip_prefix(object.name.as_str())?.strip_prefix(')')?;
        if why.is_empty() { Some("it is not that of its row in the schema") } else { why.strip_prefix(" - ") }
    };
    // One name may begin as another one does.
    let (at, why) = objects
        .filter_map(|(at, object)| Some((at, object, why(object)?)))
        .max_by_key(|(_, o, _)| o.name.len())
        .map(|(at, _, why)| (at, why))?;
    Some((at, format!("SQLite can't open the database with its definition: {why}")))
}
