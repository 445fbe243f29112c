//! An encrypted connection to an engine: TLS 1.3, trusting the named authorities only, never those of the system.
//!
//! - A private key that others can read is refused, as ssh(1) does it.
//! - The files are looked at before each request. Where they have changed they are read again; what can't be read then
//!   (half of a renewal) leaves the connection as it was, so that an operation in its middle is not lost to it.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bollard::{BollardRequest, ClientVersion, Docker};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription as Alert, CertificateError as Certificate, ClientConfig, RootCertStore};

use crate::controller::endpoint::TlsFiles;
use crate::failure::FailureKind;
use crate::world::secret_file::{self, Untrusted};

/// No certificate or key is longer.
const FILE_LEN_MAX: u64 = 1 << 20;

/// What is wrong with an encrypted connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::controller) struct TlsProblem {
    pub(in crate::controller) reason: String,
    pub(in crate::controller) kind: FailureKind,
    pub(in crate::controller) hint: String,
}

impl TlsProblem {
    fn new(kind: FailureKind, reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason: reason.into(), kind, hint: hint.into() }
    }

    fn of_file(key: &str, path: &Path, why: impl std::fmt::Display) -> Self {
        let reason = format!("{key} {}: {why}", path.display());
        Self::new(FailureKind::Config, reason, format!("{key} names a PEM file that this user can read"))
    }
}

/// Whose body a request of the client's has: it has no name of its own.
trait Request {
    type Body;
}

impl<B> Request for hyper::Request<B> {
    type Body = B;
}

type Https = Client<HttpsConnector<HttpConnector>, <BollardRequest as Request>::Body>;

/// The connection of the files as they were at the last look.
struct Current {
    stamps: Vec<Stamp>,
    client: Https,
}

/// Device, inode, length and time of change of a file; `None` where it is not there.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// A client that speaks through it.
pub(super) fn connect(
    address: &str,
    files: &TlsFiles,
    seconds: u64,
    version: &ClientVersion,
) -> Result<Result<Docker, bollard::errors::Error>, TlsProblem> {
    let current = Arc::new(Mutex::new(Current { stamps: stamps(files), client: client(files)? }));
    let files = files.clone();
    let send = move |request: BollardRequest| {
        let client = fresh(&current, &files);
        async move { client.request(request).await.map_err(bollard::errors::Error::from) }
    };
    Ok(Docker::connect_with_custom_transport(send, Some(format!("https://{address}")), seconds, version))
}

/// The client of the files as they are now.
fn fresh(current: &Mutex<Current>, files: &TlsFiles) -> Https {
    let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
    let now = stamps(files);
    if now != current.stamps {
        match client(files) {
            Ok(client) => {
                tracing::info!(ca = %files.ca.display(), "the files of the connection to Docker have changed: read again");
                *current = Current { stamps: now, client };
            }
            Err(problem) => {
                let reason = problem.reason;
                tracing::warn!(reason, "the files of the connection to Docker have changed, and can't be used yet");
            }
        }
    }
    current.client.clone()
}

fn stamps(files: &TlsFiles) -> Vec<Stamp> {
    let client = files.client.iter().flat_map(|client| [&client.cert, &client.key]);
    let stamp = |path| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.dev(), found.ino(), found.len(), found.ctime(), found.ctime_nsec()))
    };
    std::iter::once(&files.ca).chain(client).map(stamp).collect()
}

fn client(files: &TlsFiles) -> Result<Https, TlsProblem> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    let https = HttpsConnectorBuilder::new().with_tls_config(config(files)?).https_only().enable_http1();
    // One connection a request, as for a socket: what a proxy on the way has closed is never tried again.
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(https.wrap_connector(http)))
}

fn config(files: &TlsFiles) -> Result<ClientConfig, TlsProblem> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let builder = builder.map_err(|error| TlsProblem::new(FailureKind::Failed, error.to_string(), "this is a bug"))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls-ca", &files.ca)? {
        roots.add(certificate).map_err(|error| TlsProblem::of_file("tls-ca", &files.ca, error))?;
    }
    let builder = builder.with_root_certificates(roots);
    let Some(ours) = &files.client else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates("tls-cert", &ours.cert)?;
    let key = private_key(&ours.key)?;
    builder.with_client_auth_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsProblem::new(
            FailureKind::Config,
            format!("tls-key {} is not the key of tls-cert {}", ours.key.display(), ours.cert.display()),
            "name the two that were made together",
        ),
        other => TlsProblem::of_file("tls-key", &ours.key, other),
    })
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsProblem> {
    let text = File::open(path).and_then(|file| read(&file)).map_err(|e| TlsProblem::of_file(key, path, e))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| TlsProblem::of_file(key, path, error))?;
    if found.is_empty() {
        return Err(TlsProblem::of_file(key, path, "there is no certificate in it (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsProblem> {
    const KEY: &str = "tls-key";
    let file = secret_file::open(path, secret_file::Links::Followed).map_err(|untrusted| match untrusted {
        Untrusted::Io(error) => TlsProblem::of_file(KEY, path, error),
        Untrusted::Rights(why) => TlsProblem::new(
            FailureKind::Permission,
            format!("{KEY} {}: {why}", path.display()),
            "chown it to you or to root, and chmod it to 600; where others have read it, have a new one made",
        ),
    })?;
    let text = read(&file).map_err(|error| TlsProblem::of_file(KEY, path, error))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => {
            TlsProblem::of_file(KEY, path, "there is no private key in it that is not encrypted")
        }
        other => TlsProblem::of_file(KEY, path, other),
    })
}

fn read(file: &File) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(FILE_LEN_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// Engines say of a certificate that was not shown what they say of a bad one.
pub(super) fn explained(problem: TlsProblem, files: &TlsFiles) -> TlsProblem {
    if problem.kind != FailureKind::Permission || files.client.is_some() {
        return problem;
    }
    let reason = "the engine asks for a client certificate, and none was shown";
    TlsProblem::new(problem.kind, reason, "add tls-cert and tls-key")
}

/// What a failed exchange says about the two sides' trust; `None` where it failed for another reason.
pub(super) fn problem(error: &bollard::errors::Error) -> Option<TlsProblem> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(now) = cause {
        // An I/O error shows what is wrapped in it by another way than other errors do.
        let inner = now.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let inner = inner.map(|inner| inner as &(dyn std::error::Error + 'static));
        if let Some(found) = [Some(now), inner].into_iter().flatten().find_map(<dyn std::error::Error>::downcast_ref) {
            return of_rustls(found);
        }
        cause = inner.or_else(|| now.source());
    }
    None
}

fn of_rustls(error: &rustls::Error) -> Option<TlsProblem> {
    const RENEW: &str = "have the engine's certificate renewed, and look at this machine's clock";
    const NOT_LET_IN: &str =
        "name in tls-cert and tls-key a pair that is valid now and of the authority that dockerd has as --tlscacert";
    let unsafe_ = |reason: String, hint: &str| Some(TlsProblem::new(FailureKind::Unsafe, reason, hint));
    match error {
        rustls::Error::InvalidCertificate(why) => match why {
            Certificate::Expired | Certificate::ExpiredContext { .. } => {
                unsafe_(format!("the engine's certificate has expired ({why})"), RENEW)
            }
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                unsafe_(format!("the engine's certificate is not valid yet ({why})"), RENEW)
            }
            Certificate::UnknownIssuer | Certificate::BadSignature => unsafe_(
                "the engine's certificate is of none of the authorities in tls-ca: another may answer in its place"
                    .to_owned(),
                "name in tls-ca the authority that made it",
            ),
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => unsafe_(
                format!("the engine's certificate is for another name ({why})"),
                "write the endpoint with a name or address that is in the certificate",
            ),
            other => unsafe_(format!("the engine's certificate can't be trusted: {other}"), RENEW),
        },
        rustls::Error::AlertReceived(
            alert @ (Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied),
        ) => Some(TlsProblem::new(
            FailureKind::Permission,
            format!("the engine does not accept the client certificate ({alert:?})"),
            NOT_LET_IN,
        )),
        _ => None,
    }
}
