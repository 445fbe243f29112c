//! What only the service's own SQLite can build: an index in the order of its collation, a column that its function
//! computes, the words of its tokenizer. Its own sqlite program does that on one more copy, object by object; the result
//! must be whole for both readers here, have the rows that it had, and pass the program's own integrity_check.
//!
//! The program gets an argument vector, never a shell line, and one statement each: no text of a database is read as one
//! of the commands that such programs know. Without a program, what is missing is told.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::account::Accounting;
use super::judge::judge;
use super::{Base, Repaired, Step, header, refill, regrow};
use crate::database::sqlite::error::SqliteError;
use crate::database::sqlite::own::{Asked, beside};
use crate::database::sqlite::pages::{Object, ObjectKind, Schema, View, is_one_statement};
use crate::world::program::{Running, run};

/// How long one statement may take, and how much longer for each MiB of the database.
const STATEMENT_MAX: Duration = Duration::from_secs(120);
const STATEMENT_MAX_PER_MIB: Duration = Duration::from_secs(1);
/// The longest argument that the kernel takes (MAX_ARG_STRLEN), less some.
const SQL_LEN_MAX: usize = 120_000;
/// What a program says of a failure, in characters.
const REASON_MAX: usize = 300;

/// Something that can't be built here.
enum Need {
    /// An index that is missing.
    Index { name: String, sql: String },
    /// An index of a constraint, which is in the order of a stand-in.
    Order { name: String },
    /// A stored column that a stand-in has computed.
    Compute { table: String, sql: String },
    /// A full-text index that does not open here.
    Words { table: String },
}

impl Need {
    /// For people.
    fn told(&self) -> String {
        match self {
            Self::Index { name, .. } => format!("index {name}"),
            Self::Order { name } => {
                format!("index {name} is in the order of a stand-in for a collation of its service")
            }
            Self::Compute { table, .. } => {
                format!("generated columns of {table} are computed by a stand-in for a function of its service")
            }
            Self::Words { table } => format!("full-text index {table}"),
        }
    }

    fn statements(&self) -> Vec<String> {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        match self {
            Self::Index { sql, .. } | Self::Compute { sql, .. } => vec![sql.clone()],
            Self::Order { name } => vec![format!("REINDEX {}", quoted(name))],
            Self::Words { table } => {
                let table = quoted(table);
                vec![format!("INSERT INTO {table}({table}) VALUES('rebuild')")]
            }
        }
    }
}

/// Has the program do what is left, and accounts for it.
pub(super) fn complete(base: &Base<'_>, repaired: Repaired) -> Result<Repaired, SqliteError> {
    let needs = needs(base, &repaired)?;
    if needs.is_empty() {
        return Ok(repaired);
    }
    let Repaired { file, set_aside, mut accounting } = repaired;
    let done = match base.input.program {
        Some(program) => on_a_copy(base, program, &file, &needs, &mut accounting),
        None => Err("the service's own sqlite program can do it: name it (--sqlite-program PATH)".to_owned()),
    };
    match done {
        Ok(()) => {
            std::fs::rename(base.input.work.join(COPY), &file).map_err(|e| header::disk("rename to", &file, e))?
        }
        Err(_) if base.input.cancel.is_requested() => {
            return Err(SqliteError::Cancelled { what: "repairing", path: file });
        }
        Err(why) => {
            let is_its_own = |need: &&Need| matches!(need, Need::Order { .. } | Need::Compute { .. });
            accounting.stand_ins.extend(needs.iter().filter(is_its_own).map(Need::told));
            accounting.notes.push(format!("only its service can build all of it. {why}"));
            let _not_there = std::fs::remove_file(base.input.work.join(COPY));
        }
    }
    accounting.complete = accounting.losses().is_empty();
    header::finish(base, &file)?;
    Ok(Repaired { file, set_aside, accounting })
}

const COPY: &str = "by-service.db";

fn needs(base: &Base<'_>, repaired: &Repaired) -> Result<Vec<Need>, SqliteError> {
    let file = &repaired.file;
    header::to_rollback(file)?;
    let view = View::open_own(file, base.input.cancel)?;
    let now = Schema::read(view.image());
    drop(view);
    let has = |object: &&Object| now.objects.iter().any(|o| o.kind == object.kind && o.name == object.name);
    let missing = base.schema.objects.iter().filter(|o| o.kind == ObjectKind::Index && !has(o));
    let mut needs: Vec<Need> =
        missing.filter_map(|index| Some(Need::Index { name: index.name.clone(), sql: index.sql.clone()? })).collect();
    if repaired.accounting.step >= Step::Salvage {
        let connection = Connection::open(file).asked("open", file)?;
        // Where only damaged tables were filled anew, the others are as the service had made them; and so is everything
        // that was taken over entry by entry.
        let is = |name| file.file_name().is_some_and(|file| file == name);
        let (in_place, as_it_was) = (is(refill::FILE), is(regrow::FILE));
        let is_damaged = |table: &str| base.report.trees.iter().any(|tree| tree.name == table && tree.damaged);
        let is_new =
            |object: &&Object| !as_it_was && (!in_place || is_damaged(&object.table) || is_damaged(&object.name));
        let indices = now.objects.iter().filter(|o| o.kind == ObjectKind::Index).filter(is_new);
        needs.extend(indices.filter_map(|index| ordered(&connection, index)));
        needs.extend(now.objects.iter().filter(is_new).filter_map(|table| computed(&connection, table)));
    }
    if !repaired.accounting.full_text.is_empty() {
        let is_of_words =
            |o: &&Object| o.sql.as_deref().is_some_and(|sql| sql.to_ascii_lowercase().contains("using fts"));
        let tables = now.objects.iter().filter(|o| o.kind == ObjectKind::VirtualTable).filter(is_of_words);
        needs.extend(tables.map(|table| Need::Words { table: table.name.clone() }));
    }
    header::finish(base, file)?;
    Ok(needs)
}

/// Of an index whose collation is not here: it is in the order of a stand-in.
fn ordered(connection: &Connection, index: &Object) -> Option<Need> {
    let sql = format!("REINDEX \"{}\"", index.name.replace('"', "\"\""));
    let error = connection.prepare(&sql).err()?.to_string();
    error.contains("no such collation").then(|| Need::Order { name: index.name.clone() })
}

/// Whether stored columns of a table can't be computed here: a stand-in has.
pub(super) fn has_stand_ins(connection: &Connection, table: &Object) -> bool {
    computed(connection, table).is_some()
}

/// Of a table with stored columns that can't be computed here.
fn computed(connection: &Connection, table: &Object) -> Option<Need> {
    let shape = table.table_shape.as_ref()?;
    shape.columns.iter().find(|column| column.is_generated && !column.is_virtual)?;
    let plain = shape.columns.iter().find(|column| !column.is_generated)?;
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    // Every stored column is computed anew by any UPDATE.
    let sql = format!("UPDATE {} SET {1} = {1}", quoted(&table.name), quoted(&plain.name));
    let error = connection.prepare(&sql).err()?.to_string();
    let is_missing = ["no such function", "unknown function", "no such collation"].iter().any(|w| error.contains(w));
    is_missing.then(|| Need::Compute { table: table.name.clone(), sql })
}

/// All of it, or the reason why the copy is of no use.
fn on_a_copy(
    base: &Base<'_>,
    program: &Path,
    file: &Path,
    needs: &[Need],
    accounting: &mut Accounting,
) -> Result<(), String> {
    let shown = program.display();
    is_a_program(program).map_err(|why| format!("{shown} {why}"))?;
    let copy = base.input.work.join(COPY);
    let bytes = std::fs::copy(file, &copy).map_err(|e| format!("it can't be copied for {shown}: {e}"))?;
    header::to_rollback(&copy).map_err(|e| e.to_string())?;
    let wait_max = STATEMENT_MAX + STATEMENT_MAX_PER_MIB * u32::try_from(bytes >> 20).unwrap_or(u32::MAX);
    let how = Running { directory: base.input.work, wait_max, cancel: base.input.cancel.as_fd() };
    let path = copy.to_str().ok_or("its path is not UTF-8")?;
    let ask = |sql: &str| -> Result<String, String> {
        if sql.len() > SQL_LEN_MAX || sql.contains('\0') || !is_one_statement(sql) {
            return Err("its definition is not one statement".to_owned());
        }
        // No settings of anybody's: they could be commands.
        let arguments = ["-batch", "-bail", "-init", "/dev/null", path, sql];
        let ran = run(program, &arguments, how).map_err(|e| format!("{shown}: {e}"))?;
        match ran.status.success() {
            true => Ok(ran.out),
            false => {
                Err(format!("{shown}: {}: {}", ran.status, ran.err.trim().chars().take(REASON_MAX).collect::<String>()))
            }
        }
    };
    let mut failed: Vec<(&Need, String)> = Vec::new();
    for need in needs {
        base.input.observer.step(&format!("the service's own sqlite program: {}", need.told()));
        if let Err(why) = need.statements().iter().try_for_each(|sql| ask(sql).map(drop)) {
            failed.push((need, why));
        }
    }
    if failed.len() == needs.len() {
        return Err(failed.swap_remove(0).1);
    }
    base.input.observer.step("the service's own sqlite program: integrity_check");
    let verdict = ask("PRAGMA integrity_check")?;
    if verdict.trim() != "ok" {
        let first: String = verdict.trim().chars().take(REASON_MAX).collect();
        return Err(format!("{shown} does not call it whole then: {first}"));
    }
    for suffix in ["-journal", "-wal", "-shm"] {
        if std::fs::metadata(beside(&copy, suffix)).is_ok_and(|metadata| metadata.len() > 0) {
            return Err(format!("{shown} has left a {suffix}"));
        }
    }
    enter(base, &copy, &failed, needs, accounting).map_err(|why| format!("after {shown}: {why}"))
}

/// Checks what the program made, and writes it down.
fn enter(
    base: &Base<'_>,
    copy: &Path,
    failed: &[(&Need, String)],
    needs: &[Need],
    accounting: &mut Accounting,
) -> Result<(), String> {
    let judged = judge(base, copy).map_err(|error| error.to_string())?;
    for table in &accounting.tables {
        let tree = judged.report.trees.iter().find(|t| t.kind == ObjectKind::Table && t.name == table.table);
        // The tables of a full-text index are written anew with its words.
        let is_of_words =
            needs.iter().any(|n| matches!(n, Need::Words { table: words } if table.table.starts_with(words.as_str())));
        if !is_of_words && tree.is_some_and(|tree| tree.entries != table.after) {
            return Err(format!("{} has another number of rows", table.table));
        }
    }
    let is_there = |told: &str| {
        let mut objects = judged.schema.objects.iter().filter(|o| o.kind == ObjectKind::Index);
        objects.any(|o| told == format!("index {}", o.name) || told.starts_with(&format!("index {} (", o.name)))
    };
    accounting.missing_objects.retain(|told| !is_there(told));
    accounting.settle(&judged);
    let mut words_failed = false;
    for need in needs {
        let why = failed.iter().find(|(other, _)| std::ptr::eq(*other, need)).map(|(_, why)| why);
        match (need, why) {
            (_, None) => accounting.notes.push(format!("by the service's own sqlite program: {}", built(need))),
            (Need::Index { name, .. }, Some(why)) => {
                let prefix = format!("index {name}");
                accounting.missing_objects.retain(|told| *told != prefix && !told.starts_with(&format!("{prefix} (")));
                accounting.missing_objects.push(format!("{prefix} ({why})"));
            }
            (Need::Words { table }, Some(why)) => {
                words_failed = true;
                accounting.full_text.push(format!("full-text index {table}: {why}"));
            }
            (_, Some(why)) => accounting.stand_ins.push(format!("{} ({why})", need.told())),
        }
    }
    // Its integrity_check has asked them all.
    if !words_failed {
        accounting.full_text.clear();
    }
    Ok(())
}

fn built(need: &Need) -> String {
    match need {
        Need::Index { name, .. } | Need::Order { name } => format!("index {name}"),
        Need::Compute { table, .. } => format!("the generated columns of {table}"),
        Need::Words { table } => format!("full-text index {table}"),
    }
}

/// That nobody but its owner can have changed it.
fn is_a_program(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(path).map_err(|error| format!("can't be run: {error}"))?;
    let mode = metadata.permissions().mode();
    match () {
        () if !metadata.is_file() || mode & 0o111 == 0 => Err("is no program".to_owned()),
        () if mode & 0o002 != 0 => Err("can be changed by everybody: it is not run".to_owned()),
        () if !path.is_absolute() => Err("is not an absolute path".to_owned()),
        () => Ok(()),
    }
}
