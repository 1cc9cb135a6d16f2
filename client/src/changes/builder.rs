//! Which changes, from where.

use std::time::Duration;

use http::HeaderValue;

use super::filter::Filter;
use super::follower::Proof;
use super::stream::{Changes, Settings};
use crate::client::Client;
use crate::error::ArgumentError;
use crate::token::Token;
use crate::transport::{Call, escape};

const LINES: &str = "application/x-ndjson";
const BINARY_OR_LINES: &str = "application/vnd.platbook.changes, application/x-ndjson;q=0.5";

/// Where a reader of changes begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// With the whole present state, then everything after it.
    #[default]
    Beginning,
    /// With what happens from now on.
    Now,
    /// Behind a position that was kept.
    Token(Token),
}

impl From<Token> for Start {
    fn from(token: Token) -> Start {
        Start::Token(token)
    }
}

impl From<&Token> for Start {
    fn from(token: &Token) -> Start {
        Start::Token(token.clone())
    }
}

/// A stream of changes about to be followed.
///
/// ```no_run
/// # async fn f(client: platbook_client::Client) -> Result<(), platbook_client::Error> {
/// use platbook_client::changes::{Event, Filter};
///
/// let filter = Filter::new().zip("98103").max_price(400_000);
/// let mut changes = client.changes().filter(filter).follow()?;
/// while let Some(event) = changes.try_next().await? {
///     if let Event::Change(change) = event {
///         println!("{} {:?}", change.id, change.what);
///     }
///     // Kept with what the event has caused, it makes a restart exact.
///     let position = changes.token();
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is followed before `follow`"]
pub struct ChangesBuilder {
    client: Client,
    start: Start,
    filter: Filter,
    fields: Vec<String>,
    has_bodies: bool,
    is_history: bool,
    is_live: bool,
    patience: Option<Duration>,
}

impl ChangesBuilder {
    pub(crate) fn new(client: Client) -> ChangesBuilder {
        ChangesBuilder {
            client,
            start: Start::Beginning,
            filter: Filter::new(),
            fields: Vec::new(),
            has_bodies: true,
            is_history: false,
            is_live: true,
            patience: None,
        }
    }

    /// From here; from the beginning by default.
    pub fn from(self, start: impl Into<Start>) -> ChangesBuilder {
        ChangesBuilder { start: start.into(), ..self }
    }

    /// Only these; all by default.
    pub fn filter(self, filter: Filter) -> ChangesBuilder {
        ChangesBuilder { filter, ..self }
    }

    /// Only these fields of each listing.
    pub fn fields<T: Into<String>>(self, fields: impl IntoIterator<Item = T>) -> ChangesBuilder {
        ChangesBuilder { fields: fields.into_iter().map(Into::into).collect(), ..self }
    }

    /// Facts, but no listings.
    pub fn without_bodies(self) -> ChangesBuilder {
        ChangesBuilder { has_bodies: false, ..self }
    }

    /// Every change that is still kept, also where a later one has replaced it. Where changes are
    /// gone the stream ends with the code `token_too_old`, instead of telling the state once more.
    pub fn history(self) -> ChangesBuilder {
        ChangesBuilder { is_history: true, ..self }
    }

    /// Ends, without an error, where nothing is left to tell, instead of waiting for what happens
    /// next.
    pub fn until_now(self) -> ChangesBuilder {
        ChangesBuilder { is_live: false, ..self }
    }

    /// Gives up when no router could be followed for so long; never by default.
    pub fn give_up_after(self, patience: Duration) -> ChangesBuilder {
        ChangesBuilder { patience: Some(patience), ..self }
    }

    /// The stream. It connects when it is first polled, and again whenever it has to.
    pub fn follow(self) -> Result<Changes, ArgumentError> {
        let mut query = format!("?live={}", self.is_live);
        let mut add = |name: &str, value: &str| {
            query.push_str(&format!("&{name}={}", escape(value)));
        };
        add("mode", if self.is_history { "history" } else { "state" });
        for (name, value) in self.filter.pairs()? {
            add(name, &value);
        }
        if !self.fields.is_empty() {
            add("fields", &self.fields.join(","));
        }
        if !self.has_bodies {
            add("body", "false");
        }
        let path = format!("/v1/changes{query}");
        // Listings come as they are stored, where nothing has to be taken out of them.
        let accept = match self.fields.is_empty() {
            true => BINARY_OR_LINES,
            false => LINES,
        };
        let call = Call::get(path, HeaderValue::from_static(accept));
        let proof = match self.filter.takes_whole_zips() {
            true => Proof::Chained,
            false => Proof::Numbered,
        };
        let ChangesBuilder { client, start, is_history, patience, .. } = self;
        let transport = client.transport.apart();
        let settings = Settings { transport, call, start, proof, is_history, patience };
        Ok(Changes::new(settings))
    }
}
