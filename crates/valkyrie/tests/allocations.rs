//! What a message costs of the allocator in the steady state: nothing.
//!
//! The allocator of this program counts for each thread. Both ends live on this one, so what is
//! counted is sender, receiver, engine and runtime together.

#![expect(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use valkyrie::{
    Batch, End, Event, Handler, Link, LinkConfig, StreamClass, StreamId, connect, listen, serve, v2,
};

/// Allocations of a message that are still none: the timers and tables of a connection may grow
/// once in a while.
const ALLOCATIONS_MAX: f64 = 0.001;
const MESSAGES: u64 = 200_000;
const MESSAGE: [u8; 64] = [7; 64];
const BATCH: u64 = 512;

/// Counts what comes, wakes who waits for credit.
#[derive(Clone, Default)]
struct Count {
    came: Rc<Cell<u64>>,
    notify: Rc<Notify>,
}

impl Handler for Count {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        match event {
            Event::Opened { stream, .. } => link.session().accept(stream, 0),
            Event::Data { stream, bytes, .. } => {
                self.came.set(self.came.get() + 1);
                link.session().consume(stream, bytes.len());
            }
            Event::Call { call, body, .. } => link.session().reply(call, &body).unwrap(),
            _ => {}
        }
        self.notify.notify_one();
    }

    fn batch(&mut self, link: &Link, batch: Batch<'_>) {
        link.session().consume(batch.stream(), batch.bytes());
        self.came
            .set(self.came.get() + batch.into_iter().count() as u64);
        self.notify.notify_one();
    }
}

/// How messages are sent.
#[derive(Clone, Copy, Debug)]
enum Way {
    Batch,
    One,
    Call,
}

struct Ends {
    link: Link,
    stream: StreamId,
    server: Count,
}

impl Ends {
    async fn new() -> Self {
        let server = Count::default();
        let listener = listen(&"valkyrie+tcp://127.0.0.1:0".parse().unwrap()).await;
        let listener = listener.unwrap();
        let at = listener.endpoint().clone();
        let handler = server.clone();
        tokio::task::spawn_local(serve(listener, LinkConfig::default(), move |_| {
            handler.clone()
        }));
        let client = Count::default();
        let link = connect(&at, LinkConfig::default(), client.clone()).await;
        let link = link.unwrap();
        let open = v2::StreamOpen::default();
        let stream = link.session().open(StreamClass::Data, &open).unwrap();
        client.notify.notified().await;
        Self {
            link,
            stream,
            server,
        }
    }

    /// Sends so many and waits until they are there.
    async fn carry(&self, way: Way, count: u64) {
        let goal = self.server.came.get() + count;
        let mut left = count;
        while left > 0 {
            left -= match way {
                Way::Batch => self.send_batch(left.min(BATCH)),
                Way::One => self.send_one(),
                Way::Call => self.call().await,
            };
            // The shard writes, and the server reads.
            tokio::task::yield_now().await;
        }
        while !matches!(way, Way::Call) && self.server.came.get() < goal {
            self.server.notify.notified().await;
        }
    }

    fn send_batch(&self, count: u64) -> u64 {
        let batch = (0..count).map(|_| &MESSAGE[..]);
        self.link.session().send_batch(self.stream, batch).unwrap() as u64
    }

    fn send_one(&self) -> u64 {
        let mut session = self.link.session();
        let sent = session.data(self.stream, &MESSAGE, End::No).unwrap();
        u64::from(sent == MESSAGE.len())
    }

    async fn call(&self) -> u64 {
        let wait = Duration::from_secs(10);
        let answer = self.link.call(StreamClass::System, "a.b/C", &MESSAGE, wait);
        assert_eq!(answer.await.unwrap(), MESSAGE[..]);
        1
    }
}

/// Allocations of each message, counted over those of twice as many.
fn allocations_of(way: Way, messages: u64) -> f64 {
    let counts = [messages, 2 * messages].map(|messages| {
        let run = || {
            valkyrie::block_on(async {
                let ends = Ends::new().await;
                // Until every buffer and window has grown to what it needs.
                ends.carry(way, MESSAGES).await;
                ends.carry(way, messages).await;
            })
        };
        allocation_counter::measure(|| run().unwrap()).count_total
    });
    let [few, many] = counts;
    many.saturating_sub(few) as f64 / messages as f64
}

#[test]
fn messages_of_a_stream_allocate_nothing() {
    for way in [Way::Batch, Way::One] {
        let each = allocations_of(way, MESSAGES);
        println!("steady_allocations_per_message, {way:?}: {each}");
        assert!(each < ALLOCATIONS_MAX, "{way:?}: {each} of each message");
    }
}

#[test]
fn calls_allocate_little() {
    let each = allocations_of(Way::Call, MESSAGES / 20);
    println!("allocations of a call: {each}");
    // An answer for keeping is one; its bytes and who waits for it are the others.
    assert!(each <= 3.0, "{each} of each call");
}
