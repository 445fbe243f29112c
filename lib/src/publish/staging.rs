//! A generation that is being made, from its number to its name.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::build::{Built, Comparison, Last, build};
use super::carry::{Carry, carry};
use super::command::Commands;
use super::copy::Copier;
use super::manifest::{Entry, Kind, MANIFEST_VERSION, Manifest};
use super::remove::remove_tree;
use super::scan::scan;
use super::seed::{self, Seed};
use super::steps::Steps;
use super::verify::{Depth, Whole, verify};
use super::{Generation, PublishError, Watch, Writer, build as building, state};
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
    last: Option<Manifest>,
    entries: Vec<Entry>,
    steps: Steps,
    /// What a command of somebody's has made is left to be looked at when it fails.
    keep: bool,
    is_synced: bool,
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
        let steps = Steps::begin(self.tree(), operation, generation)?;
        let directory = self.tree().staging(generation);
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        DirBuilder::new().mode(0o700).create(&directory).at("create the directory", &directory)?;
        let descriptor = File::open(&directory).at("open", &directory)?;
        // Without a manifest there is nothing to link to, and everything is copied.
        let last = self.tree().current()?.and_then(|current| self.tree().manifest(current).ok());
        let began = [now.tv_sec, now.tv_nsec];
        let (entries, keep, is_synced) = (Vec::new(), false, false);
        Ok(Staging { writer: self, generation, directory, descriptor, began, last, entries, steps, keep, is_synced })
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
        let last = self.last.as_ref();
        let last = last.map(|manifest| Last { directory: tree.directory(manifest.generation), manifest });
        let (entries, built) = build(source, &self.directory, last.as_ref(), comparison, watch)?;
        self.entries = entries;
        Ok(built)
    }

    /// Gives it what the current generation has, for a command to change.
    ///
    /// # Errors
    /// Those of the copying; that reflinks were asked for, and the file system has none.
    pub fn seed(&mut self, seed: Seed, watch: Watch<'_>) -> Result<Option<Seed>, PublishError> {
        let Some(last) = self.last.as_ref().filter(|_| seed != Seed::None) else { return Ok(None) };
        self.steps.step("seed")?;
        seed::seed(&self.writer.tree().directory(last.generation), &self.directory, seed, watch).map(Some)
    }

    /// Runs the command that makes it.
    ///
    /// # Errors
    /// [`PublishError::Command`], and with `seeded` by hard links [`PublishError::Unverified`] when the command wrote
    /// through one.
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
        commands.run("the command", argv, self.writer, self.generation, &self.directory, watch)?;
        if let (Some(Seed::Hardlink), Some(last)) = (seeded, &self.last) {
            self.steps.step("verify the generation before")?;
            let directory = self.writer.tree().directory(last.generation);
            verify(&directory, last, Depth::Content, watch).map_err(|error| match error {
                PublishError::Unverified { path, reason } => PublishError::Unverified {
                    path,
                    reason: format!("the command wrote through a hard link into a generation that is served: {reason}"),
                },
                other => other,
            })?;
        }
        Ok(())
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
    /// Those of the linking.
    pub fn carry(&mut self, rules: &Carry, watch: Watch<'_>) -> Result<u64, PublishError> {
        let Some(last) = &self.last else { return Ok(0) };
        if rules.is_empty() {
            return Ok(0);
        }
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
    /// [`PublishError::Command`] of the first that does not end with 0.
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
            commands.run("a check", argv, self.writer, self.generation, &self.directory, watch)?;
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
