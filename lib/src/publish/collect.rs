//! Which old generations go.

use std::time::Duration;

use serde::Serialize;

use super::lease::Leases;
use super::remove::{Retired, retire};
use super::state::Ceased;
use super::{Generation, PublishError, Tree, Watch, Writer};
use crate::world::clock;

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// So many of the newest generations, at least one. The current one is kept beside, wherever it stands.
    pub newest: usize,
    /// And whatever ceased to be the current one less than so long ago, by the clock of this machine.
    pub grace: Duration,
}

/// Why a generation is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// Readers are sent to it.
    Current,
    /// It is one of the newest.
    Newest,
    /// It was the current one not long ago.
    Grace,
    /// A reader holds a lease on it.
    Leased,
    /// Its manifest is lost: whose it is, and what it was, is not known.
    Unknown,
}

/// What was removed, and what stays for which reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// The generations that are gone, or would go.
    pub removed: Vec<Generation>,
    /// The others.
    pub kept: Vec<(Generation, Kept)>,
}

/// Decides: pure but for the readers' leases.
fn judge(
    complete: &[Generation],
    current: Option<Generation>,
    keep: Keep,
    age: impl Fn(Generation) -> Option<Duration>,
) -> Vec<(Generation, Option<Kept>)> {
    let newest = complete.len().saturating_sub(keep.newest.max(1));
    let why = |(index, generation): (usize, Generation)| {
        // What never was current has no age: it was made and not switched to, or is a leftover of long ago.
        let is_young = || age(generation).is_some_and(|age| age < keep.grace);
        let why = match () {
            () if Some(generation) == current => Some(Kept::Current),
            () if index >= newest => Some(Kept::Newest),
            () if is_young() => Some(Kept::Grace),
            () => None,
        };
        (generation, why)
    };
    complete.iter().copied().enumerate().map(why).collect()
}

fn judged(tree: &Tree, keep: Keep) -> Result<Vec<(Generation, Option<Kept>)>, PublishError> {
    let (ceased, now) = (Ceased::read(tree), clock::unix_seconds());
    let age = |generation| ceased.since(tree, generation).map(|then| Duration::from_secs(now.saturating_sub(then)));
    let mut judged = judge(&tree.complete()?, tree.current()?, keep, age);
    judged.extend(tree.unknown()?.into_iter().map(|generation| (generation, Some(Kept::Unknown))));
    Ok(judged)
}

impl Tree {
    /// What [`Writer::collect`] would do.
    ///
    /// # Errors
    /// When the tree can't be read.
    pub fn would_collect(&self, keep: Keep) -> Result<Collected, PublishError> {
        let (leases, mut collected) = (Leases::now(), Collected::default());
        for (generation, why) in judged(self, keep)? {
            let leased = || (leases.on(&self.directory(generation)) > 0).then_some(Kept::Leased);
            match why.or_else(leased) {
                Some(why) => collected.kept.push((generation, why)),
                None => collected.removed.push(generation),
            }
        }
        Ok(collected)
    }
}

impl Writer<'_> {
    /// Removes old generations and what interruptions left; never the current one, one that is leased, one without a
    /// manifest, or the last.
    ///
    /// # Errors
    /// When something can't be removed; the others are as they were.
    pub fn collect(&self, keep: Keep, watch: Watch<'_>) -> Result<Collected, PublishError> {
        watch.observer.step("removing old generations");
        self.sweep()?;
        let mut collected = Collected::default();
        for (generation, why) in judged(self.tree(), keep)? {
            watch.go_on("the removal of old generations")?;
            match why {
                Some(why) => collected.kept.push((generation, why)),
                None => match retire(self.tree(), generation)? {
                    Retired::Removed => collected.removed.push(generation),
                    Retired::Leased => collected.kept.push((generation, Kept::Leased)),
                },
            }
        }
        Ok(collected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_the_current_one_nor_the_newest_nor_what_just_ceased_goes() {
        let all: Vec<Generation> = (1..=6).map(Generation).collect();
        let keep = Keep { newest: 2, grace: Duration::from_secs(60) };
        let age = |g: Generation| Some(Duration::from_secs(if g.0 == 3 { 5 } else { 600 }));
        let going = |current, keep| -> Vec<u64> {
            let judged = judge(&all, current, keep, age);
            judged.iter().filter(|(_, why)| why.is_none()).map(|(g, _)| g.0).collect()
        };
        assert_eq!(going(Some(Generation(6)), keep), [1, 2, 4]);
        assert_eq!(going(Some(Generation(1)), keep), [2, 4]);
        assert_eq!(going(Some(Generation(6)), Keep { newest: 0, grace: Duration::ZERO }), [1, 2, 3, 4, 5]);
        assert_eq!(going(None, Keep { newest: 0, ..keep }), [1, 2, 4, 5]);
        assert_eq!(going(Some(Generation(6)), Keep { newest: 9, ..keep }), [0_u64; 0]);
    }
}
