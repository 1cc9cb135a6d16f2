//! Writing listings into a table, and reading them by the index.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use bytes::{Bytes, BytesMut};

use super::super::drive::{Listing, Sink};
use super::super::reads::Seen;
use super::wire::{self, Connection};

/// Rows of the prepared statement that upserts several.
const ROWS: usize = 100;
const COPY: &str = "COPY listings (id, zip, price, body) FROM STDIN";

/// By which statement listings are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Writes {
    /// `INSERT ... ON CONFLICT DO UPDATE`, of as many rows as a request has.
    Upsert,
    /// `COPY`, which can only add.
    Copy,
}

/// A connection for each client.
#[derive(Clone)]
pub(in super::super) struct PostgresSink {
    writes: Writes,
    connections: Arc<[Mutex<Option<Connection>>]>,
}

impl PostgresSink {
    pub(super) async fn open(
        address: &str,
        writes: Writes,
        clients: usize,
    ) -> anyhow::Result<PostgresSink> {
        let mut connections = Vec::new();
        for _ in 0..clients {
            let mut connection = Connection::open(address).await?;
            connection.prepare("upsert1", &upsert(1)).await?;
            connection.prepare("upsert100", &upsert(ROWS)).await?;
            let zip = "SELECT body FROM listings WHERE zip = $1";
            connection.prepare("zip", &format!("{zip} ORDER BY id")).await?;
            connection.prepare("dear", &format!("{zip} AND price >= $2 ORDER BY id")).await?;
            connection.prepare("get", "SELECT body FROM listings WHERE id = $1").await?;
            connections.push(Mutex::new(Some(connection)));
        }
        Ok(PostgresSink { writes, connections: connections.into() })
    }

    /// Every listing of a ZIP, in the order of the ids.
    pub(in super::super) async fn zip(&self, reader: usize, zip: &str) -> anyhow::Result<Seen> {
        self.read(reader, "zip", &[zip.as_bytes()]).await
    }

    /// Those of them that cost at least so much.
    pub(in super::super) async fn dear(
        &self,
        reader: usize,
        zip: &str,
        price: u64,
    ) -> anyhow::Result<Seen> {
        self.read(reader, "dear", &[zip.as_bytes(), price.to_string().as_bytes()]).await
    }

    /// One listing.
    pub(in super::super) async fn get(&self, reader: usize, id: &str) -> anyhow::Result<Seen> {
        self.read(reader, "get", &[id.as_bytes()]).await
    }

    async fn read(&self, reader: usize, name: &str, values: &[&[u8]]) -> anyhow::Result<Seen> {
        let mut request = BytesMut::new();
        wire::put_execute(&mut request, name, values);
        wire::put_sync(&mut request);
        let mut seen = Seen::start();
        self.exchange(reader, &request, &mut |row| seen.add(1, row.len())).await?;
        Ok(seen)
    }

    /// One exchange on the client's own connection.
    async fn exchange(
        &self,
        client: usize,
        request: &[u8],
        on_row: &mut (impl FnMut(&[u8]) + Send),
    ) -> anyhow::Result<()> {
        let slot = &self.connections[client % self.connections.len()];
        let taken = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut connection = taken.context("a client sends one request at a time")?;
        connection.exchange(request, on_row).await?;
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        Ok(())
    }
}

fn upsert(rows: usize) -> String {
    let mut sql = String::from("INSERT INTO listings (id, zip, price, body) VALUES ");
    for row in 0..rows {
        let comma = if row == 0 { "" } else { ", " };
        let [a, b, c, d] = [1, 2, 3, 4].map(|column| row * 4 + column);
        // Writing to a string cannot fail.
        let _ = write!(sql, "{comma}(${a}, ${b}, ${c}, ${d})");
    }
    sql + " ON CONFLICT (id) DO UPDATE SET zip = excluded.zip, price = excluded.price, \
           body = excluded.body"
}

impl Sink for PostgresSink {
    type Request = Bytes;

    fn request(&self, listings: &[Listing]) -> Bytes {
        let prices: Vec<String> = listings.iter().map(|one| one.price.to_string()).collect();
        let rows = listings.iter().zip(&prices).map(|(listing, price)| {
            [listing.id.as_bytes(), listing.zip.as_bytes(), price.as_bytes(), &listing.body]
        });
        if self.writes == Writes::Copy {
            let mut copied = Vec::new();
            for row in rows {
                for (at, value) in row.into_iter().enumerate() {
                    wire::put_copied(&mut copied, value);
                    copied.push(if at == 3 { b'\n' } else { b'\t' });
                }
            }
            return wire::copy(COPY, &copied);
        }
        let values: Vec<&[u8]> = rows.flatten().collect();
        let mut request = BytesMut::new();
        match listings.len() {
            1 => wire::put_execute(&mut request, "upsert1", &values),
            ROWS => wire::put_execute(&mut request, "upsert100", &values),
            other => {
                wire::put_parse(&mut request, "", &upsert(other));
                wire::put_execute(&mut request, "", &values);
            }
        }
        wire::put_sync(&mut request);
        request.freeze()
    }

    async fn send(&self, client: usize, request: Bytes) -> anyhow::Result<()> {
        self.exchange(client, &request, &mut |_| ()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_has_a_value_for_every_column_of_every_row() {
        assert!(upsert(1).contains("VALUES ($1, $2, $3, $4) ON CONFLICT"));
        assert!(upsert(ROWS).contains("($397, $398, $399, $400) ON CONFLICT"));
    }
}
