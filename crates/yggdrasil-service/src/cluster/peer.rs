//! What a node does with each other one: asking whether it is there, and giving it keys.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use resp::Reply;
use yggdrasil::Condition;

use super::link::Link;
use super::membership::Membership;
use super::slots::slot_of;
use super::state::{Cluster, Slot};
use crate::command::purge;
use crate::shared::Shared;

/// Keys that are given at a time, and about the most bytes of them.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 1 << 20;
/// Pause after a node did not take keys.
const PAUSE: Duration = Duration::from_millis(50);

/// The threads for all other nodes.
#[derive(Debug)]
pub(crate) struct Peers {
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl Peers {
    /// Starts asking.
    pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let one = Arc::clone(shared);
        let thread = thread::Builder::new().name("ygg-cluster".to_owned());
        Ok(Self {
            thread: Some(thread.spawn(move || supervise(&one))?),
            shared: Arc::clone(shared),
        })
    }
}

impl Drop for Peers {
    /// The server has been told to stop.
    fn drop(&mut self) {
        if let Some(cluster) = &self.shared.cluster {
            cluster.wake();
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A thread for another node.
struct Peer {
    address: String,
    stops: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Has a thread for every other node of the membership, and none for those that are gone.
fn supervise(shared: &Arc<Shared>) {
    let Some(cluster) = &shared.cluster else {
        return;
    };
    let mut peers: BTreeMap<String, Peer> = BTreeMap::new();
    while !shared.stops.load(Ordering::Acquire) {
        let membership = cluster.membership();
        peers.retain(|id, peer| {
            let nodes = membership.nodes().iter();
            let is_there = nodes
                .filter(|node| node.id == *id)
                .any(|node| node.address == peer.address);
            if !is_there {
                peer.stops.store(true, Ordering::Release);
            }
            is_there && !peer.thread.is_finished()
        });
        for node in membership.nodes() {
            if node.id == cluster.config.id || peers.contains_key(&node.id) {
                continue;
            }
            let stops = Arc::new(AtomicBool::new(false));
            let work = Work {
                shared: Arc::clone(shared),
                id: node.id.clone(),
                address: node.address.clone(),
                stops: Arc::clone(&stops),
            };
            let thread = thread::Builder::new().name(format!("ygg-to-{}", node.id));
            // Without a thread it is tried again in a moment.
            if let Ok(thread) = thread.spawn(move || work.run()) {
                let address = node.address.clone();
                let peer = Peer {
                    address,
                    stops,
                    thread,
                };
                peers.insert(node.id.clone(), peer);
            }
        }
        if cluster.purges() {
            purge(shared, cluster);
        }
        cluster.count();
        cluster.wait(cluster.config.timeout / 10);
    }
    for peer in peers.into_values() {
        peer.stops.store(true, Ordering::Release);
        cluster.wake();
        let _ = peer.thread.join();
    }
}

/// Keys that go together, with their versions.
#[derive(Default)]
struct Batch<'a> {
    records: Vec<Vec<u8>>,
    keys: Vec<(&'a [u8], u64)>,
    bytes: usize,
}

struct Work {
    shared: Arc<Shared>,
    id: String,
    address: String,
    stops: Arc<AtomicBool>,
}

impl Work {
    fn ends(&self) -> bool {
        self.stops.load(Ordering::Acquire) || self.shared.stops.load(Ordering::Acquire)
    }

    fn run(&self) {
        let Some(cluster) = &self.shared.cluster else {
            return;
        };
        let every = cluster.config.timeout / 10;
        let mut link = None;
        let mut was_there = true;
        while !self.ends() {
            let done = self.turn(cluster, &mut link);
            if let Err(error) = &done {
                link = None;
                if was_there {
                    let (node, address) = (&self.id, &self.address);
                    tracing::warn!(node, address, %error, "a node of the cluster does not answer");
                }
            }
            was_there = done.is_ok();
            match done {
                // There is more to give.
                Ok(true) => {}
                Ok(false) => cluster.wait(every),
                Err(_) => cluster.wait(every.max(PAUSE)),
            }
        }
    }

    /// Asks once, and gives some keys where there are any; whether there may be more.
    fn turn(&self, cluster: &Cluster, link: &mut Option<Link>) -> io::Result<bool> {
        let link = match link {
            Some(link) => link,
            None => {
                let credentials = cluster.config.credentials.as_ref();
                let patience = cluster.config.timeout / 2;
                link.insert(Link::connect(&self.address, credentials, patience)?)
            }
        };
        let membership = cluster.membership();
        let asked = Instant::now();
        let settled: &[u8] = if cluster.is_settled() { b"1" } else { b"0" };
        let (own, text) = (cluster.config.id.as_bytes(), membership.to_string());
        let reply = link.ask(&[b"YGG.NODE", b"HELLO", own, text.as_bytes(), settled])?;
        let Reply::Array(parts) = &reply else {
            return Err(io::Error::other("the answer to HELLO is none"));
        };
        let [
            Reply::Bulk(theirs),
            Reply::Integer(is_settled),
            Reply::Bulk(id),
        ] = &parts[..]
        else {
            return Err(io::Error::other("the answer to HELLO is none"));
        };
        if *id != self.id.as_bytes() {
            let id = String::from_utf8_lossy(id);
            return Err(io::Error::other(format!("there is node {id} instead")));
        }
        let theirs = String::from_utf8_lossy(theirs);
        let theirs: Membership = theirs.parse().map_err(io::Error::other)?;
        if theirs == *membership {
            cluster.answered(&self.id, asked);
            cluster.said(&self.id, *is_settled);
        } else {
            cluster.adopt(theirs).map_err(io::Error::other)?;
            return Ok(false);
        }
        self.fetch_near(link)?;
        let Some(number) = membership.number_of(&self.id) else {
            return Ok(false);
        };
        match cluster.leaves_to(number) {
            false => Ok(false),
            true => self.give(cluster, link, (number, &membership)),
        }
    }

    /// Gives keys until a whole pass has found none, or something has changed.
    fn give(
        &self,
        cluster: &Cluster,
        link: &mut Link,
        (number, membership): (u16, &Membership),
    ) -> io::Result<bool> {
        let (keys, mut cursor) = (&self.shared.keys, 0);
        let mut asked = Instant::now();
        loop {
            let mut names: Vec<Vec<u8>> = Vec::new();
            let now_ms = self.shared.clock.now().ms();
            cursor = keys.scan(cursor, BATCH, now_ms, |entry| {
                if cluster.slot(slot_of(entry.key())) == Slot::Leaving(number) {
                    names.push(entry.key().to_vec());
                }
            });
            for names in names.chunks(BATCH) {
                self.give_some(cluster, link, names, membership)?;
            }
            if cursor == 0 {
                break;
            }
            if self.ends() || cluster.membership().order() != membership.order() {
                return Ok(true);
            }
            // So that the node does not count as gone meanwhile.
            if asked.elapsed() > cluster.config.timeout / 10 {
                asked = Instant::now();
                let own = cluster.config.id.as_bytes();
                let text = membership.to_string();
                link.ask(&[b"YGG.NODE", b"HELLO", own, text.as_bytes(), b"0"])?;
                cluster.answered(&self.id, asked);
            }
        }
        // Nothing can have come to these slots since: what is not there is sent to the other node.
        let (own, name) = (cluster.config.id.as_bytes(), membership.name());
        link.ask(&[b"YGG.NODE", b"DONE", own, name.as_bytes()])?;
        cluster.left_to(number);
        tracing::info!(
            node = self.id,
            "all keys that are its own now were given to it"
        );
        Ok(true)
    }

    /// Gives keys: nobody changes them from the moment they are copied until they are removed here.
    fn give_some(
        &self,
        cluster: &Cluster,
        link: &mut Link,
        names: &[Vec<u8>],
        membership: &Membership,
    ) -> io::Result<()> {
        let keys = &self.shared.keys;
        let now_ms = self.shared.clock.now().ms();
        let mut batch = Batch::default();
        for name in names {
            let key = keys.key(name);
            let shard = keys.shard(key);
            if let Some(entry) = shard.peek(key, now_ms) {
                let mut record = Vec::new();
                entry.encode(&mut record);
                batch.bytes += record.len();
                batch.records.push(record);
                batch.keys.push((name, entry.version()));
                cluster.moving().insert(name.clone());
            }
            drop(shard);
            if batch.bytes > BATCH_BYTES {
                self.send(cluster, link, std::mem::take(&mut batch), membership)?;
            }
        }
        self.send(cluster, link, batch, membership)
    }

    fn send(
        &self,
        cluster: &Cluster,
        link: &mut Link,
        batch: Batch<'_>,
        membership: &Membership,
    ) -> io::Result<()> {
        if batch.records.is_empty() {
            return Ok(());
        }
        let name = membership.name();
        let own = cluster.config.id.as_bytes();
        let mut args: Vec<&[u8]> = vec![b"YGG.NODE", b"TAKE", own, name.as_bytes()];
        args.extend(batch.records.iter().map(Vec::as_slice));
        let sent = link.ask(&args);
        let keys = &self.shared.keys;
        let now_ms = self.shared.clock.now().ms();
        for (name, version) in batch.keys {
            let key = keys.key(name);
            let mut shard = keys.shard(key);
            if sent.is_ok() {
                shard.remove(key, Condition::Version(version), now_ms);
            }
            cluster.moving().remove(name);
        }
        sent.map(|_| ())
    }

    /// Fetches tokens of buckets that are asked for here and belong to that node.
    fn fetch_near(&self, link: &mut Link) -> io::Result<()> {
        for wanted in self.shared.near.wanted(&self.id) {
            let [emission, burst] = [wanted.emission_ns.to_string(), wanted.burst.to_string()];
            let chunk = wanted.chunk.to_string();
            let asked = Instant::now();
            let args = [emission.as_bytes(), burst.as_bytes(), chunk.as_bytes()];
            let mut command: Vec<&[u8]> = vec![b"YGG.CONSUME", &wanted.key];
            command.extend(args);
            // One that is refused has moved, or has none left.
            if let Ok(Reply::Array(parts)) = link.ask(&command)
                && parts.first() == Some(&Reply::Integer(0))
            {
                self.shared.near.fetched(&wanted, asked);
            }
        }
        Ok(())
    }
}
