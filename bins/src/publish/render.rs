//! What `svc-publish` says to people.

use std::fmt::Write;
use std::path::Path;

use svckit::operation::publish::{CollectReport, MirrorReport, StatusReport, SwitchReport, UpdateReport};
use svckit::publish::{Built, Collected, Generation, Kept, StepState};

use crate::render;

pub(super) fn update(report: &UpdateReport) -> String {
    let (tree, generation) = (render::path(report.tree.as_ref()), report.generation);
    let (files, bytes) = (report.totals.files, render::bytes(report.totals.bytes));
    let served = if report.served { "is served" } else { "is complete, and waits for a switch" };
    let took = render::milliseconds(report.took_ms);
    let mut text = format!("{tree}: generation {generation} {served}: {files} files, {bytes}, in {took}\n");
    // Writing to a String can't fail.
    if let Some(built) = report.built {
        let copied = render::bytes(built.bytes_copied);
        let _infallible = writeln!(
            text,
            "  {} linked, {} copied ({copied}), {} vanished, {} of them carried",
            built.linked, built.copied, built.vanished, built.carried
        );
    }
    if let Some(before) = report.before.filter(|before| *before != report.generation) {
        let _infallible = writeln!(text, "  before: {before}");
    }
    if let Some(collected) = &report.collected {
        collected_text(&mut text, collected, true);
    }
    for mirrored in &report.mirrored {
        let _infallible = write!(text, "  {}", mirror(mirrored));
    }
    for why in &report.not_mirrored {
        let _infallible = writeln!(text, "  NOT MIRRORED: {}", render::one_line(why));
    }
    if let Some(why) = &report.not_collected {
        let _infallible = writeln!(text, "  old generations could not be removed: {}", render::one_line(why));
    }
    text
}

pub(super) fn preview(tree: &Path, built: &Built) -> String {
    let (tree, copied) = (render::path(tree), render::bytes(built.bytes_copied));
    format!(
        "{tree}: would link {} files, copy {} ({copied}), and {} names would vanish\n",
        built.linked, built.copied, built.vanished
    )
}

pub(super) fn mirror(report: &MirrorReport) -> String {
    let before = match report.before {
        Some(before) if before == report.generation => " (as before)".to_owned(),
        Some(before) => format!(" (before: {before})"),
        None => String::new(),
    };
    format!("{}: generation {} is served{before}\n", render::one_line(&report.destination), report.generation)
}

pub(super) fn switch(report: &SwitchReport) -> String {
    let tree = render::path(report.tree.as_ref());
    let what = if report.done { "is served" } else { "is whole, and would be served" };
    let before = report.before.map_or_else(String::new, |before| format!(" (before: {before})"));
    format!("{tree}: generation {} {what}{before}\n", report.generation)
}

pub(super) fn collect(report: &CollectReport) -> String {
    let mut text = format!("{}:\n", render::path(report.tree.as_ref()));
    collected_text(&mut text, &report.collected, report.done);
    text
}

fn collected_text(text: &mut String, collected: &Collected, done: bool) {
    let list = |all: &[Generation]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let removed = if done { "removed" } else { "would be removed" };
    let none = collected.removed.is_empty();
    let _infallible =
        writeln!(text, "  {removed}: {}", if none { "none".to_owned() } else { list(&collected.removed) });
    for why in [Kept::Leased, Kept::Grace, Kept::Unknown] {
        let kept: Vec<Generation> =
            collected.kept.iter().filter(|(_, kept)| *kept == why).map(|(generation, _)| *generation).collect();
        let because = match why {
            Kept::Leased => "it is read",
            Kept::Unknown => "it has no manifest (remove it by hand)",
            _ => "it was served not long ago",
        };
        if !kept.is_empty() {
            let _infallible = writeln!(text, "  kept, since {because}: {}", list(&kept));
        }
    }
}

pub(super) fn status(report: &StatusReport) -> String {
    let current = report.current.map_or_else(|| "nothing".to_owned(), |current| format!("generation {current}"));
    let mut text = format!("{}: {current} is served\n", render::path(report.tree.as_ref()));
    if !report.generations.is_empty() {
        let mut rows = vec![["", "GENERATION", "CREATED", "FILES", "SIZE", "READERS"].map(str::to_owned).to_vec()];
        for one in &report.generations {
            rows.push(vec![
                if one.current { "*" } else { "" }.to_owned(),
                one.generation.to_string(),
                one.created.clone(),
                one.totals.files.to_string(),
                render::bytes(one.totals.bytes),
                one.leases.to_string(),
            ]);
        }
        text.push_str(&render::table(&rows));
        for one in &report.generations {
            if let Some(problem) = &one.problem {
                let _infallible =
                    writeln!(text, "NOT KNOWN what {} has: {}", one.generation, render::one_line(problem));
            }
        }
    }
    if let Some(update) = &report.update {
        let last = update.steps.last();
        let step = last.map_or("begin", |step| step.name.as_str());
        let how = match (report.running, last.map(|step| step.state)) {
            (true, _) => "is at the step",
            (false, Some(StepState::Failed)) => "failed at the step",
            (false, _) => "was interrupted at the step",
        };
        let _infallible = writeln!(
            text,
            "{} of generation {}, begun {}, {how}: {step}",
            render::one_line(&update.operation),
            update.generation,
            update.began
        );
        if let Some(why) = last.and_then(|step| step.why.as_ref()) {
            let _infallible = writeln!(text, "  {}", render::one_line(why));
        }
    }
    text
}
