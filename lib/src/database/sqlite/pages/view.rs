//! A consistent view of a database that others may be using, and how it is had.
//!
//! | the database is | the view is | others notice |
//! |---|---|---|
//! | open in WAL mode | the log up to its last commit, under the locks of a reader ([`super::super::live`]) | no checkpoint while it lasts |
//! | open in a rollback mode | the file without a lock, compared at the end; or under SHARED | nothing; or writers wait |
//! | the same, with a hot journal | the file with the journal's pages, in the same ways | nothing; or nobody rolls back |
//! | not open | the file with what its log or its journal has, compared at the end | nothing |
//! | a copy of our own | the same, without a lock and without a comparison | - |
//!
//! Nothing is written, and no file appears.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::copy::Stamp;
use super::super::error::SqliteError;
use super::super::header::{Identity, JournalMode, identify, identify_open};
use super::super::hot::{now, same_content, settle};
use super::super::live::{Member, Usage, open_if_there, usage_of};
use super::super::together::{Worth, worth};
use super::header::Header;
use super::image::Image;
use super::journal::{self, JournalScan};
use super::overlay::Overlay;
use super::shm::{self, Witness};
use super::wal::{self, WalScan};
use crate::progress::Cancel;
use crate::sqlite_locks::{Access, DB_SHARED, LockFile, lock_together, side_file};
use crate::world::disk::AtPath;

/// What takes no longer is done to its end, and tells how long that is.
const WHOLE_BELOW: Duration = Duration::from_millis(100);
/// How often a view is begun in the hope that nobody has just written.
const SETTLED_MAX: u32 = 3;

/// How it was made sure that a view is of one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consistency {
    /// In use, WAL mode: the locks of a reader were held.
    ReadMark,
    /// In use, rollback mode: SHARED was held, writers waited.
    ReadLock,
    /// In use, rollback mode: no lock; nobody wrote meanwhile.
    Compared,
    /// Nobody had it open; nobody wrote meanwhile.
    Quiet,
    /// The caller said that nobody else knows the files.
    Own,
}

/// What lay beside the database, as it was read.
#[derive(Debug, Default)]
pub(super) struct Logs {
    pub(super) wal: Option<WalScan>,
    pub(super) witness: Option<Witness>,
    pub(super) journal: Option<JournalScan>,
    /// The journal must be rolled back.
    pub(super) hot: bool,
    /// How many frames a living writer says there are.
    pub(super) live: Option<u32>,
    /// Why the log is not a part of the view, although it is there.
    pub(super) wal_ignored: Option<String>,
}

/// A database as of one instant. The locks that it needs end with it.
#[derive(Debug)]
pub struct View {
    image: Image,
    member: Member,
    pub(super) logs: Logs,
    how: Consistency,
    state: State,
    racy: bool,
    began: Instant,
    /// When those that wait for us must not wait any longer.
    deadline: Option<Instant>,
}

/// What of the log is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Log {
    Use,
    /// As if it were not there: to tell whose damage it is. Only where nobody has the database open.
    Ignore,
}

/// Whose the files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// A service's; how long its writers may be made to wait, where they are to.
    Service { hold: Option<Duration> },
    /// Ours alone.
    Own,
}

impl View {
    /// Opens a database that may be damaged, and may be in use.
    ///
    /// `hold`: in a rollback mode, have writers wait until the view is dropped, and for how long that may be
    /// ([`View::has_lapsed`]); without it, [`View::still_holds`] says at the end whether anybody wrote. `wait_max`: for locks
    /// of others.
    ///
    /// # Errors
    /// [`SqliteError::InFlight`] and [`SqliteError::Locks`] where no consistent view can be had;
    /// [`SqliteError::Disturbed`] where it may be had at once; that it is no database at all; what the files refuse.
    pub fn open(path: &Path, hold: Option<Duration>, wait_max: Duration, cancel: &Cancel) -> Result<Self, SqliteError> {
        Self::open_with(path, Whose::Service { hold }, wait_max, Log::Use, cancel)
    }

    /// Opens a copy that nobody else knows: at once, and without a lock.
    ///
    /// # Errors
    /// That it is no database at all; what the files refuse.
    pub fn open_own(copy: &Path, cancel: &Cancel) -> Result<Self, SqliteError> {
        Self::open_with(copy, Whose::Own, Duration::ZERO, Log::Use, cancel)
    }

    /// As [`View::open_own`], as if there were no log and no journal: where they are of another state of it.
    ///
    /// # Errors
    /// That it is no database at all; what the files refuse.
    pub fn open_own_alone(copy: &Path, cancel: &Cancel) -> Result<Self, SqliteError> {
        Self::open_with(copy, Whose::Own, Duration::ZERO, Log::Ignore, cancel)
    }

    pub(super) fn open_with(
        path: &Path,
        whose: Whose,
        wait_max: Duration,
        log: Log,
        cancel: &Cancel,
    ) -> Result<Self, SqliteError> {
        let own = whose == Whose::Own;
        let member = member(path, own, cancel)?;
        let unsettled = std::iter::once(&member).filter(|member| !own && !matches!(member.usage, Usage::Wal(_)));
        settle(unsettled, cancel)?;
        let until = Instant::now() + wait_max;
        let mut logs = Logs::default();
        let mut how = Consistency::Quiet;
        let mut pages = None;
        let mut deadline = None;
        if let Usage::Wal(shm) = &member.usage {
            member.pin(shm, until, cancel)?;
            let mark = member.mark(shm, until, cancel)?;
            how = Consistency::ReadMark;
            logs.live = Some(mark.frame);
            logs.witness = shm::read(shm.file()).at("read", shm.path())?.map(|witness| Witness { mark, ..witness });
            pages = Some(mark.pages).filter(|pages| *pages > 0);
        }
        let mut state = State::of(&member)?;
        if !matches!(member.usage, Usage::Wal(_)) {
            let held = matches!(whose, Whose::Service { hold: Some(_) });
            for round in 0..SETTLED_MAX {
                if !own {
                    lock_together(&[member.shared()], until, cancel)?;
                }
                logs.hot = member.has_hot_journal()?;
                state = State::of(&member)?;
                if own || held || round + 1 == SETTLED_MAX || !state.is_racy(logs.hot) {
                    break;
                }
                // Who was waited for has just written: what follows it is looked at, and not that once more.
                member.db.unlock(DB_SHARED)?;
                settle(std::iter::once(&member), cancel)?;
            }
        }
        // One whose header says nothing has no page size.
        if member.identity.page_size > 0 {
            member.keeps_mode()?;
        }
        let racy = state.is_racy(logs.hot);
        let began = Instant::now();
        match &member.usage {
            Usage::Wal(_) => {}
            _ if own => how = Consistency::Own,
            Usage::Rollback if let Whose::Service { hold: Some(hold) } = whose => {
                deadline = Some(Instant::now() + hold);
                how = Consistency::ReadLock;
            }
            usage => {
                member.db.unlock(DB_SHARED)?;
                if matches!(usage, Usage::Rollback) {
                    how = Consistency::Compared;
                }
            }
        }
        let overlay = overlay(&member, &mut logs, log, cancel)?;
        let mut page_size = None;
        match &overlay {
            Overlay::Wal { .. } => {
                let scan = logs.wal.as_ref();
                page_size = scan.map(|scan| scan.page_size);
                pages = scan.map(|scan| scan.pages);
            }
            Overlay::Journal { .. } => {
                page_size = logs.journal.as_ref().map(|scan| scan.page_size);
                pages = logs.journal.as_ref().map(|scan| scan.pages.min(scan.reach(member.identity.bytes)));
            }
            Overlay::None => {}
        }
        if member.identity.bytes == 0 && matches!(overlay, Overlay::None) {
            return Err(SqliteError::Empty { path: path.to_owned() });
        }
        let image = Image::new(LockFile::open(path, Access::Read)?, overlay, pages, page_size);
        if !image.is_plausible() {
            let reason = "neither its first bytes nor any of its pages are those of one".to_owned();
            return Err(SqliteError::NotSqlite { path: path.to_owned(), reason });
        }
        Ok(Self { image, member, logs, how, state, racy, began, deadline })
    }

    /// The pages.
    #[must_use]
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// How it is made sure that they are of one instant.
    #[must_use]
    pub fn consistency(&self) -> Consistency {
        self.how
    }

    /// Whether others wait for us.
    pub(super) fn keeps_waiting(&self) -> bool {
        self.deadline.is_some()
    }

    /// Whether work on the view may end early: those that wait for us have waited for long enough, or somebody wrote, so
    /// that [`View::still_holds`] will say no. It costs a system call at most.
    #[must_use]
    pub fn has_lapsed(&self) -> bool {
        match self.how {
            Consistency::ReadLock => self.deadline.is_some_and(|deadline| Instant::now() > deadline),
            Consistency::Compared | Consistency::Quiet => {
                self.began.elapsed() > WHOLE_BELOW
                    && Stamp::of(self.member.db.file()).is_ok_and(|now| !same_content(Some(now), self.state.stamps[0]))
            }
            Consistency::ReadMark | Consistency::Own => false,
        }
    }

    /// Whether everything that was read up to now was of one instant. To be asked at the end.
    ///
    /// # Errors
    /// When the files can't be looked at, or somebody wrote in spite of our locks.
    pub fn still_holds(&self, wait_max: Duration, cancel: &Cancel) -> Result<bool, SqliteError> {
        let until = Instant::now() + wait_max;
        let now = || State::of(&self.member);
        match self.how {
            Consistency::ReadMark | Consistency::ReadLock => {
                if matches!(&self.member.usage, Usage::Wal(shm) if self.member.stands(shm).is_err()) {
                    return Ok(false);
                }
                let now = now()?;
                if !same_content(now.stamps[0], self.state.stamps[0]) {
                    return Err(self
                        .member
                        .in_flight("it was written in spite of the lock that forbids it".to_owned()));
                }
                Ok(self.has_same_journal(&now))
            }
            Consistency::Compared => {
                lock_together(&[self.member.shared()], until, cancel)?;
                let now = now()?;
                let same = now.counter == self.state.counter
                    && same_content(now.stamps[0], self.state.stamps[0])
                    && self.has_same_journal(&now)
                    && !self.racy;
                self.member.db.unlock(DB_SHARED)?;
                Ok(same)
            }
            Consistency::Own => Ok(true),
            // Who opened it meanwhile and changed nothing, did not disturb.
            Consistency::Quiet => Ok(now()?.stamps == self.state.stamps && !self.racy),
        }
    }

    /// Whether the journal that was read, if any, is as it was. One that must be rolled back does not change before the
    /// database does. One that does was a living writer's, which rolled back while we looked whose it is.
    fn has_same_journal(&self, now: &State) -> bool {
        let was_read = self.logs.journal.is_some();
        !was_read || (same_content(now.stamps[2], self.state.stamps[2]) && !self.state.is_racy(true))
    }

    /// How long it has been read.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }
}

/// What tells whether somebody wrote.
#[derive(Debug)]
struct State {
    /// Of the database, `-wal` and `-journal`.
    stamps: [Option<Stamp>; 3],
    counter: u32,
    at: Duration,
}

impl State {
    fn of(member: &Member) -> Result<Self, SqliteError> {
        Ok(Self { stamps: member.stamps()?, counter: counter_of(member), at: now() })
    }

    /// Whether it was changed so short a time before that another change could look the same.
    fn is_racy(&self, with_journal: bool) -> bool {
        let is = |stamp: Option<Stamp>| stamp.is_none_or(|stamp| stamp.settles_in(self.at).is_some());
        is(self.stamps[0]) || (with_journal && is(self.stamps[2]))
    }
}

/// As a snapshot has it, but also for a header that is damaged, or gone with everything but the log.
fn member(path: &Path, own: bool, cancel: &Cancel) -> Result<Member, SqliteError> {
    let identity = match identify(path) {
        Err(SqliteError::NotSqlite { .. }) => None,
        Err(SqliteError::LogOnly { gone: false, .. }) => None,
        other => Some(other?),
    };
    let db = LockFile::open(path, Access::Read)?;
    let identity = match identity {
        Some(_) => identify_open(&db)?,
        None => Identity {
            file: db.id(),
            bytes: db.file().metadata().at("look at", path)?.len(),
            page_size: 0,
            // Where it is used as one, its -shm says so.
            journal_mode: JournalMode::Wal,
            change_counter: 0,
            user_version: 0,
            application_id: 0,
        },
    };
    let usage = if own { Usage::Quiet } else { usage_of(path, &db, identity.journal_mode, cancel)? };
    Ok(Member { index: 0, path: path.to_owned(), db, identity, usage })
}

fn counter_of(member: &Member) -> u32 {
    identify_open(&member.db).map_or(0, |identity| identity.change_counter)
}

/// Reads what lies beside the database and decides what of it is a part of the view.
fn overlay(member: &Member, logs: &mut Logs, log: Log, cancel: &Cancel) -> Result<Overlay, SqliteError> {
    let path = &member.path;
    let cancelled = || SqliteError::Cancelled { what: "reading", path: path.clone() };
    if logs.hot
        && let Some(file) = open_if_there(&side_file(path, "-journal"), Access::Read)?
    {
        let scan = match journal::scan(file.file(), cancel) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(member.disturbed("its journal was cut while it was read"));
            }
            other => other.at("read", file.path())?.ok_or_else(cancelled)?,
        };
        // Of several databases that changed together. Where it can't be told, it was most likely cut off.
        logs.hot = scan.super_journal.is_none() || worth(&file, &[path])? != Worth::Committed;
        let usable = logs.hot && scan.fault.is_none() && scan.pages > 0;
        let records = scan.records.clone();
        logs.journal = Some(scan);
        if usable && log == Log::Use {
            return Ok(Overlay::Journal { file, records });
        }
    }
    if logs.live.is_none() {
        // Nobody is in the log: what a dead user of it left is a witness.
        if let Some(shm) = open_if_there(&side_file(path, "-shm"), Access::Read)? {
            logs.witness = shm::read(shm.file()).at("read", shm.path())?;
        }
    }
    let Some(file) = open_if_there(&side_file(path, "-wal"), Access::Read)? else {
        return match logs.live {
            Some(frames) if frames > 0 => Err(member.disturbed("its -wal has vanished")),
            _ => Ok(Overlay::None),
        };
    };
    let mut scan = wal::scan(file.file(), logs.live, cancel).at("read", file.path())?.ok_or_else(cancelled)?;
    if logs.live == Some(0) {
        // What is in the file is from before the log was begun anew.
        logs.wal = None;
        return Ok(Overlay::None);
    }
    let frames = std::mem::take(&mut scan.frames);
    let mut use_it = scan.last_commit > 0 && log == Log::Use && matches!(member.usage, Usage::Wal(_) | Usage::Quiet);
    let of_db = Header::parse(&first_bytes(member));
    if use_it && of_db.page_size != 0 && of_db.page_size != scan.page_size && of_db.pages_are_valid() {
        logs.wal_ignored =
            Some(format!("its pages have {} bytes, and the database's {}", scan.page_size, of_db.page_size));
        use_it = false;
    }
    logs.wal = Some(scan);
    Ok(if use_it { Overlay::Wal { file, frames } } else { Overlay::None })
}

fn first_bytes(member: &Member) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; 100];
    let got = member.db.file().read_at(&mut bytes, 0).unwrap_or(0);
    bytes.truncate(got);
    bytes
}
