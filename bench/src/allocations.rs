//! Counts the allocations of a message and of a call in the steady state, of both ends together:
//! sender, receiver, engine and runtime share the thread whose allocations are counted.
//!
//! Prints `metric value`, one a line. Started by `rustci-bench run messages`.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use tokio::sync::Notify;
use tokio::task::{spawn_local, yield_now};
use valkyrie::{
    Batch, End, Event, Handler, Link, LinkConfig, StreamClass, StreamId, block_on, connect, listen,
    serve, v2,
};

const MESSAGE: [u8; 64] = [7; 64];
const BATCH: u64 = 512;
const MESSAGES: u64 = 1_000_000;
const CALLS: u64 = 20_000;
const WAIT: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let batch = each(Way::Batch, MESSAGES)?;
    let one = each(Way::One, MESSAGES)?;
    let call = each(Way::Call, CALLS)?;
    for (metric, value) in [
        ("steady_allocations_per_message", batch.max(one)),
        ("steady_allocations_per_call", call),
    ] {
        print(&format!("{metric} {value}"));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the figures are this program's output")]
fn print(line: &str) {
    println!("{line}");
}

/// How messages are sent.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Many with one call.
    Batch,
    /// Each with its own.
    One,
    /// As a call, whose answer is waited for.
    Call,
}

/// Allocations of each of so many: what twice as many need more. As many go before them, until every
/// buffer and window has grown to what it needs.
fn each(way: Way, count: u64) -> Result<f64> {
    let few = allocations(way, count, count)?;
    let many = allocations(way, count, 2 * count)?;
    Ok(many.saturating_sub(few) as f64 / count as f64)
}

fn allocations(way: Way, before: u64, count: u64) -> Result<u64> {
    let mut result = Ok(());
    let counted = allocation_counter::measure(|| {
        result = block_on(async {
            let ends = Ends::new().await?;
            ends.carry(way, before).await?;
            ends.carry(way, count).await
        })
        .map_err(|error| anyhow!("a shard could not start: {error}"))
        .and_then(|carried| carried);
    });
    result.map(|()| counted.count_total)
}

/// Counts what comes, wakes who waits.
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
            Event::Call { call, body, .. } => {
                // The connection may be gone; then nobody waits.
                let _ = link.session().reply(call, &body);
            }
            _ => {}
        }
        self.notify.notify_one();
    }

    fn batch(&mut self, link: &Link, batch: Batch<'_>) {
        link.session().consume(batch.stream(), batch.bytes());
        let came = batch.into_iter().count() as u64;
        self.came.set(self.came.get() + came);
        self.notify.notify_one();
    }
}

struct Ends {
    link: Link,
    stream: StreamId,
    server: Count,
}

impl Ends {
    async fn new() -> Result<Self> {
        let server = Count::default();
        let listener = listen(&"valkyrie+tcp://127.0.0.1:0".parse()?).await?;
        let at = listener.endpoint().clone();
        let handler = server.clone();
        let make = move |_: &Link| handler.clone();
        spawn_local(serve(listener, LinkConfig::default(), make));
        let client = Count::default();
        let link = connect(&at, LinkConfig::default(), client.clone()).await?;
        let open = v2::StreamOpen::default();
        let stream = link.session().open(StreamClass::Data, &open)?;
        client.notify.notified().await;
        Ok(Self {
            link,
            stream,
            server,
        })
    }

    /// Sends so many and waits until they are there.
    async fn carry(&self, way: Way, count: u64) -> Result<()> {
        let goal = self.server.came.get() + count;
        let mut left = count;
        while left > 0 {
            left -= match way {
                Way::Batch => {
                    let batch = (0..left.min(BATCH)).map(|_| &MESSAGE[..]);
                    self.link.session().send_batch(self.stream, batch)? as u64
                }
                Way::One => {
                    let sent = self.link.session().data(self.stream, &MESSAGE, End::No)?;
                    u64::from(sent == MESSAGE.len())
                }
                Way::Call => self.call().await?,
            };
            // The shard writes, and the server reads.
            yield_now().await;
        }
        while !matches!(way, Way::Call) && self.server.came.get() < goal {
            self.server.notify.notified().await;
        }
        Ok(())
    }

    async fn call(&self) -> Result<u64> {
        let class = StreamClass::System;
        let answer = self
            .link
            .call(class, "bench.Echo/Say", &MESSAGE, WAIT)
            .await?;
        ensure!(answer[..] == MESSAGE, "another message came back");
        Ok(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Allocations of a message that are still none: the timers and tables of a connection may grow
    /// once in a while.
    const OF_A_MESSAGE_MAX: f64 = 0.001;

    #[test]
    fn messages_of_a_stream_allocate_nothing() {
        for way in [Way::Batch, Way::One] {
            let each = each(way, 200_000).unwrap();
            assert!(each < OF_A_MESSAGE_MAX, "{way:?}: {each} of each message");
        }
    }

    #[test]
    fn calls_allocate_little() {
        let each = each(Way::Call, 10_000).unwrap();
        // An answer for keeping is one; its bytes and who waits for it are the others.
        assert!(each <= 3.0, "{each} of each call");
    }
}
