//! Whether what many clients saw could have been seen if they had come one after the other.
//!
//! Every operation takes effect at one moment between its begin and its end, or the store lies (Herlihy
//! and Wing, Linearizability, 1990). The order is searched for as by Wing and Gong, with what was tried
//! remembered (Lowe, Testing for linearizability, 2017). An operation whose outcome is unknown takes
//! effect at any moment after its begin, or never; one that was certainly not applied never does.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use valkyrie_store::codec::CodecConfig;
use valkyrie_store::{
    Applied, BreakerConfig, Condition, Flavor, HybridConfig, HybridStore, Leased, Lifetime,
    MemoryStore, RedisConfig, RedisStore, StoreAdapter, StoreError, Written,
};

use crate::encoded::encrypting;
use crate::server::Server;

/// What a kind of thing does, one operation after the other.
trait Model: Debug {
    type State: Clone + Eq + Hash + Default;
    type Op: Clone + Debug;
    type Seen: Clone + Debug;

    /// The state behind an operation with this outcome, where it could have had it; `None` is unknown.
    fn step(state: &Self::State, op: &Self::Op, seen: Option<&Self::Seen>) -> Option<Self::State>;
}

#[derive(Debug, Clone)]
struct Event<M: Model> {
    op: M::Op,
    /// `None` where it is unknown.
    seen: Option<M::Seen>,
    begin: Duration,
    /// Never, where it is unknown.
    end: Duration,
}

/// Whether there is an order.
fn is_linear<M: Model>(events: &[Event<M>]) -> bool {
    assert!(events.len() <= 64, "a longer history is not searched");
    let known = events
        .iter()
        .enumerate()
        .filter(|(_, event)| event.seen.is_some());
    let wanted = known.fold(0_u64, |mask, (index, _)| mask | 1 << index);
    search(events, wanted, 0, &M::State::default(), &mut HashSet::new())
}

fn search<M: Model>(
    events: &[Event<M>],
    wanted: u64,
    done: u64,
    state: &M::State,
    tried: &mut HashSet<(u64, M::State)>,
) -> bool {
    if done & wanted == wanted {
        return true;
    }
    if !tried.insert((done, state.clone())) {
        return false;
    }
    let open = || {
        events
            .iter()
            .enumerate()
            .filter(|(index, _)| done & 1 << index == 0)
    };
    // Whatever ended before another began comes before it.
    let first_end = open().map(|(_, event)| event.end).min().unwrap_or_default();
    open()
        .filter(|(_, event)| event.begin <= first_end)
        .any(|(index, event)| {
            let next = M::step(state, &event.op, event.seen.as_ref());
            next.is_some_and(|next| search(events, wanted, done | 1 << index, &next, tried))
        })
}

/// A value that changes from what is expected to another.
#[derive(Debug)]
struct Swap;

impl Model for Swap {
    type State = Option<u32>;
    type Op = (Option<u32>, u32);
    type Seen = bool;

    fn step(
        state: &Option<u32>,
        (old, new): &Self::Op,
        seen: Option<&bool>,
    ) -> Option<Option<u32>> {
        let is_done = state == old;
        match seen {
            Some(seen) if *seen != is_done => None,
            _ if is_done => Some(Some(*new)),
            _ => Some(*state),
        }
    }
}

/// A lease that is given and given back.
#[derive(Debug)]
struct Holding;

#[derive(Debug, Clone)]
enum LeaseOp {
    Ask(u32),
    /// By whom, and with which number.
    GiveBack(u32, u64),
}

#[derive(Debug, Clone)]
enum LeaseSeen {
    Held(u64),
    Taken,
    GivenBack(bool),
}

impl Model for Holding {
    /// Who holds it, with the number where it is known, and the greatest number that was seen.
    type State = (Option<(u32, Option<u64>)>, u64);
    type Op = LeaseOp;
    type Seen = LeaseSeen;

    fn step(state: &Self::State, op: &LeaseOp, seen: Option<&LeaseSeen>) -> Option<Self::State> {
        let (held, last) = *state;
        match (op, seen, held) {
            (LeaseOp::Ask(holder), None, None) => Some((Some((*holder, None)), last)),
            (LeaseOp::Ask(_), None, held) => Some((held, last)),
            (LeaseOp::Ask(holder), Some(LeaseSeen::Held(fence)), None) => {
                (*fence > last).then_some((Some((*holder, Some(*fence))), *fence))
            }
            (LeaseOp::Ask(holder), Some(LeaseSeen::Held(fence)), Some((by, number))) => {
                let is_same = match number {
                    Some(number) => number == *fence,
                    None => *fence > last,
                };
                let next = (Some((by, Some(*fence))), last.max(*fence));
                (by == *holder && is_same).then_some(next)
            }
            (LeaseOp::Ask(holder), Some(LeaseSeen::Taken), Some((by, number))) => {
                (by != *holder).then_some((Some((by, number)), last))
            }
            (LeaseOp::GiveBack(..), None, None) => Some((None, last)),
            (LeaseOp::GiveBack(by, fence), None, Some((holder, number))) => {
                let is_own = holder == *by && number.is_none_or(|number| number == *fence);
                Some((if is_own { None } else { Some((holder, number)) }, last))
            }
            (LeaseOp::GiveBack(_, _), Some(LeaseSeen::GivenBack(false)), held) => {
                let is_held = matches!((op, held), (LeaseOp::GiveBack(by, fence), Some((holder, Some(number))))
                    if *by == holder && *fence == number);
                (!is_held).then_some((held, last))
            }
            (
                LeaseOp::GiveBack(by, fence),
                Some(LeaseSeen::GivenBack(true)),
                Some((holder, number)),
            ) => {
                let is_own = holder == *by && number.is_none_or(|number| number == *fence);
                is_own.then_some((None, last))
            }
            _ => None,
        }
    }
}

fn event<M: Model>(op: M::Op, seen: Option<M::Seen>, begin: u64, end: u64) -> Event<M> {
    Event {
        op,
        seen,
        begin: Duration::from_millis(begin),
        end: Duration::from_millis(end),
    }
}

#[test]
fn order_is_found_where_there_is_one_and_only_there() {
    let swap = event::<Swap>;
    // Two at once: either may be first.
    assert!(is_linear(&[
        swap((None, 1), Some(true), 0, 9),
        swap((Some(1), 2), Some(true), 1, 8)
    ]));
    // The second ended before the first began.
    assert!(!is_linear(&[
        swap((None, 1), Some(true), 5, 9),
        swap((Some(1), 2), Some(true), 1, 4)
    ]));
    // Both cannot have been the first.
    assert!(!is_linear(&[
        swap((None, 1), Some(true), 0, 9),
        swap((None, 2), Some(true), 0, 9)
    ]));
    // An unknown one may have happened late, or never, but not before it began.
    let late = [
        swap((None, 1), None, 0, u64::MAX),
        swap((Some(1), 2), Some(true), 5, 6),
    ];
    assert!(is_linear(&late));
    assert!(is_linear(&[
        swap((None, 1), None, 0, u64::MAX),
        swap((None, 2), Some(true), 5, 6)
    ]));
    assert!(!is_linear(&[
        swap((None, 1), None, 7, u64::MAX),
        swap((Some(1), 2), Some(true), 5, 6)
    ]));
    // A number that goes back, and two holders.
    let hold = event::<Holding>;
    let (ask, held) = (LeaseOp::Ask, |fence| Some(LeaseSeen::Held(fence)));
    let back = |by, fence| {
        (
            LeaseOp::GiveBack(by, fence),
            Some(LeaseSeen::GivenBack(true)),
        )
    };
    let (give, given) = back(1, 5);
    let history = |fence| {
        [
            hold(ask(1), held(5), 0, 1),
            hold(give.clone(), given.clone(), 2, 3),
            hold(ask(2), held(fence), 4, 5),
        ]
    };
    assert!(is_linear(&history(6)));
    assert!(!is_linear(&history(4)));
    assert!(!is_linear(&[
        hold(ask(1), held(5), 0, 1),
        hold(ask(2), held(6), 2, 3)
    ]));
}

/// What clients wrote down.
struct Recorder<M: Model> {
    start: Instant,
    events: Mutex<Vec<Event<M>>>,
}

impl<M: Model> Recorder<M> {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            events: Mutex::new(Vec::new()),
        })
    }

    async fn record(
        &self,
        op: M::Op,
        work: impl Future<Output = Result<M::Seen, StoreError>>,
    ) -> Option<M::Seen> {
        let begin = self.start.elapsed();
        let result = work.await;
        let end = self.start.elapsed();
        let (seen, end) = match result {
            Ok(seen) => (Some(seen), end),
            // Not there at all.
            Err(error) if error.is_not_applied() => return None,
            Err(error) => {
                assert_eq!(error.applied(), Some(Applied::Unknown), "{error}");
                (None, Duration::MAX)
            }
        };
        let event = Event {
            op,
            seen: seen.clone(),
            begin,
            end,
        };
        self.events.lock().unwrap().push(event);
        seen
    }

    fn check(&self, what: &str) {
        let events = self.events.lock().unwrap();
        assert!(is_linear(&events), "{what}: no order explains {events:#?}");
    }
}

const CLIENTS: u32 = 5;
const STEPS: u32 = 10;

/// Values of `key` are swapped by all clients at once.
async fn swaps(store: &HybridStore, key: String) -> Arc<Recorder<Swap>> {
    let recorder = Recorder::new();
    let clients = (0..CLIENTS).map(|client| {
        let (store, recorder, key) = (store.clone(), Arc::clone(&recorder), key.clone());
        tokio::spawn(async move {
            let mut expected = None;
            for step in 0..STEPS {
                let new = 100 * (client + 1) + step;
                let old_text = expected.map(|old: u32| old.to_string());
                let condition = match &old_text {
                    None => Condition::Absent,
                    Some(old) => Condition::Equals(old.as_bytes()),
                };
                let text = new.to_string();
                let work = async {
                    let written = store.write(
                        key.as_bytes(),
                        text.as_bytes(),
                        Lifetime::Unlimited,
                        condition,
                    );
                    Ok(written.await? != Written::Refused)
                };
                let done = recorder.record((expected, new), work).await;
                // A guess at what another one wrote, so that there is something to fight about.
                expected = match done {
                    Some(true) => Some(new),
                    _ => Some(100 * (1 + (client + step) % CLIENTS) + step),
                };
                tokio::time::sleep(Duration::from_millis(u64::from((client + step) % 3))).await;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    recorder
}

/// A lease that all clients ask for and give back.
async fn leases(store: &HybridStore, key: String) -> Arc<Recorder<Holding>> {
    let recorder = Recorder::new();
    let clients = (0..CLIENTS).map(|client| {
        let (store, recorder, key) = (store.clone(), Arc::clone(&recorder), key.clone());
        tokio::spawn(async move {
            for step in 0..STEPS / 2 {
                let name = client.to_string();
                let ask = async {
                    let asked =
                        store.lease(key.as_bytes(), name.as_bytes(), Duration::from_secs(600));
                    Ok(match asked.await? {
                        Leased::Held { fence } => LeaseSeen::Held(fence),
                        Leased::Taken { .. } => LeaseSeen::Taken,
                    })
                };
                let seen = recorder.record(LeaseOp::Ask(client), ask).await;
                tokio::time::sleep(Duration::from_millis(u64::from((client + step) % 3))).await;
                if let Some(LeaseSeen::Held(fence)) = seen {
                    let give = async {
                        Ok(LeaseSeen::GivenBack(
                            store.release(key.as_bytes(), fence).await?,
                        ))
                    };
                    recorder
                        .record(LeaseOp::GiveBack(client, fence), give)
                        .await;
                }
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    recorder
}

/// Many short histories on one server, behind a chain with memory, while the server is paused and goes
/// on at any moment.
async fn histories(flavor: Flavor, codec: Option<CodecConfig>) {
    let server = Server::start(flavor);
    let primary = RedisStore::new(&RedisConfig {
        timeout: Duration::from_millis(15),
        codec,
        ..server.config("primary")
    });
    let config = HybridConfig {
        breaker: BreakerConfig {
            failures: 3,
            open_for: Duration::from_millis(10),
            successes: 1,
        },
        ..HybridConfig::default()
    };
    let chain = [primary.unwrap().into(), MemoryStore::new().into()];
    let store = HybridStore::of(chain, config).unwrap();
    for round in 0..12_u64 {
        let disturb = async {
            if flavor != Flavor::Yggdrasil && round % 3 != 0 {
                tokio::time::sleep(Duration::from_millis(3 + round)).await;
                server.signal("STOP");
                tokio::time::sleep(Duration::from_millis(12 + 2 * round)).await;
                server.signal("CONT");
            }
        };
        let work = async {
            let swaps = swaps(&store, format!("swap:{round}"));
            let leases = leases(&store, format!("lease:{round}"));
            let (swaps, leases) = tokio::join!(swaps, leases);
            // Answers that nobody waited for any more are on their way.
            tokio::time::sleep(Duration::from_millis(50)).await;
            swaps.check("swaps");
            leases.check("leases");
        };
        tokio::join!(work, disturb);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_and_leases_of_redis_are_linear() {
    histories(Flavor::Redis, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_and_leases_of_valkey_are_linear() {
    histories(Flavor::Valkey, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_and_leases_of_yggdrasil_are_linear() {
    histories(Flavor::Yggdrasil, None).await;
}

/// A server cannot compare encrypted values, and the order is one all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_of_encrypted_values_are_linear() {
    for flavor in [Flavor::Redis, Flavor::Yggdrasil] {
        histories(flavor, Some(encrypting(&[1]))).await;
    }
}
