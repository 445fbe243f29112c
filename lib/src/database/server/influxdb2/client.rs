//! The `influx` client, which is told the token by a file of its own kind (`--configs-path`).
//!
//! What the image's environment says of an organization would narrow what a command does, a backup included: it is
//! overruled.

use serde_json::Value;

use super::super::secret_file::SecretFile;
use super::super::{ServerError, Session};
use super::csv::{Row, rows};
use crate::controller::docker::Ended;

pub(super) const CLIENT: &str = "influx";
/// Where the servers of the usual images listen.
pub(super) const ADDRESS: &str = "127.0.0.1:8086";
/// What a server keeps for itself begins so, and no restore takes it.
const OWN: char = '_';
/// The client asks for no more, and does not ask again.
pub(super) const ORGANIZATIONS_MAX: usize = 20;

/// The token, where there is one; else the client uses what the image has for it.
pub(super) struct Login<'a> {
    session: &'a Session,
    file: Option<SecretFile>,
}

/// A bucket, where its data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) organization: String,
    pub(super) organization_id: String,
    pub(super) name: String,
    pub(super) id: String,
    /// How long data stays in it; 0: for ever.
    pub(super) seconds: u64,
}

impl Bucket {
    /// As it is named in a backup.
    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.organization, self.name)
    }
}

impl<'a> Login<'a> {
    pub(super) fn make(session: &'a Session) -> Result<Self, ServerError> {
        let Some(secret) = &session.secret else { return Ok(Self { session, file: None }) };
        let token = Value::from(secret.reveal());
        let config =
            format!("[svckit]\n  url = \"http://{ADDRESS}\"\n  token = {token}\n  org = \"\"\n  active = true\n");
        Ok(Self { session, file: Some(SecretFile::make(session, config.as_bytes())?) })
    }

    /// A command; what is no option comes last.
    pub(super) fn argv(&self, command: &[&str], last: &[&str]) -> Vec<String> {
        let mut argv: Vec<String> = std::iter::once(CLIENT).chain(command.iter().copied()).map(str::to_owned).collect();
        argv.push(format!("--host=http://{ADDRESS}"));
        argv.extend(self.file.iter().map(|file| format!("--configs-path={}", file.path())));
        argv.extend(self.session.client.iter().cloned());
        argv.extend(last.iter().map(|word| (*word).to_owned()));
        argv
    }

    /// Runs one; only success will do.
    pub(super) fn run(&self, action: &str, command: &[&str], last: &[&str]) -> Result<String, ServerError> {
        self.session.answer(action, self.argv(command, last), b"")
    }

    fn listed(&self, action: &str, command: &[&str]) -> Result<Vec<Value>, ServerError> {
        let out = self.run(action, command, &[])?;
        // An empty list is told as `null`.
        match serde_json::from_str(&out) {
            Ok(Value::Array(all)) => Ok(all),
            Ok(Value::Null) => Ok(Vec::new()),
            _ => Err(self.unreadable(action)),
        }
    }

    fn unreadable(&self, action: &str) -> ServerError {
        ServerError::NotRun {
            action: action.to_owned(),
            place: self.session.place().to_owned(),
            reason: "the client's answer can't be read".to_owned(),
        }
    }

    /// Names and ids.
    pub(super) fn organizations(&self, action: &str) -> Result<Vec<(String, String)>, ServerError> {
        let all = self.listed(action, &["org", "list", "--json", "--name=", "--id="])?;
        Ok(all.iter().map(|each| (text(each, "name"), text(each, "id"))).collect())
    }

    /// The buckets of an organization that are not the server's own.
    fn buckets_of(&self, action: &str, (name, id): &(String, String)) -> Result<Vec<Bucket>, ServerError> {
        let all = self.listed(action, &["bucket", "list", "--json", "--org=", &format!("--org-id={id}")])?;
        let bucket = |each: &Value| Bucket {
            organization: name.clone(),
            organization_id: id.clone(),
            name: text(each, "name"),
            id: text(each, "id"),
            seconds: each.pointer("/retentionRules/0/everySeconds").and_then(Value::as_u64).unwrap_or(0),
        };
        Ok(all.iter().map(bucket).filter(|bucket| !is_own(&bucket.name)).collect())
    }

    /// All of those that the client lists.
    pub(super) fn buckets(&self, action: &str) -> Result<Vec<Bucket>, ServerError> {
        let mut found = Vec::new();
        for organization in self.organizations(action)? {
            found.extend(self.buckets_of(action, &organization)?);
        }
        found.sort_by_key(Bucket::full_name);
        Ok(found)
    }

    /// One of them, however many there are.
    pub(super) fn find(&self, action: &str, organization: &str, name: &str) -> Result<Option<Bucket>, ServerError> {
        let all = match self.listed(action, &["org", "list", "--json", &format!("--name={organization}"), "--id="]) {
            Err(ServerError::Failed { said, .. }) if said.contains("not found") => Vec::new(),
            other => other?,
        };
        let Some(found) = all.iter().find(|each| text(each, "name") == organization) else { return Ok(None) };
        let buckets = self.buckets_of(action, &(organization.to_owned(), text(found, "id")))?;
        Ok(buckets.into_iter().find(|bucket| bucket.name == name))
    }

    /// The rows of an answer in Flux.
    pub(super) fn query(&self, action: &str, organization_id: &str, flux: &str) -> Result<Vec<Row>, ServerError> {
        let out = self.run(action, &["query", "--raw", "--org=", &format!("--org-id={organization_id}")], &[flux])?;
        rows(&out).map_err(|said| {
            let ended = Ended { code: 1, said };
            self.session.attempt(action).ended(CLIENT, &ended).err().unwrap_or_else(|| self.unreadable(action))
        })
    }
}

pub(super) fn is_own(bucket: &str) -> bool {
    bucket.starts_with(OWN)
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}
