//! Targets: what to back up, from a configuration file, or from the profile of a service that is known by name.
//!
//! `svckit.toml` is read with everything that is wrong told at once, by line and column, and with what to write
//! instead. Profiles are the same kind of text inside the program. A target of the configuration that has the name
//! of a profile (or names one with `profile = "..."`) says only what differs from it.

mod alert;
pub mod baktainer;
mod config;
mod config_server;
mod error;
pub(crate) mod file;
mod group;
pub mod labels;
mod profile;
pub(crate) mod reader;
mod target;

use std::collections::BTreeMap;

pub use alert::{AlertError, Event, ping, run_on_failure};
pub use config::{Config, DockerSettings};
pub use error::{DiscoverError, Finding};
pub use group::Group;
use profile::Found;
pub use profile::{Profile, Search, all as profiles};
pub use target::{Alerts, Mode, Order, Origin, Retention, ServiceRef, StopSettings, Target};

use crate::controller::{ContainerSpec, Endpoint};
use crate::name::TargetName;
use config::Settings;
use labels::{LabelFinding, Labelled};

/// Everything that targets can be found by.
#[derive(Debug, Clone)]
pub struct Discovery {
    config: Config,
    search: Search,
    labelled: Option<Vec<Labelled>>,
    /// The Compose project of each container that has one.
    projects: BTreeMap<String, String>,
    /// Targets of labels whose name is one of this host's own.
    shadowed: Vec<(String, Vec<LabelFinding>)>,
    endpoint: Endpoint,
}

impl Discovery {
    /// With this configuration (the default one names nothing), on this machine.
    #[must_use]
    pub fn new(config: Config, search: Search) -> Self {
        let endpoint = config.docker.endpoint.clone().unwrap_or_else(Endpoint::usual);
        Self { config, search, labelled: None, shadowed: Vec::new(), projects: BTreeMap::new(), endpoint }
    }

    /// The same with containers on this engine, unless the configuration names another.
    #[must_use]
    pub fn on_engine(mut self, endpoint: Endpoint) -> Self {
        if self.config.docker.endpoint.is_none() {
            self.endpoint = endpoint;
        }
        self
    }

    /// The engine of containers.
    #[must_use]
    pub fn engine(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The same with what was found in the labels of containers. Of a name that several have, none is taken; one that
    /// this host itself has stays the host's, since anybody who may start a container writes labels.
    #[must_use]
    pub fn with_labels(mut self, mut labelled: Vec<Labelled>) -> Self {
        labels::refuse_doubles(&mut labelled, |name| self.is_of_host(name));
        for one in &mut labelled {
            for (name, target) in std::mem::take(&mut one.targets) {
                match target {
                    Err(findings) if self.is_of_host(&name) => self.shadowed.push((name, findings)),
                    target => one.targets.push((name, target)),
                }
            }
        }
        self.labelled = Some(labelled);
        self
    }

    /// The same with the Compose projects of containers, by the container's name.
    #[must_use]
    pub fn with_projects(mut self, projects: BTreeMap<String, String>) -> Self {
        self.projects = projects;
        self
    }

    /// The targets of labels that are left out because this host has one of that name, and why.
    pub fn shadowed(&self) -> impl Iterator<Item = (&str, DiscoverError)> {
        self.shadowed
            .iter()
            .map(|(name, findings)| (name.as_str(), DiscoverError::Labels { findings: findings.clone() }))
    }

    /// A target or a service of the configuration, or a known service that is installed here.
    fn is_of_host(&self, name: &str) -> bool {
        let is_found = |profile: &Profile| profile.name == name && profile.find(&self.search).is_ok();
        self.is_configured(name)
            || self.config.services.keys().any(|known| known.as_str() == name)
            || profiles().iter().any(is_found)
    }

    /// What is said of the Docker engine.
    #[must_use]
    pub fn docker(&self) -> &DockerSettings {
        &self.config.docker
    }

    /// Whether the configuration itself has this target, or a group of this name.
    #[must_use]
    pub fn is_configured(&self, name: &str) -> bool {
        self.is_group(name) || self.config.targets.keys().any(|known| known.as_str() == name)
    }

    /// The containers that have labels of ours, and what these say.
    #[must_use]
    pub fn labelled(&self) -> &[Labelled] {
        self.labelled.as_deref().unwrap_or_default()
    }

    /// Whether the labels of containers were looked at.
    #[must_use]
    pub fn looks_at_labels(&self) -> bool {
        self.labelled.is_some()
    }

    /// The targets of labels, by name.
    fn of_labels(&self) -> impl Iterator<Item = (&String, Result<Target, DiscoverError>)> {
        let targets = self.labelled().iter().flat_map(|labelled| &labelled.targets);
        targets.map(|(name, target)| (name, self.with_defaults(target)))
    }

    /// What labels leave to the host.
    fn with_defaults(&self, target: &Result<Target, Vec<LabelFinding>>) -> Result<Target, DiscoverError> {
        let defaults = &self.config.defaults;
        match target {
            Ok(target) => {
                let mut target = target.clone();
                target.store = defaults.store.clone();
                target.mode = target.mode.or(defaults.mode);
                target.compression = target.compression.or(defaults.compression);
                target.retention = target.retention.or(defaults.retention);
                target.alerts = defaults.alerts.clone();
                target.stop.timeout = target.stop.timeout.or(defaults.stop.as_ref().and_then(|stop| stop.timeout));
                Ok(target)
            }
            Err(findings) => Err(DiscoverError::Labels { findings: findings.clone() }),
        }
    }

    /// The target of this name: from the configuration, else from labels, else the profile of this name as it is found
    /// here.
    ///
    /// # Errors
    /// When none of them has it, when its labels are invalid, when the profile's service is not here, and when it names no data.
    pub fn target(&self, name: &str) -> Result<Target, DiscoverError> {
        let configured = self.config.targets.iter().find(|(known, _)| known.as_str() == name);
        let own = configured.map(|(_, settings)| settings);
        if own.is_none()
            && let Some((_, target)) = self.of_labels().find(|(known, _)| *known == name)
        {
            return target;
        }
        let profile_name = own.and_then(|own| own.profile.as_deref()).unwrap_or(name);
        let profile = profiles().iter().find(|profile| profile.name == profile_name);
        if own.is_none() && profile.is_none() {
            return Err(self.unknown(name));
        }
        let target_name = match configured {
            Some((known, _)) => known.clone(),
            None => name.parse().map_err(|_| self.unknown(name))?,
        };
        let target = self.assemble(target_name, own, profile)?;
        if target.sqlite.is_empty() && target.include.is_empty() && target.server.is_none() {
            return Err(DiscoverError::Empty { name: name.to_owned() });
        }
        Ok(target)
    }

    /// Every configured target, then those of labels, then every profile whose service is found here and that neither has.
    #[must_use]
    pub fn targets(&self) -> Vec<(String, Result<Target, DiscoverError>)> {
        let mut all: Vec<(String, Result<Target, DiscoverError>)> =
            self.config.target_names().map(|name| (name.to_string(), self.target(name.as_str()))).collect();
        all.extend(self.of_labels().map(|(name, target)| (name.clone(), target)));
        for profile in profiles() {
            if all.iter().any(|(name, _)| *name == profile.name) {
                continue;
            }
            let is_configured = self.config.targets.iter().any(|(name, settings)| {
                name.as_str() == profile.name || settings.profile.as_deref() == Some(profile.name.as_str())
            });
            if !is_configured && let Ok(target) = self.target(&profile.name) {
                all.push((profile.name.clone(), Ok(target)));
            }
        }
        all
    }

    /// The names of the targets of the configuration and of labels: what "all" means. Those that can't be read are among
    /// them: they are to be told of.
    pub fn configured(&self) -> impl Iterator<Item = &str> {
        let of_labels =
            self.labelled().iter().flat_map(|labelled| labelled.targets.iter().map(|(name, _)| name.as_str()));
        self.config.target_names().map(TargetName::as_str).chain(of_labels)
    }

    /// The service of this name: a configured service, else that of a target or a profile. Its data need not be here.
    ///
    /// # Errors
    /// When there is none.
    pub fn service(&self, name: &str) -> Result<Target, DiscoverError> {
        if let Some((known, settings)) = self.config.services.iter().find(|(known, _)| known.as_str() == name)
            && let Ok(target_name) = known.as_str().parse()
        {
            return self.assemble(target_name, Some(settings), None);
        }
        match self.target(name) {
            Err(DiscoverError::NotInstalled { .. }) => {}
            other => return other,
        }
        let profile = profiles().iter().find(|profile| profile.name == name).ok_or_else(|| self.unknown(name))?;
        let own = self.config.targets.iter().find(|(known, _)| known.as_str() == name).map(|(_, own)| own);
        let target_name = name.parse().map_err(|_| self.unknown(name))?;
        Ok(self.merge(target_name, own, Some(profile), Found::default()))
    }

    fn unknown(&self, name: &str) -> DiscoverError {
        let configured = self.config.target_names().map(ToString::to_string);
        let services = self.config.services.keys().map(ToString::to_string);
        let labelled = self.of_labels().map(|(name, _)| name.clone());
        let groups = self.config.groups.keys().map(ToString::to_string);
        let known = configured
            .chain(groups)
            .chain(services)
            .chain(labelled)
            .chain(profile::names().map(str::to_owned))
            .collect();
        DiscoverError::Unknown { name: name.to_owned(), known }
    }

    fn assemble(
        &self,
        name: TargetName,
        own: Option<&Settings>,
        profile: Option<&Profile>,
    ) -> Result<Target, DiscoverError> {
        let says_data = own.is_some_and(|own| own.sqlite.is_some());
        let data = match profile {
            Some(profile) if !says_data => {
                let missing = |looked_for| DiscoverError::NotInstalled { title: profile.title.clone(), looked_for };
                profile.find(&self.search).map_err(missing)?
            }
            _ => Found::default(),
        };
        Ok(self.merge(name, own, profile, data))
    }

    /// A container of the configuration on the engine that is known by now.
    fn placed(&self, service: ServiceRef) -> ServiceRef {
        match service {
            ServiceRef::Container(spec) => {
                ServiceRef::Container(ContainerSpec { endpoint: self.endpoint.clone(), ..spec })
            }
            other => other,
        }
    }

    /// What a target says itself, else its profile, else the defaults.
    fn merge(&self, name: TargetName, own: Option<&Settings>, profile: Option<&Profile>, found: Found) -> Target {
        let none = Settings::default();
        let own_settings = own.unwrap_or(&none);
        let named = own_settings.service_name.as_deref().and_then(|service| {
            self.config.services.iter().find(|(known, _)| known.as_str() == service).map(|(_, settings)| settings)
        });
        let known = profile.map(|profile| &profile.settings);
        // In the order in which they are asked.
        let layers: Vec<&Settings> =
            [Some(own_settings), named, known, Some(&self.config.defaults)].into_iter().flatten().collect();
        let by_person = 1 + usize::from(named.is_some());
        fn first<T: Clone>(layers: &[&Settings], get: impl Fn(&Settings) -> Option<&T>) -> Option<T> {
            layers.iter().find_map(|layer| get(layer)).cloned()
        }
        let by_profile = || profile.map(|profile| ServiceRef::FirstUnit(profile.units.clone()));
        Target {
            title: profile.map_or_else(|| name.to_string(), |profile| profile.title.clone()),
            service: first(&layers, |layer| layer.service.as_ref()).map(|found| self.placed(found)).or_else(by_profile),
            sqlite: first(&layers, |layer| layer.sqlite.as_ref()).unwrap_or(found.sqlite),
            include: own_settings.include.clone().unwrap_or(found.include),
            store: first(&layers, |layer| layer.store.as_ref()),
            mode: first(&layers, |layer| layer.mode.as_ref()),
            ready: first(&layers, |layer| layer.ready.as_ref()).unwrap_or_default(),
            stop: first(&layers, |layer| layer.stop.as_ref()).unwrap_or_default(),
            retention: first(&layers, |layer| layer.retention.as_ref()),
            alerts: Alerts {
                on_failure: first(&layers, |layer| layer.alerts.on_failure.as_ref()),
                ping: first(&layers, |layer| layer.alerts.ping.as_ref()),
            },
            // What a person has written counts before what comes with the place.
            compression: first(&layers, |layer| layer.compression.as_ref()),
            sqlite_program: first(&layers[..by_person], |layer| layer.sqlite_program.as_ref())
                .or(found.sqlite_program)
                .or_else(|| first(&layers, |layer| layer.sqlite_program.as_ref())),
            server: own_settings.server.clone(),
            address: own_settings.address.clone(),
            order: own_settings.order.clone(),
            origin: if own.is_none() { Origin::Profile } else { Origin::Configured },
            name,
        }
    }
}
