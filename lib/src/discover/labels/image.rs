//! What an image's name tells of what runs in it.

use crate::database::server::EngineKind;
use crate::discover::profile::{self, Profile};

/// What is known of an image.
#[derive(Debug, Clone, Copy)]
pub(super) enum Known {
    /// A database server.
    Server(EngineKind),
    /// A service with SQLite databases.
    Service(&'static Profile),
}

/// Images of database servers, without registry and tag.
const SERVERS: [(&str, EngineKind); 21] = [
    ("postgres", EngineKind::Postgres),
    ("postgis/postgis", EngineKind::Postgres),
    ("pgvector/pgvector", EngineKind::Postgres),
    ("tensorchord/pgvecto-rs", EngineKind::Postgres),
    ("immich-app/postgres", EngineKind::Postgres),
    ("timescale/timescaledb", EngineKind::Postgres),
    ("timescale/timescaledb-ha", EngineKind::Postgres),
    ("bitnami/postgresql", EngineKind::Postgres),
    ("mariadb", EngineKind::Mysql),
    ("mysql", EngineKind::Mysql),
    ("mysql/mysql-server", EngineKind::Mysql),
    ("percona", EngineKind::Mysql),
    ("linuxserver/mariadb", EngineKind::Mysql),
    ("bitnami/mariadb", EngineKind::Mysql),
    ("bitnami/mysql", EngineKind::Mysql),
    ("redis", EngineKind::Redis),
    ("valkey/valkey", EngineKind::Redis),
    ("bitnami/redis", EngineKind::Redis),
    ("mongo", EngineKind::Mongodb),
    ("mongodb/mongodb-community-server", EngineKind::Mongodb),
    ("influxdb", EngineKind::Influxdb),
];

pub(super) fn known(image: &str) -> Option<Known> {
    let (name, tag) = split(image);
    let plain = without_registry(name);
    let server = SERVERS.iter().find(|(known, _)| *known == plain).map(|(_, engine)| match (engine, tag) {
        (EngineKind::Influxdb, Some(tag)) if tag.starts_with('1') => EngineKind::Influxdb1,
        (engine, _) => *engine,
    });
    let service =
        || profile::all().iter().find(|profile| profile.images.iter().any(|known| without_registry(known) == plain));
    server.map(Known::Server).or_else(|| service().map(Known::Service))
}

/// The name, and the tag where there is one; a digest says nothing.
fn split(image: &str) -> (&str, Option<&str>) {
    let image = image.split('@').next().unwrap_or_default();
    match image.rsplit_once(':') {
        // A colon before a slash is that of a registry's port.
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (image, None),
    }
}

/// `docker.io/library/postgres` is `postgres`; a registry is a first part with a dot or a port.
fn without_registry(name: &str) -> &str {
    let name = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => rest,
        _ => name,
    };
    name.strip_prefix("library/").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(image: &str) -> Option<String> {
        known(image).map(|known| match known {
            Known::Server(engine) => engine.to_string(),
            Known::Service(profile) => profile.name.clone(),
        })
    }

    #[test]
    fn an_image_is_known_whatever_registry_and_tag_it_comes_with() {
        for (image, wanted) in [
            ("postgres", "postgres"),
            ("docker.io/library/postgres:16-alpine@sha256:00", "postgres"),
            ("ghcr.io/immich-app/postgres:14-vectorchord0.4.3", "postgres"),
            ("registry.lan:5000/mariadb:11", "mysql"),
            ("influxdb:1.8", "influxdb1"),
            ("influxdb:2.7-alpine", "influxdb"),
            ("lscr.io/linuxserver/plex:latest", "plex"),
            ("plexinc/pms-docker", "plex"),
            ("ghcr.io/home-assistant/home-assistant:stable", "home-assistant"),
        ] {
            assert_eq!(word(image).as_deref(), Some(wanted), "{image}");
        }
        for unknown in ["", ":", "@", "my/postgres-exporter", "postgres-backup", "evil/postgres", "redis/redisinsight"]
        {
            assert_eq!(word(unknown), None, "{unknown}");
        }
    }
}
