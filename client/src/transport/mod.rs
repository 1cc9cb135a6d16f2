//! From a call to its answer: endpoints, connections, attempts, and the one retry layer.
//!
//! Reading order: [`call`], what is sent; [`endpoints`], where to; [`connect`], over what;
//! [`credentials`], as whom; [`attempt`], once; [`retry`], until it is answered.

mod attempt;
mod call;
mod connect;
mod credentials;
mod endpoints;
mod retry;

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use hyper::body::Incoming;
use tracing::Instrument;

pub(crate) use self::attempt::{Answer, Attempts};
pub(crate) use self::call::{Call, escape};
use self::connect::Connections;
pub(crate) use self::connect::{Protocol, Tls};
pub(crate) use self::credentials::Credentials;
pub(crate) use self::endpoints::Endpoints;
pub(crate) use self::retry::{Failure, Retry, Stopped};
use crate::error::{ArgumentError, Error, WriteError};

/// What all clones of a client share, and a deadline.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    attempts: Arc<Attempts>,
    deadline: Duration,
}

impl Transport {
    pub(crate) fn try_new(
        endpoints: Endpoints,
        protocol: Protocol,
        tls: &Tls,
        credentials: Credentials,
        deadline: Duration,
    ) -> Result<Transport, ArgumentError> {
        let connections = Connections::try_new(protocol, tls)?;
        let attempts = Arc::new(Attempts::new(connections, endpoints, credentials));
        Ok(Transport { attempts, deadline })
    }

    pub(crate) fn with_deadline(&self, deadline: Duration) -> Transport {
        Transport { attempts: self.attempts.clone(), deadline }
    }

    /// The same over connections of their own.
    pub(crate) fn apart(&self) -> Transport {
        Transport { attempts: Arc::new(self.attempts.apart()), deadline: self.deadline }
    }

    /// How long a call may take.
    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// A single attempt after the other, for callers that repeat only a part.
    pub(crate) fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// Sends a call without effects until it is answered, and collects the answer.
    pub(crate) async fn read(&self, call: &Call) -> Result<Answer, Error> {
        self.whole(call).await.map_err(Stopped::of_read)
    }

    /// Sends a write until it is answered. Every attempt is the same, byte for byte: the call
    /// carries what makes it one operation.
    pub(crate) async fn write(&self, call: &Call) -> Result<Answer, WriteError> {
        self.whole(call).await.map_err(Stopped::of_write)
    }

    /// Sends a call without effects until its answer begins; the body is the caller's.
    pub(crate) async fn open(&self, call: &Call) -> Result<Response<Incoming>, Error> {
        let opening = async {
            let mut retry = Retry::new(self.deadline);
            loop {
                match self.attempts.open(call, retry.until()).await {
                    Ok(response) => return Ok(response),
                    Err(failure) => retry.pause(failure).await.map_err(Stopped::of_read)?,
                }
            }
        };
        opening.instrument(span(call)).await
    }

    async fn whole(&self, call: &Call) -> Result<Answer, Stopped> {
        let sending = async {
            let mut retry = Retry::new(self.deadline);
            loop {
                match self.attempts.whole(call, retry.until()).await {
                    Ok(answer) => return Ok(answer),
                    Err(failure) => retry.pause(failure).await?,
                }
            }
        };
        sending.instrument(span(call)).await
    }
}

/// The span of a call, all its attempts in it.
pub(crate) fn span(call: &Call) -> tracing::Span {
    tracing::debug_span!("platbook", method = %call.method, path = %call.path)
}
