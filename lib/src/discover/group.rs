//! Groups: targets that are taken together.
//!
//! ```toml
//! [group.shop]
//! members = ["shop-db", "shop-web"]  # in the order in which they are started again; or
//! compose = "shop"                   # every target whose container is of this Compose project
//! store = "/srv/backups"             # and retention, on-failure, ping: those of its members don't count
//! ```

use super::config::{Settings, read_alerts, read_retention};
use super::error::DiscoverError;
use super::reader::Table;
use super::{Discovery, Origin, ServiceRef, Target};
use crate::name::TargetName;

/// What a group's table says.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct GroupSettings {
    members: Vec<TargetName>,
    compose: Option<String>,
    shared: Settings,
}

/// Targets that are taken together.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The group as something that is backed up: its name, its store, what is kept of it and who is told.
    pub target: Target,
    /// Its members.
    pub members: Vec<Target>,
}

pub(super) fn read_group(table: &Table<'_, '_>) -> GroupSettings {
    let names = table.texts("members", "shop-db");
    let compose = table.text("compose", "shop");
    if names.is_some() == compose.is_some() {
        table.refuse("members", "a group has either members or a Compose project", Some("members = [\"shop-db\"]"));
    }
    let mut members: Vec<TargetName> = Vec::new();
    for name in names.unwrap_or_default() {
        match name.parse::<TargetName>() {
            Ok(name) if members.contains(&name) => {
                table.refuse("members", &format!("{name} is named twice"), None);
            }
            Ok(name) => members.push(name),
            Err(error) => table.refuse("members", &error.to_string(), None),
        }
    }
    let retention = table.table("retention", "retention = { last = 7, daily = 14 }");
    let shared = Settings {
        store: table.path("store", "/srv/backups"),
        retention: retention.map(|keep| read_retention(keep)),
        alerts: read_alerts(table),
        ..Settings::default()
    };
    GroupSettings { members, compose, shared }
}

impl Discovery {
    /// Whether the configuration has a group of this name.
    #[must_use]
    pub fn is_group(&self, name: &str) -> bool {
        self.config.groups.keys().any(|known| known.as_str() == name)
    }

    /// The names of the groups.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.config.groups.keys().map(TargetName::as_str)
    }

    /// The group of this name, with its members as they are found.
    ///
    /// # Errors
    /// When there is none, and when a member of it can't be found or there is none.
    pub fn group(&self, name: &str) -> Result<Group, DiscoverError> {
        let found = self.config.groups.iter().find(|(known, _)| known.as_str() == name);
        let Some((name, settings)) = found else { return Err(self.unknown(name)) };
        let members = match &settings.compose {
            None => {
                settings.members.iter().map(|member| self.target(member.as_str())).collect::<Result<Vec<_>, _>>()?
            }
            Some(project) => self.of_project(project)?,
        };
        if members.is_empty() {
            return Err(DiscoverError::NoMembers { group: name.to_string() });
        }
        let target = Target {
            title: format!("the group {name}"),
            ..self.merge(name.clone(), Some(&settings.shared), None, super::profile::Found::default())
        };
        Ok(Group { target, members })
    }

    /// What a run of all takes: every group, and every target that is in none.
    #[must_use]
    pub fn of_all(&self) -> Vec<String> {
        let mut members: Vec<String> = Vec::new();
        for (name, settings) in &self.config.groups {
            members.extend(settings.members.iter().map(ToString::to_string));
            let found = settings.compose.is_some().then(|| self.group(name.as_str()).ok()).flatten();
            members.extend(found.iter().flat_map(|group| &group.members).map(|member| member.name.to_string()));
        }
        let alone = self.configured().filter(|name| !members.iter().any(|member| member == name));
        self.config.groups.keys().map(TargetName::as_str).chain(alone).map(str::to_owned).collect()
    }

    /// One that can't be read is an error of the group: a group is whole or not at all.
    fn of_project(&self, project: &str) -> Result<Vec<Target>, DiscoverError> {
        let mut members = Vec::new();
        for name in self.configured() {
            let target = self.target(name);
            let container = match &target {
                Ok(Target { origin: Origin::Labels { container }, .. }) => Some(container.as_str()),
                Ok(Target { service: Some(ServiceRef::Container(spec)), .. }) => Some(spec.name.as_str()),
                Ok(_) => None,
                Err(_) => self
                    .labelled()
                    .iter()
                    .find(|one| one.targets.iter().any(|(known, _)| known == name))
                    .map(|one| one.container.as_str()),
            };
            if container.is_some_and(|container| self.projects.get(container).is_some_and(|of| of == project)) {
                members.push(target?);
            }
        }
        Ok(members)
    }
}
