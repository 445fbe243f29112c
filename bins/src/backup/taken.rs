//! What the backup of a target reports: a snapshot of its databases and files, or a dump of its server.

use svckit::name::{BackupId, TargetName};
use svckit::operation::{BackupReport, DumpReport, GroupReport};

use super::{dump, group, run};
use crate::app::App;
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::render;

/// One backup.
pub(super) enum Taken {
    Snapshot(Box<BackupReport>),
    Dump(Box<DumpReport>),
    Group(Box<GroupReport>),
}

impl Taken {
    pub(super) fn target(&self) -> &TargetName {
        match self {
            Self::Snapshot(report) => &report.target,
            Self::Dump(report) => &report.target,
            Self::Group(report) => &report.target,
        }
    }

    pub(super) fn backup(&self) -> Option<&BackupId> {
        match self {
            Self::Snapshot(report) => report.backup.as_ref(),
            Self::Dump(report) => report.backup.as_ref(),
            Self::Group(report) => report.backup.as_ref(),
        }
    }

    pub(super) fn stored_bytes(&self) -> u64 {
        match self {
            Self::Snapshot(report) => report.stored_bytes,
            Self::Dump(report) => report.stored_bytes,
            Self::Group(report) => report.stored_bytes,
        }
    }

    pub(super) fn notice(&mut self, notice: String) {
        match self {
            Self::Snapshot(report) => report.notices.push(notice),
            Self::Dump(report) => report.notices.push(notice),
            Self::Group(report) => report.notices.push(notice),
        }
    }

    pub(super) fn show(&self, app: &App) -> Result<Outcome, ToolError> {
        match self {
            Self::Snapshot(report) => run::shown(app, report),
            Self::Dump(report) => dump::shown(app, report),
            Self::Group(report) => group::shown(app, report),
        }
    }
}

/// What a backup takes, how it was taken, and how far it is proved: two lines.
pub(super) fn stored_text((content, stored): (u64, u64), how: &str, rungs: &[String]) -> String {
    let (content, stored) = (render::bytes(content), render::bytes(stored));
    format!("  {content} in {stored} of the store, {how}\n  verified by: {}\n", rungs.join(", "))
}
