//! Targets: what to back up, from a configuration file, or from the profile of a service that is known by name.
//!
//! `svckit.toml` is read with everything that is wrong told at once, by line and column, and with what to write
//! instead. Profiles are the same kind of text inside the program. A target of the configuration that has the name
//! of a profile (or names one with `profile = "..."`) says only what differs from it.

mod alert;
mod config;
mod error;
mod profile;
mod reader;
mod target;

use std::path::PathBuf;

pub use alert::{AlertError, Event, ping, run_on_failure};
pub use config::Config;
pub use error::{DiscoverError, Finding};
pub use profile::{Profile, Search, all as profiles};
pub use target::{Alerts, Mode, Retention, ServiceRef, StopSettings, Target};

use crate::name::TargetName;
use config::Settings;

/// Everything that targets can be found by.
#[derive(Debug, Clone)]
pub struct Discovery {
    config: Config,
    search: Search,
}

impl Discovery {
    /// With this configuration (the default one names nothing), on this machine.
    #[must_use]
    pub fn new(config: Config, search: Search) -> Self {
        Self { config, search }
    }

    /// The target of this name: from the configuration, else the profile of this name as it is found here.
    ///
    /// # Errors
    /// When neither has it, when the profile's service is not here, and when it names no data.
    pub fn target(&self, name: &str) -> Result<Target, DiscoverError> {
        let configured = self.config.targets.iter().find(|(known, _)| known.as_str() == name);
        let own = configured.map(|(_, settings)| settings);
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
        if target.sqlite.is_empty() && target.include.is_empty() {
            return Err(DiscoverError::Empty { name: name.to_owned() });
        }
        Ok(target)
    }

    /// Every configured target, then every profile whose service is found here and that is not configured.
    #[must_use]
    pub fn targets(&self) -> Vec<(String, Result<Target, DiscoverError>)> {
        let mut all: Vec<(String, Result<Target, DiscoverError>)> =
            self.config.target_names().map(|name| (name.to_string(), self.target(name.as_str()))).collect();
        for profile in profiles() {
            let is_configured = self.config.targets.iter().any(|(name, settings)| {
                name.as_str() == profile.name || settings.profile.as_deref() == Some(profile.name.as_str())
            });
            if !is_configured && let Ok(target) = self.target(&profile.name) {
                all.push((profile.name.clone(), Ok(target)));
            }
        }
        all
    }

    /// The names of the configured targets: what "all" means.
    pub fn configured(&self) -> impl Iterator<Item = &TargetName> {
        self.config.target_names()
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
        Ok(self.merge(target_name, own, Some(profile), (Vec::new(), Vec::new())))
    }

    fn unknown(&self, name: &str) -> DiscoverError {
        let configured = self.config.target_names().map(ToString::to_string);
        let services = self.config.services.keys().map(ToString::to_string);
        let known = configured.chain(services).chain(profile::names().map(str::to_owned)).collect();
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
                let found = profile
                    .find(&self.search)
                    .map_err(|looked_for| DiscoverError::NotInstalled { title: profile.title.clone(), looked_for })?;
                (found.sqlite, found.include)
            }
            _ => (Vec::new(), Vec::new()),
        };
        Ok(self.merge(name, own, profile, data))
    }

    /// What a target says itself, else its profile, else the defaults.
    fn merge(
        &self,
        name: TargetName,
        own: Option<&Settings>,
        profile: Option<&Profile>,
        (sqlite, include): (Vec<PathBuf>, Vec<PathBuf>),
    ) -> Target {
        let none = Settings::default();
        let own_settings = own.unwrap_or(&none);
        let named = own_settings.service_name.as_deref().and_then(|service| {
            self.config.services.iter().find(|(known, _)| known.as_str() == service).map(|(_, settings)| settings)
        });
        let known = profile.map(|profile| &profile.settings);
        // In the order in which they are asked.
        let layers: Vec<&Settings> =
            [Some(own_settings), named, known, Some(&self.config.defaults)].into_iter().flatten().collect();
        fn first<T: Clone>(layers: &[&Settings], get: impl Fn(&Settings) -> Option<&T>) -> Option<T> {
            layers.iter().find_map(|layer| get(layer)).cloned()
        }
        let by_profile = || profile.map(|profile| ServiceRef::FirstUnit(profile.units.clone()));
        Target {
            title: profile.map_or_else(|| name.to_string(), |profile| profile.title.clone()),
            service: first(&layers, |layer| layer.service.as_ref()).or_else(by_profile),
            sqlite: first(&layers, |layer| layer.sqlite.as_ref()).unwrap_or(sqlite),
            include: own_settings.include.clone().unwrap_or(include),
            store: first(&layers, |layer| layer.store.as_ref()),
            mode: first(&layers, |layer| layer.mode.as_ref()),
            ready: first(&layers, |layer| layer.ready.as_ref()).unwrap_or_default(),
            stop: first(&layers, |layer| layer.stop.as_ref()).unwrap_or_default(),
            retention: first(&layers, |layer| layer.retention.as_ref()),
            alerts: Alerts {
                on_failure: first(&layers, |layer| layer.alerts.on_failure.as_ref()),
                ping: first(&layers, |layer| layer.alerts.ping.as_ref()),
            },
            sqlite_program: first(&layers, |layer| layer.sqlite_program.as_ref()),
            from_profile: own.is_none(),
            name,
        }
    }
}
