//! What becomes of a link whose way delays, narrows, changes or ends its bytes.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use valkyrie::{CallError, CloseReason};
use valkyrie::{Endpoint, Event, Handler, Link, LinkConfig, SessionConfig, connect};
use valkyrie_faults::{Faults, Plan};

use crate::service::CLASS;
use crate::{BEFORE, beside, put_before, start};

/// Ways that are tried for each transport and fault, at the same time.
const SEEDS: u64 = 24;

/// A link that no longer understands its peer ends by its own timeouts: a frame that was made
/// longer than what comes keeps both ends waiting until a PING has gone unanswered.
const PATIENCE: Duration = Duration::from_secs(40);

/// A deadline of calls that may never be answered.
const SOON: Duration = Duration::from_secs(3);

/// Answers with what it gets, and counts its connections that ended.
struct Echo {
    ended: Rc<Cell<u64>>,
}

impl Handler for Echo {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        if let Event::Call { call, body, .. } = event {
            // A connection that ends wants no answer.
            let _ = link.session().reply(call, &body);
        }
    }

    fn closed(&mut self, _: &Link, _: &CloseReason) {
        self.ended.set(self.ended.get() + 1);
    }
}

fn config() -> LinkConfig {
    LinkConfig {
        session: SessionConfig {
            keepalive: Some(Duration::from_secs(1)),
            ..SessionConfig::default()
        },
        ..LinkConfig::default()
    }
}

/// Calls until something is wrong, then closes; what was wrong.
async fn exchange(at: &Endpoint, calls: u8) -> Result<(), String> {
    let ended = Rc::default();
    let link = connect(at, config(), Echo { ended }).await;
    let link = link.map_err(|error| error.to_string())?;
    let mut wrong = Ok(());
    for number in 0..calls {
        let body = vec![number; 1 + usize::from(number) * 40];
        match link.call(CLASS, "test.Echo/Say", &body, SOON).await {
            Ok(answer) if answer == body => {}
            Ok(_) => wrong = Err("an answer that was changed".to_owned()),
            Err(error @ (CallError::Failed { .. } | CallError::Closed(_))) => {
                wrong = Err(error.to_string());
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    link.close(valkyrie::ErrorCode::NONE, SOON);
    link.closed().await;
    wrong
}

/// Runs `calls` behind each of `plans`, all before one server, beside a link of their own that
/// has nothing between; returns what was wrong with each.
fn behind(endpoint: &str, plans: &[Plan], calls: u8) -> Vec<Result<(), String>> {
    let endpoint: Endpoint = endpoint.parse().unwrap();
    BEFORE.set(None);
    let run = async {
        let ended = Rc::<Cell<u64>>::default();
        let counted = Rc::clone(&ended);
        let make = move |_: &Link| Echo {
            ended: Rc::clone(&counted),
        };
        let target = start(&endpoint, config(), make).await;
        let mut ways = Vec::new();
        for (number, plan) in plans.iter().enumerate() {
            let own = beside(&target, number);
            ways.push(put_before(&own, target.clone(), *plan).await);
        }
        let results = join_all(ways.iter().map(|at| exchange(at, calls)));
        let (results, untouched) = tokio::join!(results, exchange(&target, 200));
        assert_eq!(untouched, Ok(()), "the link beside them");
        // Not every proxy reached the server; those that did have ended there too.
        let connected = 1 + ways.len() as u64;
        while ended.get() < connected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        results
    };
    let done = valkyrie::block_on(async { tokio::time::timeout(PATIENCE, run).await });
    done.unwrap()
        .unwrap_or_else(|_| panic!("hangs over {endpoint}: {plans:?}"))
}

fn endpoints(name: &str, dir: &tempfile::TempDir) -> [String; 4] {
    [
        format!("valkyrie+mem://{name}"),
        format!("valkyrie+unix://{}/{name}.sock", dir.path().display()),
        format!("valkyrie+shm://{}/{name}.shm", dir.path().display()),
        "valkyrie+tcp://127.0.0.1:0".to_owned(),
    ]
}

#[test]
fn slow_and_narrow_ways_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults {
        slice_bytes_max: Some(700),
        delay_max: Duration::from_millis(3),
        bytes_per_second: Some(400_000),
        ..Faults::default()
    };
    let plans: Vec<Plan> = (0..SEEDS).map(|seed| Plan::both(seed, faults)).collect();
    for endpoint in endpoints("slow", &dir) {
        let results = behind(&endpoint, &plans, 50);
        assert!(results.iter().all(Result::is_ok), "{endpoint}: {results:?}");
    }
}

#[test]
fn a_changed_byte_harms_no_other_link_and_never_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let plans: Vec<Plan> = (0..SEEDS)
        .map(|seed| {
            // From the first byte of HELLO to the last calls, more often in front.
            let faults = Faults {
                corrupt_at: Some(seed * seed * 7),
                ..Faults::default()
            };
            let whole = Faults::default();
            let (forth, back) = if seed % 2 == 0 {
                (faults, whole)
            } else {
                (whole, faults)
            };
            Plan { seed, forth, back }
        })
        .collect();
    for endpoint in endpoints("changed", &dir) {
        let results = behind(&endpoint, &plans, 30);
        let wrong = results.iter().filter(|result| result.is_err()).count();
        // Some bytes carry nothing that anybody looks at, such as the priority of a frame.
        assert!(wrong >= SEEDS as usize / 2, "{endpoint}: {results:?}");
    }
}

#[test]
fn a_direction_that_ends_ends_the_link() {
    let dir = tempfile::tempdir().unwrap();
    let plans: Vec<Plan> = (0..SEEDS)
        .map(|seed| {
            let faults = Faults {
                finish_at: Some(1 + seed * seed * 7),
                ..Faults::default()
            };
            let whole = Faults::default();
            let (forth, back) = if seed % 2 == 0 {
                (faults, whole)
            } else {
                (whole, faults)
            };
            Plan { seed, forth, back }
        })
        .collect();
    for endpoint in endpoints("half", &dir) {
        let results = behind(&endpoint, &plans, 30);
        assert!(
            results.iter().all(Result::is_err),
            "{endpoint}: {results:?}"
        );
    }
}
