//! A generation that is being made, from its number to its name.

use std::fs::{DirBuilder, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::build::{Built, Comparison, build};
use super::carry::{Carry, carry};
use super::command::Commands;
use super::copy::Copier;
use super::manifest::{Entry, Kind, MANIFEST_VERSION, Manifest};
use super::remove::remove_tree;
use super::scan::scan;
use super::seed::{self, Seed};
use super::steps::{self, Steps};
use super::verify::{Depth, Whole, verify};
use super::{Generation, PublishError, Tree, Watch, Writer, build as building, state};
use crate::world::clock;
use crate::world::disk::{AtPath, sync_dir, write_durably};
use crate::world::raw_path::RawPath;

/// A generation in the making. What becomes of it is owed to the journal: [`Named::switch`], or [`Staging::give_up`].
#[derive(Debug)]
#[must_use = "a staging that is dropped stays in the journal as interrupted"]
pub struct Staging<'w> {
    writer: &'w Writer<'w>,
    generation: Generation,
    directory: PathBuf,
    /// Open from the beginning: syncfs(2) tells of every write that failed since.
    descriptor: File,
    began: [i64; 2],
    last: Last,
    /// What its own directory gets where nothing else tells: what the umask leaves.
    mode: u32,
    entries: Vec<Entry>,
    steps: Steps,
    /// What a command of somebody's has made is left to be looked at when it fails.
    keep: bool,
    is_synced: bool,
}

/// The generation that is served while another is made.
#[derive(Debug)]
enum Last {
    /// There was none yet.
    None,
    Is(Manifest),
    /// It is not known what it has. A directory can be published all the same; to go on from it is refused.
    Lost(Option<PublishError>),
}

impl Last {
    fn of(tree: &Tree) -> Result<Self, PublishError> {
        let Some(current) = tree.current()? else {
            // One that was complete and never switched to was not what readers had.
            let named = tree.named()?;
            let was_next = steps::read(tree).is_some_and(|interrupted| named.contains(&interrupted.generation));
            let was_served = !named.is_empty() && !was_next && state::Ceased::is_noted(tree);
            let error = PublishError::NoCurrent { tree: tree.root().to_owned() };
            return Ok(if was_served { Self::Lost(Some(error)) } else { Self::None });
        };
        Ok(match tree.manifest(current) {
            Ok(manifest) => Self::Is(manifest),
            Err(PublishError::Missing { .. }) => {
                let reason = "its manifest is not there".to_owned();
                Self::Lost(Some(PublishError::Unverified { path: tree.directory(current), reason }))
            }
            Err(error) => Self::Lost(Some(error)),
        })
    }

    fn manifest(&self) -> Option<&Manifest> {
        if let Self::Is(manifest) = self { Some(manifest) } else { None }
    }

    /// For what can't be done without it.
    fn needed(&mut self, tree: &Tree) -> Result<Option<&Manifest>, PublishError> {
        match self {
            Self::None => Ok(None),
            Self::Is(manifest) => Ok(Some(manifest)),
            Self::Lost(error) => {
                Err(error.take().unwrap_or_else(|| PublishError::NoCurrent { tree: tree.root().to_owned() }))
            }
        }
    }
}

/// A staging whose content is what its manifest says, and durable.
#[derive(Debug)]
#[must_use = "what is sealed is served only once it is published"]
pub struct Sealed<'w> {
    staging: Staging<'w>,
    manifest: Manifest,
}

impl Writer<'_> {
    /// Begins a new generation, after what earlier ones left was swept.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn begin(&self, operation: &str) -> Result<Staging<'_>, PublishError> {
        // The number first: what is swept may be all that tells of a higher one.
        let generation = self.allot()?;
        self.sweep()?;
        self.staging(operation, generation)
    }

    /// The same under a number that another tree gave.
    ///
    /// # Errors
    /// The same.
    pub fn begin_as(&self, operation: &str, generation: Generation) -> Result<Staging<'_>, PublishError> {
        state::note_highest(self.tree(), generation.max(state::highest(self.tree())?))?;
        self.sweep()?;
        self.staging(operation, generation)
    }

    fn staging(&self, operation: &str, generation: Generation) -> Result<Staging<'_>, PublishError> {
        // Before the journal is another one.
        let last = Last::of(self.tree())?;
        let steps = Steps::begin(self.tree(), operation, generation)?;
        let directory = self.tree().staging(generation);
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        DirBuilder::new().create(&directory).at("create the directory", &directory)?;
        let descriptor = File::open(&directory).at("open", &directory)?;
        let mode = descriptor.metadata().at("look at", &directory)?.permissions().mode() & 0o7777;
        // Open to us alone until everything is in it.
        descriptor.set_permissions(Permissions::from_mode(0o700)).at("set the mode of", &directory)?;
        let began = [now.tv_sec, now.tv_nsec];
        let (entries, keep, is_synced) = (Vec::new(), false, false);
        let writer = self;
        Ok(Staging { writer, generation, directory, descriptor, began, last, mode, entries, steps, keep, is_synced })
    }
}

impl<'w> Staging<'w> {
    /// Its number.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Where it is made.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Gives it exactly what a directory has. What is the same as in the current generation is linked.
    ///
    /// # Errors
    /// Those of the copying, and [`PublishError::Changed`].
    pub fn build_from(
        &mut self,
        source: &Path,
        comparison: Comparison,
        watch: Watch<'_>,
    ) -> Result<Built, PublishError> {
        self.steps.step("copy")?;
        let tree = self.writer.tree();
        // Where it is not known what the last one has, there is nothing to link to, and everything is copied.
        let last = self.last.manifest();
        let last = last.map(|manifest| building::Last { directory: tree.directory(manifest.generation), manifest });
        let (entries, built) = build(source, &self.directory, last.as_ref(), comparison, watch)?;
        self.entries = entries;
        Ok(built)
    }

    /// Gives it what the current generation has, for a command to change.
    ///
    /// # Errors
    /// Those of the copying; that reflinks were asked for, and the file system has none; that it is not known what the
    /// current one has, or which it is.
    pub fn seed(&mut self, seed: Seed, watch: Watch<'_>) -> Result<Option<Seed>, PublishError> {
        self.steps.step("seed")?;
        let tree = self.writer.tree();
        let last = if seed == Seed::None { None } else { self.last.needed(tree)? };
        let Some(last) = last else {
            let mode = Permissions::from_mode(self.mode);
            self.descriptor.set_permissions(mode).at("set the mode of", &self.directory)?;
            return Ok(None);
        };
        seed::seed(&tree.directory(last.generation), last, &self.directory, seed, watch).map(Some)
    }

    /// Runs the command that makes it.
    ///
    /// # Errors
    /// [`PublishError::Command`], and with `seeded` by hard links [`PublishError::Damaged`] when the command wrote
    /// through one, also where it failed.
    pub fn run(
        &mut self,
        argv: &[std::ffi::OsString],
        seeded: Option<Seed>,
        commands: &Commands<'_>,
        watch: Watch<'_>,
    ) -> Result<(), PublishError> {
        self.steps.step("run")?;
        self.keep = true;
        watch.observer.step("running the command");
        let ended = commands.run("the command", argv, self.writer, self.generation, &self.directory, watch);
        if seeded != Some(Seed::Hardlink) {
            return ended;
        }
        match ended {
            Err(error) => Err(self.with_damage(error, watch)),
            Ok(()) => {
                self.steps.step("verify the generation before")?;
                self.verify_last(watch)
            }
        }
    }

    /// Whether what is served is still what it was: what runs in the staging may write through hard links.
    fn verify_last(&self, watch: Watch<'_>) -> Result<(), PublishError> {
        let Some(last) = self.last.manifest() else { return Ok(()) };
        let (generation, after) = (last.generation, None);
        let directory = self.writer.tree().directory(generation);
        verify(&directory, last, Depth::Content, watch).map_err(|error| match error {
            PublishError::Unverified { path, reason } => PublishError::Damaged { generation, path, reason, after },
            other => other,
        })
    }

    /// A failure, and with it the damage that came of the same cause.
    fn with_damage(&self, error: PublishError, watch: Watch<'_>) -> PublishError {
        watch.observer.step("verifying the generation before");
        match self.verify_last(watch) {
            Err(PublishError::Damaged { generation, path, reason, .. }) => {
                PublishError::Damaged { generation, path, reason, after: Some(Box::new(error)) }
            }
            _ => error,
        }
    }

    /// Takes what lies in its directory now for its content.
    ///
    /// # Errors
    /// Those of the reading.
    pub fn measure(&mut self, watch: Watch<'_>) -> Result<(), PublishError> {
        self.steps.step("measure")?;
        watch.observer.step("reading what was made");
        let copier = Copier::new();
        self.entries.clear();
        for found in scan(&self.directory, watch)? {
            let path = building::join(&self.directory, &found.path);
            let is_file = found.kind == Kind::File;
            let target = match found.kind {
                Kind::Symlink => Some(RawPath(std::fs::read_link(&path).at("read the link", &path)?)),
                Kind::File | Kind::Directory => None,
            };
            self.entries.push(Entry {
                kind: found.kind,
                mode: if target.is_some() { 0 } else { found.look.mode },
                size: is_file.then_some(found.look.size),
                modified: is_file.then_some(found.look.modified),
                sha256: if is_file { Some(copier.hash(&path, watch)?) } else { None },
                target,
                carried: None,
                path: found.path,
            });
        }
        Ok(())
    }

    /// Keeps what vanished from the source and is still asked for. The answer is how many names that are.
    ///
    /// # Errors
    /// Those of the linking; that it is not known what the current generation has.
    pub fn carry(&mut self, rules: &Carry, watch: Watch<'_>) -> Result<u64, PublishError> {
        if rules.is_empty() {
            return Ok(0);
        }
        let Some(last) = self.last.needed(self.writer.tree())? else { return Ok(0) };
        self.steps.step("carry")?;
        let from = self.writer.tree().directory(last.generation);
        carry(&from, last, &self.directory, &mut self.entries, rules, watch)
    }

    /// Makes its content durable: one syncfs(2), which also tells of writes that failed in the background.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn sync(&mut self, watch: Watch<'_>) -> Result<(), PublishError> {
        if std::mem::replace(&mut self.is_synced, true) {
            return Ok(());
        }
        self.steps.step("sync")?;
        watch.observer.step("writing it to the disk");
        Ok(rustix::fs::syncfs(&self.descriptor).at("sync", &self.directory)?)
    }

    /// Has commands judge it.
    ///
    /// # Errors
    /// [`PublishError::Command`] of the first that does not end with 0, or [`PublishError::Damaged`] where what is served
    /// was changed by then.
    pub fn check(
        &mut self,
        checks: &[Vec<std::ffi::OsString>],
        commands: &Commands<'_>,
        watch: Watch<'_>,
    ) -> Result<(), PublishError> {
        for argv in checks {
            self.steps.step("check")?;
            self.keep = true;
            watch.observer.step("having it checked");
            let ended = commands.run("a check", argv, self.writer, self.generation, &self.directory, watch);
            ended.map_err(|error| self.with_damage(error, watch))?;
        }
        Ok(())
    }

    /// Verifies that it is what was found when it was made, and that it is durable.
    ///
    /// # Errors
    /// [`PublishError::Unverified`] with the first difference; the staging is given up then.
    pub fn seal(mut self, depth: Depth, watch: Watch<'_>) -> Result<Sealed<'w>, PublishError> {
        let manifest = Manifest {
            version: MANIFEST_VERSION,
            generation: self.generation,
            created: clock::now_rfc3339(),
            began: self.began,
            entries: std::mem::take(&mut self.entries),
        };
        self.seal_as(manifest, depth, watch)
    }

    /// Verifies that it is what a manifest from elsewhere says.
    ///
    /// # Errors
    /// The same.
    pub fn seal_as(mut self, manifest: Manifest, depth: Depth, watch: Watch<'_>) -> Result<Sealed<'w>, PublishError> {
        let verified = self.sync(watch).and_then(|()| self.steps.step("verify")).and_then(|()| {
            watch.observer.step("verifying the generation");
            verify(&self.directory, &manifest, depth, watch)
        });
        match verified {
            Ok(()) => Ok(Sealed { staging: self, manifest }),
            Err(error) => {
                // Whoever changed the staging may have done so through a hard link.
                let error = if self.keep { self.with_damage(error, watch) } else { error };
                self.give_up(&error);
                Err(error)
            }
        }
    }

    /// Notes in the journal which step failed and why, and removes what was made; what commands made stays until the
    /// next writer.
    pub fn give_up(mut self, why: &PublishError) {
        self.steps.fail(&crate::failure::with_causes(why.to_string(), std::error::Error::source(why)));
        if self.keep {
            return;
        }
        if let Err(error) = remove_tree(&self.directory) {
            tracing::debug!(%error, "the staging is left to the next writer");
        }
    }
}

impl Sealed<'_> {
    /// Gives it its name: the manifest first, so that what has a name has a manifest too.
    ///
    /// # Errors
    /// Those of the disk; it is given up then.
    pub fn name(self) -> Result<Named, PublishError> {
        let Self { mut staging, manifest } = self;
        let tree = staging.writer.tree();
        let named = (|| {
            staging.steps.step("name")?;
            let path = tree.manifest_path(staging.generation);
            write_durably(&path, &manifest.to_line().at("write", &path)?, 0o644)?;
            let name = tree.directory(staging.generation);
            std::fs::rename(&staging.directory, &name).at("rename into place", &name)?;
            sync_dir(&tree.generations())?;
            staging.steps.step("switch")
        })();
        let whole = Whole { generation: staging.generation, root: tree.root().to_owned() };
        match named {
            Ok(()) => Ok(Named { whole, steps: staging.steps, manifest }),
            Err(error) => {
                staging.keep = false;
                staging.give_up(&error);
                Err(error)
            }
        }
    }
}

/// A new generation that is complete under its number, and not served yet.
#[derive(Debug)]
#[must_use = "it is served only once it is switched to"]
pub struct Named {
    whole: Whole,
    steps: Steps,
    manifest: Manifest,
}

impl Named {
    /// What it consists of.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Sends readers to it. The answer is the generation before.
    ///
    /// # Errors
    /// Those of [`Writer::switch`].
    pub fn switch(mut self, writer: &Writer<'_>) -> Result<Option<Generation>, PublishError> {
        let switched = writer.switch(&self.whole);
        if let Err(error) = &switched {
            self.steps.fail(&error.to_string());
        }
        switched
    }

    /// Leaves it unserved, for a switch by hand.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn leave(self) -> Result<(), PublishError> {
        self.steps.done()
    }
}
