//! The feed over HTTP: AWS JSON 1.0 on `POST /`, metrics and health beside it.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use super::faults::Faults;
use super::service::Service;
use super::service_error::{Code, ServiceError};
use super::settings::Given;
use super::store::{Store, StoreConfig, StoreError};
use crate::clock::Clock;
use crate::config::ServeConfig;
use crate::error::{ListenError, ServeError};
use crate::listen::{self, Answer};

/// Largest request: a batch of 1 MiB in which every character is escaped, and its frame.
const REQUEST_BYTES_MAX: usize = 8 << 20;

/// A feed server that listens, but does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    service: Arc<Service>,
    /// Why the store stopped.
    failure: oneshot::Receiver<StoreError>,
}

/// Serves a feed until `shutdown`, or until its store fails.
pub async fn serve(config: ServeConfig, shutdown: CancellationToken) -> Result<(), ServeError> {
    Server::bind(config).await?.run(shutdown).await
}

impl Server {
    /// Opens the store, makes the queues that were asked for, and listens.
    pub async fn bind(config: ServeConfig) -> Result<Server, ServeError> {
        Server::bind_with(config, Clock::system()).await
    }

    /// As [`Server::bind`], with another clock.
    pub async fn bind_with(config: ServeConfig, clock: Clock) -> Result<Server, ServeError> {
        let faults = faults_of(&config)?;
        let listener = listen::bind(config.listen, config.insecure).await?;
        let address = listener
            .local_addr()
            .map_err(|source| ListenError::Bind { address: config.listen, source })?;
        let store = StoreConfig {
            data: config.data,
            journal: config.journal,
            memory_bytes_max: config.memory_bytes_max,
        };
        let opened = tokio::task::spawn_blocking(move || Store::try_open(&store)).await;
        let (store, recovered, failure) = opened.map_err(|_| StoreError::Stopped)??;
        let service = Service::try_new(store, recovered, clock, faults, config.in_flight_max)
            .map_err(|error| refused("on disk", error))?;
        for name in config.queues {
            let known = service.by_name(&name).is_ok();
            if !known {
                let made = service.create_queue("", name.clone(), Given::new()).await;
                made.map_err(|error| refused(&name, error))?;
            }
        }
        Ok(Server { listener, address, service: Arc::new(service), failure })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown`, or until the store fails.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let Server { listener, address, service, mut failure } = self;
        info!(%address, queues = service.all().len(), "feed is serving");
        let stopping = service.stopping.clone();
        let handle = move |request| answer(Arc::clone(&service), address, request);
        let mut serving = std::pin::pin!(listen::serve(listener, stopping.clone(), handle));
        let failed = tokio::select! {
            () = serving.as_mut() => None,
            () = shutdown.cancelled() => None,
            failed = &mut failure => failed.ok(),
        };
        stopping.cancel();
        serving.await;
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}

fn faults_of(config: &ServeConfig) -> Result<Faults, ServeError> {
    let probabilities = [
        ("--duplicate", config.duplicate),
        ("--resurrect", config.resurrect),
        ("--ghost", config.ghost),
        ("--fail-delete", config.fail_delete),
    ];
    for (name, value) in probabilities {
        if !(0.0..=1.0).contains(&value) {
            return Err(ServeError::NotAProbability { name, value });
        }
    }
    Ok(Faults {
        seed: config.seed,
        shuffle: config.shuffle,
        duplicate: config.duplicate,
        resurrect: config.resurrect,
        ghost: config.ghost,
        fail_delete: config.fail_delete,
    })
}

fn refused(name: &str, error: ServiceError) -> ServeError {
    ServeError::Queue { name: name.to_string(), reason: error.message }
}

async fn answer(service: Arc<Service>, address: SocketAddr, request: Request<Incoming>) -> Answer {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/healthz") => listen::text(200, "ok\n"),
        (&Method::GET, "/readyz") if service.stopping.is_cancelled() => {
            listen::text(503, "stopping\n")
        }
        (&Method::GET, "/readyz") => listen::text(200, "ready\n"),
        (&Method::GET, "/metrics") => {
            let queues = service.all();
            let now = service.clock.now();
            listen::text(200, service.metrics.page(queues.iter().map(AsRef::as_ref), now))
        }
        (&Method::POST, _) => act(&service, address, request).await,
        (_, _) => listen::text(404, "the queue service is at POST /\n"),
    }
}

async fn act(service: &Service, address: SocketAddr, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let target = header("x-amz-target").unwrap_or_default();
    let base = match header(HOST.as_str()) {
        Some(host) => format!("http://{host}"),
        None => format!("http://{address}"),
    };
    let outcome = match Limited::new(body, REQUEST_BYTES_MAX).collect().await {
        Ok(body) => service.act(target, &base, &body.to_bytes()).await,
        Err(error) => Err(ServiceError::new(Code::Malformed, error.to_string())),
    };
    let answer = Response::builder()
        .header(CONTENT_TYPE, "application/x-amz-json-1.0")
        .header("x-amzn-requestid", super::journal::uuid(rand::random()));
    let answer = match outcome {
        Ok(body) => answer.body(Full::new(Bytes::from(body))),
        Err(refusal) => {
            let (status, query_error, body) = refusal.answer();
            match status < 500 {
                true => debug!(target, code = ?refusal.code, "refused"),
                false => error!(target, error = refusal.message, "request failed"),
            }
            let answer = answer.status(status).header("x-amzn-query-error", query_error);
            answer.body(Full::new(Bytes::from(body)))
        }
    };
    answer.expect("all headers are made of plain text")
}
