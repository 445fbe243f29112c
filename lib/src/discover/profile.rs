//! Services that are known by name: where their data usually is, as data in `profiles.toml`, read by the same reader
//! as a configuration.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use super::config::{Settings, read_shared};
use super::error::Finding;
use super::reader::{Document, Table};
use crate::archive;

/// One usual place of a service's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) root: PathBuf,
    /// Below the root; the first must exist for the place to be the one, of the others those that exist are taken.
    pub(super) sqlite: Vec<PathBuf>,
    pub(super) include: Vec<PathBuf>,
    /// The service's own build of sqlite3, where it comes with the data's place: else the profile's.
    pub(super) sqlite_program: Option<PathBuf>,
}

/// A known service.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// The name to ask for it by.
    pub name: String,
    /// For people.
    pub title: String,
    /// The unit names that packages give it.
    pub units: Vec<String>,
    /// The names of its container images.
    pub images: Vec<String>,
    pub(super) places: Vec<Place>,
    /// Those in a container of one of its images.
    pub(super) containers: Vec<Place>,
    pub(super) settings: Settings,
}

/// What was found of a profile on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) sqlite: Vec<PathBuf>,
    pub(super) include: Vec<PathBuf>,
    pub(super) sqlite_program: Option<PathBuf>,
}

/// Where a machine's files are looked for.
#[derive(Debug, Clone)]
pub struct Search {
    /// The directory that stands for `/`.
    pub root: PathBuf,
    /// The directory that stands for `~/`.
    pub home: Option<PathBuf>,
}

impl Search {
    /// This machine, and the home directory where there is one.
    #[must_use]
    pub fn here(home: Option<PathBuf>) -> Self {
        Self { root: "/".into(), home }
    }

    fn resolve(&self, path: &Path) -> Option<PathBuf> {
        match path.strip_prefix("~") {
            Ok(below) => Some(self.home.as_ref()?.join(below)),
            Err(_) => Some(self.root.join(path.strip_prefix("/").unwrap_or(path))),
        }
    }
}

static PROFILES: LazyLock<Result<Vec<Profile>, Vec<Finding>>> = LazyLock::new(|| parse(include_str!("profiles.toml")));

/// Every profile, by name.
#[must_use]
pub fn all() -> &'static [Profile] {
    // The text is part of the program, and a test reads it: what is wrong with it can't depend on the machine.
    PROFILES.as_deref().unwrap_or_default()
}

/// The names of the profiles.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    all().iter().map(|profile| profile.name.as_str())
}

impl Profile {
    /// The data of this service on this machine, or the databases that were looked for.
    pub(super) fn find(&self, search: &Search) -> Result<Found, Vec<PathBuf>> {
        let mut looked_for = Vec::new();
        for place in &self.places {
            let Some(root) = search.resolve(&place.root) else { continue };
            let Some(first) = place.sqlite.first().map(|path| root.join(path)) else { continue };
            if !first.is_file() {
                looked_for.push(first);
                continue;
            }
            let below = |path: &PathBuf| match path.is_absolute() {
                true => search.resolve(path),
                false => Some(root.join(path)),
            };
            let existing = |paths: &[PathBuf]| {
                paths.iter().filter_map(below).filter(|path| archive::matches_anything(path)).collect()
            };
            let sqlite_program = place.sqlite_program.clone();
            return Ok(Found { sqlite: existing(&place.sqlite), include: existing(&place.include), sqlite_program });
        }
        Err(looked_for)
    }
}

/// Reads profiles; used for the built-in ones.
fn parse(text: &str) -> Result<Vec<Profile>, Vec<Finding>> {
    let document = Document::new(text);
    let profiles = document.parse().map(|root| {
        let root = Table::new(&document, root.get_ref(), "the file".to_owned());
        let profiles: Vec<Profile> =
            root.named("profile").into_iter().map(|(name, _, table)| read(name, table)).collect();
        root.finish();
        profiles
    });
    let findings = document.into_findings();
    profiles.filter(|_| findings.is_empty()).ok_or(findings)
}

fn read(name: String, table: Table<'_, '_>) -> Profile {
    let places = |key| {
        let read = |place: Table<'_, '_>| {
            let read = Place {
                root: PathBuf::from(place.text("root", "/var/lib/notes").unwrap_or_default()),
                sqlite: place.paths("sqlite", "notes.db", true).unwrap_or_default(),
                include: place.paths("include", "notes.conf", true).unwrap_or_default(),
                sqlite_program: place.path("sqlite-program", "/usr/lib/notes/notes-sqlite"),
            };
            place.finish();
            read
        };
        table.tables(key, "[[profile.NAME.place]]").into_iter().map(read).collect()
    };
    let profile = Profile {
        title: table.text("title", "Notes").unwrap_or_else(|| name.clone()),
        units: table.texts("units", "notes.service").unwrap_or_default(),
        images: table.texts("images", "notes/notes").unwrap_or_default(),
        places: places("place"),
        containers: places("container"),
        settings: read_shared(&table),
        name,
    };
    table.finish();
    profile
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_profiles_are_valid_and_complete() {
        let profiles = parse(include_str!("profiles.toml")).unwrap();
        for name in ["plex", "jellyfin", "sonarr", "radarr", "home-assistant", "vaultwarden"] {
            let profile = profiles.iter().find(|profile| profile.name == name).unwrap();
            assert!(!profile.units.is_empty() && !profile.images.is_empty(), "{name}");
            let ready = profile.settings.ready.as_ref().unwrap();
            assert!(ready.iter().all(|check| check.parse::<crate::ready::ReadyCheck>().is_ok()), "{name}");
            let own = profile.settings.sqlite_program.as_deref();
            assert_eq!(own.is_some(), name == "plex", "{name}");
            assert!(own.is_none_or(Path::is_absolute), "{name}");
            assert!(!profile.containers.is_empty(), "{name}");
            for place in profile.places.iter().chain(&profile.containers) {
                assert!(!place.sqlite.is_empty() && place.sqlite.iter().all(|path| path.is_relative()), "{name}");
                assert!(place.root.is_absolute() || place.root.starts_with("~"), "{name}");
                assert!(place.sqlite_program.as_deref().is_none_or(Path::is_absolute), "{name}");
            }
        }
    }

    #[test]
    fn a_profile_takes_the_first_place_that_is_there_and_says_where_it_looked() {
        let machine = tempfile::tempdir().unwrap();
        let search = Search { root: machine.path().to_owned(), home: None };
        let sonarr = all().iter().find(|profile| profile.name == "sonarr").unwrap();
        let looked_for = sonarr.find(&search).unwrap_err();
        assert!(looked_for.contains(&machine.path().join("var/lib/sonarr/sonarr.db")), "{looked_for:?}");
        let data = machine.path().join("var/lib/sonarr");
        std::fs::create_dir_all(&data).unwrap();
        for file in ["sonarr.db", "config.xml"] {
            std::fs::write(data.join(file), b"x").unwrap();
        }
        let found = sonarr.find(&search).unwrap();
        assert_eq!(found.sqlite, [data.join("sonarr.db")], "a log database that is not there is not asked for");
        assert_eq!(found.include, [data.join("config.xml")]);
        // Nor is a pattern that matches nothing: it would be an include that there is not.
        let home_assistant = all().iter().find(|profile| profile.name == "home-assistant").unwrap();
        let data = machine.path().join("var/lib/hass");
        std::fs::create_dir_all(&data).unwrap();
        std::fs::write(data.join("home-assistant_v2.db"), b"x").unwrap();
        assert_eq!(home_assistant.find(&search).unwrap().include, Vec::<PathBuf>::new());
        std::fs::write(data.join("configuration.yaml"), b"x").unwrap();
        assert_eq!(home_assistant.find(&search).unwrap().include, [data.join("*.yaml")]);
    }
}
