//! `svc-tend munin`: the protocol of munin's plugins, with several graphs in one (multigraph) and values with the
//! configuration (dirtyconfig). What is unknown is `U`; nothing is left out, and nothing of it is an error.

use std::fmt::Write;

use jiff::Timestamp;

use super::figures::{OfRule, as_float, read};
use super::{rules, state_dir};
use crate::app::App;
use crate::cli::tend::MuninWord;
use crate::error::ToolError;
use crate::exit::Outcome;

/// A field of a graph.
struct Field {
    name: String,
    label: String,
    kind: &'static str,
    value: Option<f64>,
    extra: Option<String>,
}

/// A graph.
struct Graph {
    name: String,
    title: String,
    label: &'static str,
    info: &'static str,
    fields: Vec<Field>,
}

/// Prints what munin asks for.
///
/// # Errors
/// When there are no rules, or standard output can't be written to.
pub(super) fn munin(app: &App, word: MuninWord) -> Result<Outcome, ToolError> {
    let rules = rules(app, &[]);
    if word == MuninWord::Autoconf {
        app.output.text(&match rules {
            Ok(_) => "yes\n".to_owned(),
            Err(error) => format!("no ({})\n", crate::render::one_line(&error.to_string())),
        })?;
        return Ok(Outcome::Done);
    }
    let rules = rules?;
    let graphs = graphs(&read(&rules, &state_dir()?), Timestamp::now());
    let mut text = String::new();
    // The node says by this that it takes values with the configuration.
    let dirty = std::env::var_os("MUNIN_CAP_DIRTYCONFIG").is_some_and(|value| value == "1");
    for graph in &graphs {
        let _infallible = writeln!(text, "multigraph {}", graph.name);
        if word == MuninWord::Config {
            text.push_str(&config(graph));
        }
        if word == MuninWord::Fetch || dirty {
            for field in &graph.fields {
                let value = field.value.filter(|value| value.is_finite());
                let _infallible =
                    writeln!(text, "{}.value {}", field.name, value.map_or_else(|| "U".to_owned(), |v| v.to_string()));
                if let Some(extra) = &field.extra {
                    let _infallible = writeln!(text, "{}.extinfo {}", field.name, crate::render::one_line(extra));
                }
            }
        }
    }
    app.output.text(&text)?;
    Ok(Outcome::Done)
}

fn config(graph: &Graph) -> String {
    let mut text = format!(
        "graph_title {}\ngraph_category svckit\ngraph_vlabel {}\ngraph_info {}\ngraph_args --base 1000 --lower-limit 0\n",
        graph.title, graph.label, graph.info
    );
    for field in &graph.fields {
        let _infallible = writeln!(text, "{0}.label {1}\n{0}.type {2}\n{0}.min 0", field.name, field.label, field.kind);
    }
    text
}

/// A name as munin allows it.
fn named(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

fn gauge(name: &str, label: &str, value: Option<f64>) -> Field {
    Field { name: named(name), label: label.to_owned(), kind: "GAUGE", value, extra: None }
}

fn graphs(all: &[OfRule], now: Timestamp) -> Vec<Graph> {
    let mut graphs = Vec::new();
    let graph = |name: String, title: String, label, info, fields| Graph { name, title, label, info, fields };
    for of in all.iter().filter(|of| !of.figures.is_empty()) {
        let fields = of.figures.iter().map(|(name, value)| gauge(name, name, *value)).collect();
        let name = format!("svc_tend_{}", named(&of.name));
        graphs.push(graph(
            name,
            format!("{}: figures", of.name),
            "count",
            "Queries of the rule on its database.",
            fields,
        ));
    }
    let each = |of: &dyn Fn(&OfRule) -> Option<f64>| -> Vec<Field> {
        all.iter().map(|rule| gauge(&rule.name, &rule.name, of(rule))).collect()
    };
    let derived = |of: &dyn Fn(&OfRule) -> Option<f64>| -> Vec<Field> {
        each(of).into_iter().map(|field| Field { kind: "DERIVE", ..field }).collect()
    };
    let counted = |of: fn(&svckit::tend::Counters) -> u64| {
        move |rule: &OfRule| rule.state.as_ref().map(|state| as_float(of(&state.counters)))
    };
    let removed = derived(&counted(|counters| counters.done));
    graphs.push(graph(
        "svc_tend_removed".into(),
        "Items removed".into(),
        "items per ${graph_period}",
        "What the rules have pruned.",
        removed,
    ));
    let failed = derived(&counted(|counters| counters.failed));
    graphs.push(graph(
        "svc_tend_failed".into(),
        "Items that failed".into(),
        "failures per ${graph_period}",
        "Each attempt counts.",
        failed,
    ));
    let aside = each(&|rule| rule.state.as_ref().map(|state| as_float(state.quarantined)));
    graphs.push(graph(
        "svc_tend_quarantine".into(),
        "Items in quarantine".into(),
        "items",
        "Set aside: svc-tend quarantine list.",
        aside,
    ));
    graphs.push(graph(
        "svc_tend_violations".into(),
        "Violated foreign keys".into(),
        "rows",
        "Rows that refer to rows that are not there: PRAGMA foreign_key_check.",
        each(&OfRule::violations),
    ));
    let outbox: Vec<Field> =
        all.iter().filter_map(|rule| rule.outbox.map(|rows| gauge(&rule.name, &rule.name, rows))).collect();
    if !outbox.is_empty() {
        graphs.push(graph(
            "svc_tend_outbox".into(),
            "Summaries on their way".into(),
            "rows",
            "Not yet in their database.",
            outbox,
        ));
    }
    let stale = all.iter().map(|rule| {
        let since = rule.state.as_ref().and_then(|state| state.times.success);
        let age = since.map(|since| now.duration_since(since).as_secs_f64().max(0.0));
        let extra = rule.state.as_ref().and_then(|state| state.last_error.clone());
        Field { extra, ..gauge(&rule.name, &rule.name, age) }
    });
    let stale = stale.collect();
    graphs.push(graph(
        "svc_tend_staleness".into(),
        "Seconds since the last success".into(),
        "seconds",
        "Old: the rule fails, or does not run.",
        stale,
    ));
    graphs
}
