//! A group: its members, each as its own target says, taken together.

use std::fmt::Write;

use svckit::discover::Target;
use svckit::lock::Wait;
use svckit::operation::{
    self, GroupMember, GroupReport, GroupRequest, GroupedMember, Includes, MemberData, MemberFiles,
};
use svckit::quiesce::Context;

use super::run::{absolute_all, compression_of, mode, of_profile_or_target, store_of};
use super::taken::{Taken, stored_text};
use crate::app::App;
use crate::cli::backup::BackupArgs;
use crate::ctl::resumed_word;
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::{dirs, render, service};

pub(super) fn take(
    context: &Context,
    args: &BackupArgs,
    group: &Target,
    members: &[Target],
) -> Result<Taken, ToolError> {
    if args.service.is_given() || !args.include.is_empty() {
        let what = format!("a service or an include was named for the group {}", group.name);
        return Err(ToolError::usage(what, "name it in the target of the member"));
    }
    let request = GroupRequest {
        name: args.name.clone().unwrap_or_else(|| group.name.clone()),
        members: members.iter().map(|target| member(context, args, target)).collect::<Result<_, _>>()?,
        store: store_of(args, group)?,
        credentials: dirs::credentials(),
        fence_hold_max: args.fence_hold_max,
        wait: args.stop.wait.map_or(Wait::No, Wait::AtMost),
        dry_run: args.dry_run,
    };
    Ok(Taken::Group(Box::new(operation::backup_group(context, &request)?)))
}

fn member(context: &Context, args: &BackupArgs, target: &Target) -> Result<GroupMember, ToolError> {
    let data = match &target.server {
        Some(server) => MemberData::Server(Box::new((super::dump::place_of(target)?, server.clone()))),
        None => {
            let mode = mode(args.mode, Some(target));
            MemberData::Files(Box::new(MemberFiles {
                databases: target.sqlite.clone(),
                includes: Includes { patterns: absolute_all(&target.include)? },
                mode,
                controller: of_profile_or_target(target, context, mode)?,
                service: service::options(&target.sqlite, &args.stop, Some(target))?,
            }))
        }
    };
    Ok(GroupMember { name: target.name.clone(), compression: compression_of(args, target), data })
}

pub(super) fn shown(app: &App, report: &GroupReport) -> Result<Outcome, ToolError> {
    Ok(app.output.done(Outcome::Done, report, || text(report)))
}

fn text(report: &GroupReport) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    match (&report.backup, &report.path) {
        (Some(backup), Some(path)) => {
            let _infallible =
                writeln!(text, "{} {backup}: verified, in {}", report.target, render::path(path.as_ref()));
            text.push_str(&stored_text((report.content_bytes, report.stored_bytes), "taken together", &report.rungs));
        }
        _ => {
            let _infallible = writeln!(text, "{}: would be backed up together", report.target);
        }
    }
    for member in &report.members {
        text.push_str(&of_member(member));
    }
    for step in report.plan.iter().filter(|_| report.backup.is_none()) {
        let _infallible = writeln!(text, "  would: {}", render::one_line(step));
    }
    for notice in &report.notices {
        let _infallible = writeln!(text, "  note: {}", render::one_line(notice));
    }
    text
}

fn of_member(member: &GroupedMember) -> String {
    let mut text = format!("  member {} ({})", member.member, member.mode);
    if let Some(downtime) = member.downtime_ms {
        let _infallible = write!(text, ", its service was down for {}", render::milliseconds(downtime));
    }
    if let Some(resumed) = member.service {
        let _infallible = write!(text, ": {}", resumed_word(resumed));
    }
    text.push('\n');
    for database in &member.databases {
        let _infallible = writeln!(text, "    database: {}", render::path(database.as_ref()));
    }
    for database in &member.dumped {
        let name = render::one_line(&database.name);
        let _infallible = writeln!(text, "    database: {name} ({} tables, {} rows)", database.tables, database.rows);
    }
    text
}
