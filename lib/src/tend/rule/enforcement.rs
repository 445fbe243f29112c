//! Who keeps rows of a service from referring to nothing while a rule deletes: SQLite, or triggers of ours.
//!
//! SQLite looks for what refers to a row that goes, and compares by the type of the column that is referred to. Where that is
//! a number and the referring column has no type, it would have to convert each value, and looks through the whole table in
//! spite of an index. Of the values without a type only texts are converted, though. So there the same question is asked in
//! two parts that an index answers, by a trigger of our connection alone (`CREATE TEMP TRIGGER`), and SQLite's enforcement is
//! off for that connection.
//!
//! Such a trigger is asked for each row, in the statement that deletes it, as SQLite's own enforcement is. What it refuses is
//! refused in the same words. It is as exact as SQLite: whatever value is there, and whenever it came.
//!
//! It is done for a rule only where a trigger can take the place of all that SQLite would do for it ([`Enforcement::of`]).
//! One difference is known: SQLite counts, and lets a row that refers to nothing itself, and goes in the same statement, make
//! up for one that is still referred to. A trigger refuses that.

use rusqlite::{Connection, OptionalExtension, params};

use super::config::Heartbeat;
use super::connection::quoted;
use super::references::{Reference, plan, primary_key};

/// Who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Enforcement {
    /// SQLite.
    Sqlite {
        /// The tables that it looks through in spite of an index, and what a person may want to know of that.
        slow: Vec<(String, String)>,
    },
    /// Triggers of ours.
    Triggers(Vec<String>),
}

impl Enforcement {
    /// The one for a rule's deletes, on a connection with foreign keys on.
    pub(super) fn of(
        db: &Connection,
        deletes: &[(String, String)],
        references: &[Reference],
        heartbeat: Option<&Heartbeat>,
    ) -> rusqlite::Result<Self> {
        let (mut questions, mut slow, mut why) = (Vec::new(), Vec::new(), None);
        for reference in references.iter().filter(|reference| reference.is_to_what_goes(deletes)) {
            let [(from, to)] = &reference.columns[..] else {
                why = Some("a foreign key has several columns");
                continue;
            };
            let Some(to) = to.clone().or_else(|| primary_key(db, &reference.parent)) else {
                why = Some("a foreign key refers to no column");
                continue;
            };
            let question = Question { reference, from: quoted(from), to: quoted(&to) };
            why = why.or(question.is_more_than_a_question(db)?);
            let in_parts = question.is_faster_in_parts(db, from)?;
            if in_parts {
                let what = format!(
                    "{}.{from} has no type: SQLite looks through the table, in spite of its index, for each row of {} that goes",
                    reference.child, reference.parent
                );
                slow.push((reference.child.clone(), what));
            }
            questions.push((question, in_parts));
        }
        if slow.is_empty() {
            return Ok(Self::Sqlite { slow });
        }
        why = why.or(is_more_than_deletes(db, deletes, heartbeat, references)?);
        let looked_for = questions.iter().any(|(question, _)| question.looks_for_the_row(db));
        why = why.or(looked_for.then_some("what is referred to has no index in its own order"));
        if let Some(why) = why {
            let told = |(child, what)| (child, format!("{what}; svc-tend can't help, since {why}"));
            return Ok(Self::Sqlite { slow: slow.into_iter().map(told).collect() });
        }
        let triggers = questions.iter().enumerate();
        Ok(Self::Triggers(triggers.map(|(number, (question, parts))| question.trigger(number, *parts)).collect()))
    }

    /// Has a connection that writes, and has SQLite's enforcement on, go by it. Where that fails SQLite enforces.
    pub(super) fn begin(&self, db: &Connection) -> rusqlite::Result<()> {
        let Self::Triggers(triggers) = self else { return Ok(()) };
        // All of them before anything is switched off.
        for trigger in triggers {
            db.execute_batch(trigger)?;
        }
        db.pragma_update(None, "foreign_keys", false)
    }
}

/// Whether a row that goes is still referred to by a foreign key.
struct Question<'r> {
    reference: &'r Reference,
    from: String,
    to: String,
}

impl Question<'_> {
    /// Why the foreign key is more than the question whether a row is referred to, at the end of the statement that deletes it.
    fn is_more_than_a_question(&self, db: &Connection) -> rusqlite::Result<Option<&'static str>> {
        let Reference { child, parent, on_delete, .. } = self.reference;
        if !matches!(on_delete.as_str(), "NO ACTION" | "RESTRICT") {
            return Ok(Some("a foreign key changes what refers"));
        }
        if child.eq_ignore_ascii_case(parent) {
            return Ok(Some("a table refers to itself"));
        }
        if child.eq_ignore_ascii_case("old") {
            return Ok(Some("a table has the name that triggers have for a row"));
        }
        // No pragma tells. The word may be there for another reason, and then SQLite enforces.
        let sql: Option<String> = db
            .query_row(
                "SELECT sql FROM sqlite_schema WHERE type = 'table' AND lower(name) = lower(?1)",
                [child],
                |row| row.get(0),
            )
            .optional()?;
        let deferred = sql.is_none_or(|sql| sql.to_ascii_lowercase().contains("deferred"));
        Ok(deferred.then_some("a foreign key may be looked at in the commit only"))
    }

    /// Whether even the row that goes would be looked for in its whole table: SQLite has it at hand.
    fn looks_for_the_row(&self, db: &Connection) -> bool {
        let lookup = format!("SELECT 1 FROM main.{} p WHERE p.{} = ?", quoted(&self.reference.parent), self.to);
        // What can't be planned does not fit, which is told where the deletes are looked at.
        plan(db, &lookup).unwrap_or_default().iter().any(|step| step.starts_with("SCAN"))
    }

    /// Whether an index answers the question in parts, and not as SQLite puts it.
    fn is_faster_in_parts(&self, db: &Connection, from: &str) -> rusqlite::Result<bool> {
        let kind = db
            .query_row(
                "SELECT upper(type) FROM pragma_table_xinfo(?1) WHERE lower(name) = lower(?2)",
                params![self.reference.child, from],
                |row| row.get::<_, String>(0),
            )
            .optional()?;
        // Values of other types are converted when they are compared with our bounds.
        if !kind.is_some_and(|kind| kind.is_empty() || kind == "BLOB") {
            return Ok(false);
        }
        // What can't be planned does not fit, which is told where the deletes are looked at.
        let steps = |condition: &str| plan(db, &self.select("?", condition)).unwrap_or_default();
        let of_child = |step: &String| step.starts_with("SCAN c") || step.contains("AUTOMATIC");
        let looks_through = |condition: &str| steps(condition).iter().any(of_child);
        Ok(looks_through(&self.whole()) && !self.parts().iter().any(|part| looks_through(part)))
    }

    /// As SQLite puts it: by the type and the order of what is referred to (fkScanChildren in its source).
    fn whole(&self) -> String {
        format!("p.{} = c.{}", self.to, self.from)
    }

    /// The same for a referring column without a type. Numbers, blobs and NULL are never converted: `+` leaves the type out.
    /// Texts lie between the numbers and the blobs in every order, and are few, mostly none.
    fn parts(&self) -> [String; 2] {
        let Self { from, to, .. } = self;
        [format!("+p.{to} = c.{from}"), format!("c.{from} > 9e999 AND c.{from} < x'' AND {}", self.whole())]
    }

    /// The row is looked up by its own value, since a bare `old.` has no type in a trigger.
    fn select(&self, old: &str, condition: &str) -> String {
        let (parent, child) = (quoted(&self.reference.parent), quoted(&self.reference.child));
        format!("SELECT 1 FROM main.{parent} p CROSS JOIN main.{child} c WHERE p.{} = {old} AND {condition}", self.to)
    }

    /// What `ON DELETE RESTRICT` asks as well: by the type of what refers, since a bare `old.` has none (fkActionTrigger in
    /// SQLite's source). So the text `Inf` refers to the number that is written so and that no text is converted to. Of a
    /// column without a type it is a part of what is asked anyway.
    fn restricts(&self) -> Option<String> {
        let Self { from, to, reference } = self;
        let child = quoted(&reference.child);
        (reference.on_delete == "RESTRICT").then(|| format!("SELECT 1 FROM main.{child} c WHERE old.{to} = c.{from}"))
    }

    fn trigger(&self, number: usize, in_parts: bool) -> String {
        let conditions = if in_parts { self.parts().to_vec() } else { vec![self.whole()] };
        let old = format!("old.{}", self.to);
        let selects = conditions.iter().map(|condition| self.select(&old, condition)).chain(self.restricts());
        let asked: Vec<String> = selects.map(|select| format!("EXISTS ({select})")).collect();
        format!(
            "CREATE TEMP TRIGGER svc_tend_{number} BEFORE DELETE ON main.{} WHEN {} \
             BEGIN SELECT RAISE(ABORT, 'FOREIGN KEY constraint failed'); END",
            quoted(&self.reference.parent),
            asked.join(" OR ")
        )
    }
}

/// Why the writes of a rule are more than deletes of which all effects are known.
fn is_more_than_deletes(
    db: &Connection,
    deletes: &[(String, String)],
    heartbeat: Option<&Heartbeat>,
    references: &[Reference],
) -> rusqlite::Result<Option<&'static str>> {
    let triggers: i64 =
        db.query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'", [], |row| row.get(0))?;
    if triggers > 0 {
        return Ok(Some("the database has triggers"));
    }
    let beats = |name: &str| heartbeat.is_some_and(|beat| beat.table.eq_ignore_ascii_case(name));
    if references.iter().any(|reference| beats(&reference.child) || beats(&reference.parent)) {
        return Ok(Some("the heartbeat's table has part in a foreign key"));
    }
    for table in deletes.iter().map(|(table, _)| table).chain(heartbeat.map(|beat| &beat.table)) {
        // A virtual table, which may write anywhere, has no page of its own.
        let own = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 AND lower(name) = lower(?1)";
        if db.query_row(own, [table], |_| Ok(())).optional()?.is_none() {
            return Ok(Some("a table is not an ordinary one"));
        }
    }
    for (table, condition) in deletes {
        // SQLite refuses to delete where a foreign key fits no table, or no key of it.
        if db.prepare(&format!("DELETE FROM {} WHERE {condition}", quoted(table))).is_err() {
            return Ok(Some("a foreign key does not fit its table"));
        }
    }
    Ok(None)
}
