//! The figures over HTTP, for Prometheus on the same machine.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use svckit::tend::rule::Rule;
use tokio::sync::Semaphore;

use super::metrics;
use crate::cli::tend::Loopback;
use crate::error::ToolError;

/// So many ask at once; the next one waits.
const AT_ONCE: usize = 4;
/// How long a connection may take, its request and our answer.
const CONNECTION_MAX: Duration = Duration::from_secs(30);
/// How long the head of a request may take.
const HEAD_MAX: Duration = Duration::from_secs(5);
/// How often accept(2) is tried where it fails, for want of descriptors mostly: nothing tells when there are some.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves them in a thread of its own, which ends with the program. Nothing that happens there touches the loops.
pub(super) fn serve(loopback: Loopback, rules: Vec<Rule>) -> Result<(), ToolError> {
    let address = loopback.address();
    let listener = TcpListener::bind(loopback.address()).map_err(ToolError::io("listen on", address.to_string()))?;
    listener.set_nonblocking(true).map_err(ToolError::io("listen on", address.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(AT_ONCE)
        .enable_all()
        .build()
        .map_err(ToolError::io("serve the figures on", address.to_string()))?;
    let thread = std::thread::Builder::new().name("metrics".to_owned());
    let served = thread.spawn(move || {
        if let Err(error) = runtime.block_on(accept(listener, Arc::new(rules))) {
            tracing::error!(%address, %error, "the figures are not served any more");
        }
    });
    served.map(drop).map_err(ToolError::io("serve the figures on", address.to_string()))
}

async fn accept(listener: TcpListener, rules: Arc<Vec<Rule>>) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut again = tokio::time::interval(PAUSE);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                again.tick().await;
                continue;
            }
        };
        let rules = Arc::clone(&rules);
        tokio::spawn(async move {
            let answers = service_fn(move |request| answer(request, Arc::clone(&rules)));
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).keep_alive(false);
            let served = http.serve_connection(TokioIo::new(stream), answers);
            if tokio::time::timeout(CONNECTION_MAX, served).await.is_err() {
                tracing::debug!("a connection took too long");
            }
            drop(place);
        });
    }
}

async fn answer(request: Request<Incoming>, rules: Arc<Vec<Rule>>) -> Result<Response<String>, Infallible> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => match tokio::task::spawn_blocking(move || metrics::of(&rules)).await {
            Ok(Ok(text)) => (StatusCode::OK, text),
            Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the figures could not be read\n".to_owned()),
        },
        (&Method::GET, "/") => (StatusCode::OK, "svc-tend: /metrics\n".to_owned()),
        (&Method::GET, _) => (StatusCode::NOT_FOUND, "there is /metrics\n".to_owned()),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "GET /metrics\n".to_owned()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    Ok(response)
}
