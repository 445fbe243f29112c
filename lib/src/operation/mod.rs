//! One story per operation: what the programs call.
//!
//! Every mutating operation takes its locks before it gathers facts, brings an interrupted earlier operation on the
//! same service to its end first, and returns a report in which the outcome of the work and the return of the
//! service are separate results: 'not back' outranks everything else.

mod backup;
mod check;
mod common;
mod dump;
mod error;
mod group;
mod held;
mod lifecycle;
mod load;
mod maintain;
mod preserved;
mod prove;
pub mod publish;
mod reference;
mod repair;
mod repair_report;
mod request;
mod restore;
mod resume;
mod run;
mod server;
mod staging;
mod store;
mod undo;
mod verification;

pub use backup::backup;
pub use check::{CheckReport, CheckRequest, check};
pub use dump::{DumpReport, DumpRequest, DumpedDatabase, dump};
pub use error::OperationError;
pub use group::{GroupMember, GroupReport, GroupRequest, GroupedMember, MemberData, MemberFiles, backup_group};
pub use lifecycle::{audit, restart, start, status, stop, wait};
pub use load::{LoadReport, LoadRequest, load};
pub use maintain::lock_for_maintenance;
pub use preserved::preserved;
pub use prove::RestoreTest;
pub use reference::{BackupOfIt, ReferenceRequest};
pub use repair::repair;
pub use repair_report::{
    ListedSet, Listing, Placed, RepairOutcome, RepairReport, RepairRequest, UndoReport, UndoRequest, UnreadableSet,
};
pub use request::{
    BackupMode, BackupReport, BackupRequest, Includes, RestoreReport, RestoreRequest, ResumeReport, Resumed,
    ServiceOptions, ServiceReport,
};
pub use restore::restore;
pub use resume::{guard, resume};
pub use run::{
    Ended, Failed, MayPass, RecordError, Records, Retries, RunItem, RunRecord, Slots, Succeeded, TargetOfRun,
    TargetRecord, run_all,
};
pub use server::ServerPlace;
pub use store::{Expired, ListedBackup, VerifiedBackup, expire, list, verify};
pub use undo::undo;
