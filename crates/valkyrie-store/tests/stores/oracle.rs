//! The bucket of the script is that of Yggdrasil.

use std::cell::{Cell, RefCell};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use valkyrie_store::{Flavor, Limit, Outcome};
use yggdrasil::step;

use crate::server::Server;

const SCRIPT: &str = include_str!("../../src/redis/lua/consume.lua");

/// Calls in microseconds, the unit of the script, at times that it is told.
#[test]
fn script_equals_the_arithmetic_of_buckets() {
    let server = Server::start(Flavor::Redis);
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", server.port)).unwrap();
    let connection = RefCell::new(client.get_connection().unwrap());
    let script = redis::Script::new(SCRIPT);
    let calls = (
        1..2_000_000_u64,
        1..200_u32,
        proptest::collection::vec((0..3_000_000_u64, 0..220_u32), 1..60),
    );
    let number = Cell::new(0);
    let mut runner = TestRunner::default();
    let result = runner.run(&calls, |(each, burst, calls)| {
        number.set(number.get() + 1);
        let limit = Limit::new(each * 1000, burst).unwrap();
        // Far in the future, so that nothing ends while it is tested.
        let (mut now, mut bucket) = (4_000_000_000_000_000_u64, 0);
        for (pause, cost) in calls {
            now += pause;
            let (next, expected) = step(bucket, now * 1000, &limit, cost);
            bucket = next;
            let answer: (i64, u32, u64, u64) = script
                .key(format!("bucket:{}", number.get()))
                .arg(each)
                .arg(burst)
                .arg(cost)
                .arg(now)
                .invoke(&mut *connection.borrow_mut())
                .unwrap();
            let outcome = match expected.outcome {
                Outcome::Allowed => 0,
                Outcome::Denied => 1,
                Outcome::Never => 2,
            };
            let expected = (
                outcome,
                expected.remaining,
                expected.retry_after_ns / 1000,
                expected.reset_after_ns / 1000,
            );
            prop_assert_eq!(answer, expected);
        }
        Ok(())
    });
    result.unwrap();
}
