//! What is taken over can be read, what can't is told, and no secret is repeated.

use proptest::prelude::*;

use super::*;
use crate::controller::Endpoint;
use crate::controller::docker::Container;
use crate::discover::{Config, labels as ours};

const SECRET: &str = "Str0ngPassw0rd";

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn of_container(labels: &[(&str, &str)], variables: &[(&str, &str)]) -> ImportedContainer {
    let source = Source { container: "db".to_owned(), labels: map(labels), variables: map(variables) };
    let mut imported = import(&Settings::default(), &[source]);
    imported.containers.remove(0)
}

/// What svckit reads in the labels that were written.
fn read_back(imported: &ImportedContainer) -> Result<(), String> {
    let container = Container {
        id: "x".to_owned(),
        name: imported.container.clone(),
        image: "postgres".to_owned(),
        running: true,
        compose: None,
        labels: imported.labels.iter().cloned().collect(),
        mounts: vec![Mount { destination: "/".into(), source: Some("/srv".into()) }],
    };
    let Some(labelled) = ours::read(&container, &Endpoint::usual()) else { return Ok(()) };
    for (_, target) in labelled.targets {
        target.map_err(|findings| format!("{findings:?}"))?;
    }
    Ok(())
}

#[test]
fn the_example_of_its_own_manual_becomes_labels_that_can_be_read() {
    let labels = [
        ("baktainer.backup", "true"),
        ("baktainer.db.engine", "postgres"),
        ("baktainer.db.name", "my-db"),
        ("baktainer.db.user", "user"),
        ("baktainer.db.password", SECRET),
        ("baktainer.name", "MyApp"),
    ];
    let imported = of_container(&labels, &[("POSTGRES_PASSWORD", SECRET), ("OTHER", SECRET)]);
    let wanted = [
        ("svckit.name", "MyApp"),
        ("svckit.engine", "postgres"),
        ("svckit.database", "my-db"),
        ("svckit.user", "user"),
        ("svckit.password-env", "POSTGRES_PASSWORD"),
    ];
    assert_eq!(imported.labels, wanted.map(|(label, value)| (label.to_owned(), value.to_owned())));
    read_back(&imported).unwrap();
    let notes = imported.notes.join("\n");
    assert!(notes.contains("take the label away") && !notes.contains(SECRET), "{notes}");
    let elsewhere = of_container(&labels, &[]);
    assert!(elsewhere.notes.join("\n").contains("svckit.password-secret=NAME"), "{elsewhere:?}");
    assert!(!format!("{elsewhere:?}").contains(SECRET));
}

#[test]
fn labels_that_never_had_an_effect_are_told_and_get_the_one_that_was_meant() {
    let imported = of_container(
        &[
            ("baktainer.backup", "true"),
            ("baktainer.db.engine", "MariaDB"),
            ("baktainer.db.all", "true"),
            ("baktainer.backup.retention.days", "14"),
            ("baktainer.backup.retention.count", "0"),
            ("baktainer.backup.priority", "critical"),
            ("baktainer.backup.encrypt", "true"),
            ("baktainer.db.password_file", "/run/secrets/db"),
        ],
        &[],
    );
    for label in
        [("svckit.engine", "mysql"), ("svckit.database", "*"), ("svckit.keep-daily", "14"), ("svckit.priority", "100")]
    {
        assert!(imported.labels.contains(&(label.0.to_owned(), label.1.to_owned())), "{label:?}: {imported:?}");
    }
    read_back(&imported).unwrap();
    let never = imported.notes.iter().filter(|note| note.contains("never had an effect")).count();
    assert_eq!(never, 5, "{:?}", imported.notes);
}

#[test]
fn what_was_not_backed_up_is_told_and_a_command_is_not_taken_over() {
    let off = of_container(&[("baktainer.backup", "false"), ("baktainer.db.engine", "mysql")], &[]);
    assert!(off.labels.is_empty() && off.notes[0].contains("not backed up"), "{off:?}");
    let custom = of_container(&[("baktainer.backup", "true"), ("baktainer.command", "rm -rf /")], &[]);
    assert!(!custom.labels.iter().any(|(_, value)| value.contains("rm")), "{custom:?}");
    assert!(custom.notes.join("").contains("svckit runs none"));
    let sqlite = [("baktainer.backup", "true"), ("baktainer.db.engine", "sqlite"), ("baktainer.db.name", "/data/a.db")];
    let sqlite = of_container(&sqlite, &[]);
    assert_eq!(sqlite.labels, [("svckit.sqlite".to_owned(), "/data/a.db".to_owned())]);
    let none = Source { container: "x".to_owned(), labels: map(&[("svckit.backup", "yes")]), ..Source::default() };
    assert!(import(&Settings::default(), &[none]).containers.is_empty());
}

#[test]
fn its_variables_become_a_configuration_that_can_be_read() {
    let variables = map(&[
        ("BT_DOCKER_URL", "unix:///run/user/1000/docker.sock"),
        ("BT_BACKUP_DIR", "/backups/db"),
        ("BT_CRON", "30 2 * * *"),
        ("BT_THREADS", "4"),
        ("BT_RETENTION_DAYS", "7"),
        ("BT_RETENTION_COUNT", "3"),
        ("BT_ENCRYPTION_KEY", SECRET),
        ("BT_SLACK_WEBHOOK_URL", "https://hooks.example/Str0ngPassw0rd"),
        ("BT_TYPO", SECRET),
        ("PATH", "/bin"),
    ]);
    let mounts = vec![Mount { destination: "/backups".into(), source: Some("/srv/ba\"k\\up".into()) }];
    let imported = import(&Settings { variables, mounts }, &[]);
    let config = Config::parse(&imported.configuration).unwrap();
    assert_eq!(config.docker.endpoint, Some("unix:///run/user/1000/docker.sock".parse().unwrap()));
    assert!(imported.configuration.contains("retention = { last = 3, daily = 7 }"), "{}", imported.configuration);
    let notes = imported.notes.join("\n");
    for wanted in ["*-*-* 02:30:00", "--at-once", "does not encrypt yet", "on-failure", "BT_TYPO is no variable"] {
        assert!(notes.contains(wanted), "{wanted}: {notes}");
    }
    assert!(!notes.contains(SECRET) && !notes.contains("PATH is"), "{notes}");
    let plain = import(&Settings::default(), &[]);
    Config::parse(&plain.configuration).unwrap();
    assert!(plain.notes.join("").contains("write to `store`"));
}

proptest! {
    #[test]
    fn whatever_it_was_told_what_is_written_can_be_read(
        labels in proptest::collection::btree_map("(backup|name|compress|command|db\\.(engine|name|user|password|all)|backup\\.(priority|retention\\.(days|count))|.{0,6})", "(true|mysql|postgres|sqlite|redis|mongodb|/[a-z/]{0,9}|[0-9]{1,12}|.{0,20})", 0..8),
        variables in proptest::collection::btree_map("BT_(CRON|BACKUP_DIR|DOCKER_URL|RETENTION_DAYS|RETENTION_COUNT|X)", "([0-9* ]{0,9}|/.{0,12}|unix:///.{0,9}|.{0,12})", 0..5),
    ) {
        let labels = labels.into_iter().map(|(key, value)| (format!("baktainer.{key}"), value)).collect();
        let source = Source { container: "db".to_owned(), labels, ..Source::default() };
        let mounts = vec![Mount { destination: "/".into(), source: Some("/srv/\"\\x".into()) }];
        let imported = import(&Settings { variables, mounts }, &[source]);
        prop_assert!(Config::parse(&imported.configuration).is_ok(), "{}", imported.configuration);
        for container in &imported.containers {
            let read = read_back(container);
            prop_assert!(read.is_ok(), "{container:?}: {read:?}");
        }
    }
}
