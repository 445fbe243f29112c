//! Questions in InfluxQL. `influx` asks them where the server asks for no password. That client takes one only as an
//! argument, from its environment or from a terminal; so where there is one, `curl` asks, which reads it with the rest of
//! its configuration from its standard input.

use serde_json::Value;

use super::super::{ServerError, Session};
use crate::controller::docker::Ended;
use crate::failure::FailureKind;

const CLIENT: &str = "influx";
const WITH_PASSWORD: &str = "curl";
const HOST: &str = "127.0.0.1";
/// Where every server of the usual images listens.
const PORT: &str = "8086";

/// A table of an answer.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<Value>>,
}

impl Series {
    /// The texts of a column.
    pub(super) fn column(&self, name: &str) -> Vec<String> {
        let Some(at) = self.columns.iter().position(|column| column == name) else { return Vec::new() };
        self.rows.iter().filter_map(|row| row.get(at)).map(text).collect()
    }
}

/// A value as people write it.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A name in InfluxQL.
pub(super) fn name(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

/// One statement, in a database where it does not name its own.
pub(super) fn ask(
    session: &Session,
    action: &str,
    database: Option<&str>,
    statement: &str,
) -> Result<Vec<Series>, ServerError> {
    let (argv, input) = match &session.secret {
        Some(secret) => with_password(session, secret.reveal(), database, statement)?,
        None => {
            let mut argv = vec![CLIENT, "-host", HOST, "-port", PORT, "-format", "json"];
            argv.extend(["-precision", "rfc3339", "-execute", statement]);
            argv.extend(database.iter().flat_map(|database| ["-database", database]));
            (argv.into_iter().map(str::to_owned).collect(), String::new())
        }
    };
    let program = argv.first().cloned().unwrap_or_default();
    let (ended, out) = session.ran(action, argv, input.as_bytes())?;
    let attempt = session.attempt(action);
    attempt.ended(&program, &ended)?;
    parsed(&out).map_err(|said| match attempt.ended(&program, &Ended { code: 1, said }) {
        Err(error) => error,
        Ok(()) => ServerError::NotRun {
            action: action.to_owned(),
            place: session.place().to_owned(),
            reason: "the server's answer can't be read".to_owned(),
        },
    })
}

fn with_password(
    session: &Session,
    password: &str,
    database: Option<&str>,
    statement: &str,
) -> Result<(Vec<String>, String), ServerError> {
    let Some(user) = session.user.as_deref().filter(|user| !user.contains(':')) else {
        return Err(ServerError::Refused {
            reason: format!("{} has a password, and no user whose it is (a name without ':')", session.place()),
            kind: FailureKind::Config,
            hint: Some("name the user: --user, svckit.user or INFLUXDB_ADMIN_USER".to_owned()),
        });
    };
    let url = format!("http://{HOST}:{PORT}/query");
    // First of all: neither a file of the user's own, nor a proxy.
    let argv = [WITH_PASSWORD, "--disable", "--noproxy", "*", "--silent", "--show-error", "--config", "-", &url];
    let mut input = format!("user = {}\n", quoted(&format!("{user}:{password}")));
    for (name, value) in [("q", Some(statement)), ("db", database)] {
        if let Some(value) = value {
            input.push_str(&format!("data-urlencode = {}\n", quoted(&format!("{name}={value}"))));
        }
    }
    Ok((argv.map(str::to_owned).to_vec(), input))
}

/// A value of curl's configuration.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\r', "\\r");
    format!("\"{}\"", escaped.replace('\t', "\\t"))
}

/// The tables of all answers; else what the server has against the question.
fn parsed(out: &str) -> Result<Vec<Series>, String> {
    let mut found = Vec::new();
    for answer in serde_json::Deserializer::from_str(out).into_iter::<Value>() {
        let answer = answer.map_err(|error| format!("its answer can't be read: {error}"))?;
        let results = answer.get("results").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for part in std::iter::once(&answer).chain(results) {
            if let Some(error) = part.get("error").and_then(Value::as_str) {
                return Err(error.to_owned());
            }
            let series = part.get("series").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            found.extend(series.iter().map(table));
        }
    }
    Ok(found)
}

fn table(series: &Value) -> Series {
    let list = |field: &str| series.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    Series {
        name: series.get("name").map(text).unwrap_or_default(),
        columns: list("columns").iter().map(text).collect(),
        rows: list("values").iter().filter_map(|row| row.as_array().cloned()).collect(),
    }
}

#[test]
fn an_answer_is_its_tables_or_its_error() {
    let good =
        r#"{"results":[{"statement_id":0,"series":[{"name":"cpu","columns":["time","count_v"],"values":[["t",7]]}]}]}"#;
    let found = parsed(good).unwrap();
    assert_eq!((found[0].name.as_str(), found[0].column("count_v")), ("cpu", vec!["7".to_owned()]));
    assert_eq!(parsed(r#"{"error":"authorization failed"}"#), Err("authorization failed".to_owned()));
    assert!(parsed(r#"{"results":[{"error":"database not found: x"}]}"#).is_err());
    assert!(parsed("<html>").is_err());
    assert_eq!(quoted("a:b\\\"c\n"), r#""a:b\\\"c\n""#);
}
