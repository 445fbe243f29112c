//! One connection, kept open by a psql that is told one question after the other: its transaction's snapshot is the
//! dump's, and what it counts is what is dumped.

use std::io::{BufRead, BufReader, Write};

use super::super::dump::{DatabaseFacts, TableFacts};
use super::super::place::Running;
use super::super::{ServerError, Session};
use super::login;

/// The line after each answer: nobody's data is asked for in between.
const END: &str = "svckit: end of the answer";

pub(super) struct Talk {
    session: Session,
    action: &'static str,
    psql: BufReader<Running>,
    _login: login::Login,
}

impl Talk {
    pub(super) fn begin(session: &Session, action: &'static str, database: &str) -> Result<Self, ServerError> {
        let login = login::Login::make(session)?;
        let argv = login.psql(session, database);
        let exec = session.start(action, argv, &login.environment(), b"")?;
        let mut talk = Self { session: session.clone(), action, psql: BufReader::new(exec), _login: login };
        talk.ask("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;")?;
        // Waiting for us, it is idle for as long as the dump lasts.
        talk.ask("SET idle_in_transaction_session_timeout = 0; SET statement_timeout = 0; SET lock_timeout = 0;")?;
        Ok(talk)
    }

    /// The lines of an answer, fields separated by tabs.
    pub(super) fn ask(&mut self, sql: &str) -> Result<Vec<String>, ServerError> {
        let question = format!("{sql}\n\\echo {}\n", quoted(END));
        // One that has ended says why below.
        let _ended = self.psql.get_mut().write_all(question.as_bytes());
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            match self.psql.read_until(b'\n', &mut line) {
                Ok(0) => return Err(self.ended()),
                Ok(_) => {}
                Err(error) => return Err(self.session.attempt(self.action).exec(self.psql.get_ref().why(error))),
            }
            let line = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
            if line == END {
                return Ok(lines);
            }
            lines.push(line);
        }
    }

    /// The one field of an answer.
    pub(super) fn field(&mut self, sql: &str) -> Result<String, ServerError> {
        Ok(self.ask(sql)?.into_iter().next().unwrap_or_default())
    }

    /// It went away before it was told to.
    fn ended(&mut self) -> ServerError {
        let said = self.psql.get_mut().end_early();
        let attempt = self.session.attempt(self.action);
        match said {
            Ok(ended) => match attempt.ended("psql", &ended) {
                Err(error) => error,
                Ok(()) => ServerError::NotRun {
                    action: self.action.to_owned(),
                    place: self.session.place().to_owned(),
                    reason: "psql ended before its last answer".to_owned(),
                },
            },
            Err(error) => attempt.exec(error),
        }
    }

    /// What the database holds, as this transaction sees it. What extensions bring along is theirs.
    pub(super) fn facts(&mut self) -> Result<DatabaseFacts, ServerError> {
        let mut facts = DatabaseFacts::default();
        for line in self.ask(COUNT_ROWS)? {
            let (name, rows) = line.rsplit_once('\t').unwrap_or((&line, "0"));
            let rows = rows.parse().unwrap_or(0);
            facts.tables.insert(name.to_owned(), TableFacts { rows, rows_sum: None });
        }
        for line in self.ask(COUNT_DEFINITIONS)? {
            let (kind, count) = line.split_once('\t').unwrap_or((&line, "0"));
            facts.definitions.insert(kind.to_owned(), count.parse().unwrap_or(0));
        }
        facts.definitions_sum = self.field(SUM_DEFINITIONS)?;
        Ok(facts)
    }
}

/// An argument of a psql command.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

const COUNT_ROWS: &str = r#"SELECT format('SELECT %L, count(*) FROM %I.%I;', n.nspname || '.' || c.relname, n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND c.relispopulated AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1 \gexec"#;

const COUNT_DEFINITIONS: &str = r#"SELECT kind, count(*) FROM (
SELECT CASE c.relkind WHEN 'r' THEN 'tables' WHEN 'p' THEN 'tables' WHEN 'v' THEN 'views' WHEN 'm' THEN 'views'
WHEN 'S' THEN 'sequences' WHEN 'i' THEN 'indexes' WHEN 'I' THEN 'indexes' ELSE 'others' END AS kind
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind <> 't'
AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
UNION ALL SELECT 'functions' FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
UNION ALL SELECT 'triggers' FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'policies' FROM pg_policy
UNION ALL SELECT 'large objects' FROM pg_largeobject_metadata
UNION ALL SELECT 'extensions' FROM pg_extension) AS all_of_them GROUP BY kind ORDER BY kind;"#;

const SUM_DEFINITIONS: &str = r#"SELECT coalesce(md5(string_agg(d, E'\n' ORDER BY d COLLATE pg_catalog."C")), '') FROM (
SELECT format('%I.%I.%I %s %s', n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull) AS d
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm') AND n.nspname !~ '^pg_'
AND n.nspname <> 'information_schema'
UNION ALL SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_'
UNION ALL SELECT format('%I %s', k.conname, pg_get_constraintdef(k.oid)) FROM pg_constraint k
JOIN pg_namespace n ON n.oid = k.connamespace WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.prokind IN ('f', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
UNION ALL SELECT pg_get_viewdef(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('v', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema') AS definitions;"#;
