//! What all threads of a server use.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;
use std::time::Duration;

use resp::Limits;
use yggdrasil::{Buckets, Keyspace, Observer, Policies};

use crate::acl::Acl;
use crate::client::Standing;
use crate::clock::Clock;
use crate::cluster::{Cluster, Near};
use crate::command::Lookup;
use crate::config::ServerConfig;
use crate::counters::{Counter, Counters};
use crate::feed::{Changes, Hub, Post};
use crate::kept::KeptBuckets;
use crate::persist::Persistence;
use crate::registry::Registry;
use crate::server::StartError;
use crate::slowlog::Slowlog;
use crate::sources::Sources;
use crate::tls::Tls;
use crate::topology::Topology;

/// How often, and after which pauses, a server that ends looks whether an earlier snapshot is stored.
const STORED_TRIES: usize = 1000;
const STORED_PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ServerConfig,
    pub(crate) clock: Clock,
    pub(crate) keys: Keyspace,
    pub(crate) buckets: Buckets,
    pub(crate) policies: Policies,
    pub(crate) lookup: Lookup,
    pub(crate) acl: Acl,
    pub(crate) tls: Option<Tls>,
    pub(crate) clients: Registry,
    pub(crate) slowlog: Slowlog,
    /// One for each thread.
    pub(crate) posts: Arc<[Post]>,
    pub(crate) hub: Hub,
    pub(crate) changes: Arc<Changes>,
    /// Calls of Valkyrie that are told changes.
    pub(crate) watching_calls: AtomicUsize,
    /// One for each thread.
    pub(crate) counters: Vec<Counters>,
    pub(crate) stops: AtomicBool,
    pub(crate) run_id: String,
    /// Where keys are kept; none where they are in memory only.
    pub(crate) persistence: Option<Arc<Persistence>>,
    pub(crate) sources: Sources,
    /// The others, where there are others.
    pub(crate) cluster: Option<Cluster>,
    pub(crate) near: Near,
    pub(crate) topology: Topology,
}

impl Shared {
    pub(crate) fn new(
        config: ServerConfig,
        (lookup, acl, tls): (Lookup, Acl, Option<Tls>),
        posts: Arc<[Post]>,
        cluster: Option<Cluster>,
    ) -> Result<Arc<Self>, StartError> {
        let clock = Clock::start();
        let mut keyspace = config.keyspace.clone();
        // Fencing numbers grow over restarts although nothing is remembered.
        keyspace.first_version = keyspace.first_version.max(clock.now().ns / 1000);
        let mut keys = Keyspace::new(&keyspace);
        let mut persistence = None;
        let mut kept = KeptBuckets::default();
        if let Some(persist) = &config.persist {
            let (opened, found) = Persistence::open(persist, &keys)?;
            kept = found;
            let observer: Arc<dyn Observer> = Arc::clone(&opened) as _;
            keys = keys.with_observer(&observer);
            persistence = Some(opened);
        }
        let buckets = kept.restore(Buckets::with_room_for(config.buckets), clock.now());
        let policies = Policies::default();
        for (pattern, policy) in config.policies.iter().cloned() {
            policies.set(pattern, policy)?;
        }
        Ok(Arc::new(Self {
            clock,
            keys,
            persistence,
            buckets,
            policies,
            lookup,
            acl,
            tls,
            clients: Registry::default(),
            slowlog: Slowlog::default(),
            hub: Hub::new(Arc::clone(&posts)),
            watching_calls: AtomicUsize::new(0),
            changes: Arc::new(Changes::new(Arc::clone(&posts), config.tracking_bytes_max)),
            posts,
            counters: (0..config.counting())
                .map(|_| Counters::default())
                .collect(),
            stops: AtomicBool::new(false),
            run_id: run_id(),
            sources: Sources::new(&config.sources),
            cluster,
            near: Near::default(),
            topology: Topology::of_this_machine(),
            config,
        }))
    }

    /// Makes a snapshot on a thread of its own; `false` where one is being made.
    pub(crate) fn snapshot(self: &Arc<Self>) -> io::Result<bool> {
        let now = self.clock.now();
        let persistence = self.persistence.as_ref();
        let Some(persistence) = persistence.filter(|it| it.begin_snapshot(now)) else {
            return Ok(false);
        };
        let (shared, own) = (Arc::clone(self), persistence);
        let persistence = Arc::clone(own);
        let work = move || persistence.snapshot(&shared.keys, &shared.buckets, now);
        let thread = thread::Builder::new().name("ygg-snapshot".to_owned());
        let spawned = thread.spawn(work).map(|_| true);
        spawned.inspect_err(|error| own.no_snapshot(error))
    }

    /// Makes a snapshot at the end, where buckets are kept: they are in nothing else.
    pub(crate) fn keep_buckets(&self) {
        if let Some(persistence) = &self.persistence
            && persistence.keeps_buckets()
        {
            for _ in 0..STORED_TRIES {
                let now = self.clock.now();
                if persistence.begin_snapshot(now) {
                    return persistence.snapshot(&self.keys, &self.buckets, now);
                }
                thread::sleep(STORED_PAUSE);
            }
            tracing::error!("an earlier snapshot is still being written; buckets are lost");
        }
    }

    /// How clients begin.
    pub(crate) fn standing(&self) -> Standing {
        let user = self.acl.default_user();
        match (user.is_open(), user.is_free()) {
            (false, _) => Standing::Unknown,
            (true, false) => Standing::Checked,
            (true, true) => Standing::Known,
        }
    }

    pub(crate) fn sum(&self, counter: fn(&Counters) -> &Counter) -> u64 {
        self.counters.iter().map(|one| counter(one).get()).sum()
    }

    /// What a command of a client may take.
    pub(crate) fn limits(&self, standing: Standing) -> Limits {
        match standing {
            Standing::Known | Standing::Checked => Limits {
                arg_bytes_max: self.config.value_bytes_max,
                ..Limits::default()
            },
            Standing::Unknown => Limits::unauthenticated(),
        }
    }
}

/// 40 hexadecimal digits that tell this life of the server from others.
fn run_id() -> String {
    use std::hash::{BuildHasher, RandomState};
    let part = |index: u64| format!("{:016x}", RandomState::new().hash_one(index));
    let mut id: String = (0..3).map(part).collect();
    id.truncate(40);
    id
}
