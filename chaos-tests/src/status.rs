//! Who leads what, in which term: one look at `/v1/cluster`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{Error, Scrape, http};

/// One look at a cluster.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// All shards, the system shard included.
    pub shards: Vec<Shard>,
}

/// One shard.
#[derive(Clone, Debug, Deserialize)]
pub struct Shard {
    /// Its number.
    pub id: u32,
    /// Its slots; `None` for the system shard.
    pub slots: Option<Slots>,
    /// The number of the node that leads it.
    pub leader: Option<u64>,
    replicas: Vec<Replica>,
}

/// Slots `first..=last`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Slots {
    /// First slot.
    pub first: u16,
    /// Last slot.
    pub last: u16,
}

#[derive(Clone, Debug, Deserialize)]
struct Replica {
    #[serde(default)]
    term: u64,
}

impl Status {
    /// Asks the router at `address`.
    pub async fn of(address: &str) -> Result<Status, Error> {
        let answer = http::get(address, "/v1/cluster", &[]).await?;
        serde_json::from_slice(&answer.body).map_err(|error| Error::Malformed {
            what: format!("status of the cluster ({} {})", answer.status, answer.text()),
            reason: error.to_string(),
        })
    }

    /// Shards that a node leads.
    pub fn led_by(&self, node: u64) -> Vec<u32> {
        self.shards.iter().filter(|s| s.leader == Some(node)).map(|s| s.id).collect()
    }

    /// A shard of `led` that no node but `former` leads yet.
    ///
    /// The leader tells, not the term: a leader that is killed while it hands over has brought the
    /// next term about already, and nobody needs to elect once more.
    pub(crate) fn not_taken_over(&self, former: u64, led: &[u32]) -> Option<u32> {
        let is_led = |id: u32| {
            let shard = self.shards.iter().find(|shard| shard.id == id);
            shard.and_then(|shard| shard.leader).is_some_and(|leader| leader != former)
        };
        led.iter().copied().find(|shard| !is_led(*shard))
    }

    /// The greatest term of each shard.
    pub fn terms(&self) -> BTreeMap<u32, u64> {
        let term = |shard: &Shard| shard.replicas.iter().map(|r| r.term).max().unwrap_or(0);
        self.shards.iter().map(|shard| (shard.id, term(shard))).collect()
    }
}

/// Tells elections that somebody caused from those that nobody did.
#[derive(Debug)]
pub(crate) struct Elections {
    terms: BTreeMap<u32, u64>,
    /// Terms that passed, whatever the reason.
    passed: u64,
    /// Of these, terms of shards whose leader was killed.
    by_kills: u64,
    /// Leaderships that were handed over, by node, since it was started.
    received: Vec<u64>,
    /// The sum over all nodes and starts.
    handed_over: u64,
}

impl Elections {
    /// Counts from `status` on.
    pub(crate) fn since(status: &Status, nodes: usize) -> Elections {
        let terms = status.terms();
        Elections { terms, passed: 0, by_kills: 0, received: vec![0; nodes], handed_over: 0 }
    }

    /// Leaderships that were handed over on purpose.
    pub(crate) fn handed_over(&self) -> u64 {
        self.handed_over
    }

    /// Terms that passed because a leader was killed.
    pub(crate) fn by_kills(&self) -> u64 {
        self.by_kills
    }

    /// Terms that passed although nobody was killed and nobody handed over.
    pub(crate) fn by_nobody(&self) -> u64 {
        self.passed.saturating_sub(self.by_kills + self.handed_over)
    }

    /// Takes a look; `killed` are the shards whose leader was killed since the last one.
    pub(crate) fn on_status(&mut self, status: &Status, killed: &[u32]) {
        for (shard, term) in status.terms() {
            let known = self.terms.entry(shard).or_insert(term);
            let passed = term.saturating_sub(*known);
            *known = term.max(*known);
            self.passed += passed;
            self.by_kills += if killed.contains(&shard) { passed } else { 0 };
        }
    }

    /// Takes what a node counted since it was started.
    pub(crate) fn on_received(&mut self, node: usize, count: u64) {
        self.handed_over += count.saturating_sub(self.received[node]);
        self.received[node] = count;
    }

    /// A node starts to count from 0 again.
    pub(crate) fn on_start(&mut self, node: usize) {
        self.received[node] = 0;
    }

    /// Looks at the counters of all nodes.
    pub(crate) async fn look(&mut self, addresses: &[String]) -> Result<(), Error> {
        for (node, address) in addresses.iter().enumerate() {
            let scrape = Scrape::of(address).await?;
            let count = scrape.sum("platbook_node_leaderships_received_total", "");
            self.on_received(node, count as u64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(terms: &[u64]) -> Status {
        let shard = |(id, term): (usize, &u64)| Shard {
            id: id as u32,
            slots: None,
            leader: Some(1),
            replicas: vec![Replica { term: *term }, Replica { term: term - 1 }],
        };
        Status { shards: terms.iter().enumerate().map(shard).collect() }
    }

    #[test]
    fn an_election_has_a_cause_or_is_counted() {
        let mut elections = Elections::since(&status(&[1, 1, 1]), 2);
        elections.on_status(&status(&[2, 1, 1]), &[0]);
        assert_eq!((elections.by_kills(), elections.by_nobody()), (1, 0));
        elections.on_received(1, 1);
        elections.on_status(&status(&[3, 1, 1]), &[]);
        assert_eq!((elections.handed_over(), elections.by_nobody()), (1, 0));
        elections.on_start(1);
        elections.on_received(1, 1);
        elections.on_status(&status(&[3, 2, 2]), &[]);
        assert_eq!((elections.handed_over(), elections.by_nobody()), (2, 1));
    }

    #[test]
    fn a_leader_killed_while_it_hands_over_is_succeeded_in_the_term_it_brought_about() {
        let mut seen = status(&[7, 7]);
        assert_eq!(seen.not_taken_over(1, &[0, 1]), Some(0));
        seen.shards[0].leader = Some(2);
        assert_eq!(seen.not_taken_over(1, &[0, 1]), Some(1));
        seen.shards[1].leader = None;
        assert_eq!(seen.not_taken_over(1, &[0, 1]), Some(1), "nobody is not another one");
        seen.shards[1].leader = Some(3);
        assert_eq!(seen.terms(), status(&[7, 7]).terms());
        assert_eq!(seen.not_taken_over(1, &[0, 1]), None, "although no term passed");
    }

    #[test]
    fn a_shard_without_slots_or_leader_can_be_read() {
        let text = r#"{"shards":[
            {"id":0,"slots":null,"leader":null,"replicas":[{"role":"unknown"}]},
            {"id":1,"slots":{"first":0,"last":9},"leader":2,"replicas":[{"term":7}]}]}"#;
        let status: Status = serde_json::from_str(text).expect("a status");
        assert_eq!(status.led_by(2), [1]);
        assert_eq!(status.terms(), BTreeMap::from([(0, 0), (1, 7)]));
    }
}
