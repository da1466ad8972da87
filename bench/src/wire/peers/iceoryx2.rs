//! iceoryx2: publish and subscribe in shared memory, both ends polling.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use anyhow::{Context, Result};
use iceoryx2::node::{Node, NodeBuilder};
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::port::update_connections::UpdateConnections;
use iceoryx2::prelude::{BackpressureStrategy, LogLevel, ServiceName, ipc, set_log_level};
use iceoryx2::sample::Sample;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;

use super::BESIDE_BYTES;
use crate::wire::measure::{
    Figures, Hist, MESSAGE_BYTES, Tally, WARM_UP, ensure_echo, gb_per_second, message, per_second,
    stamp,
};
use crate::wire::place::{Place, join, thread};
use crate::wire::{Case, Entrant, Work};

pub(crate) const ICEORYX2: Entrant = Entrant {
    name: "iceoryx2",
    cases: &[
        Case::new("messages", Work::Run(messages)),
        Case::new("latency", Work::Run(latency)),
        Case::new("bulk", Work::Run(bulk)),
    ],
};

const MESSAGES: u64 = 1_500_000;
const LARGE: u64 = 32 * 1024;
const ROUNDS: usize = 50_000;

/// Bytes that lie in shared memory.
type Bytes<const N: usize> = [u8; N];

fn node() -> Result<Node<ipc::Service>> {
    set_log_level(LogLevel::Error);
    Ok(NodeBuilder::new().create::<ipc::Service>()?)
}

/// A service of this process that never drops a message.
fn service<const N: usize>(
    node: &Node<ipc::Service>,
    name: &str,
    buffer: usize,
) -> Result<PortFactory<ipc::Service, Bytes<N>, ()>> {
    let name = format!("bench/{}/{name}", std::process::id());
    Ok(node
        .service_builder(&ServiceName::new(&name)?)
        .publish_subscribe::<Bytes<N>>()
        .enable_safe_overflow(false)
        .subscriber_max_buffer_size(buffer)
        .open_or_create()?)
}

fn publisher<const N: usize>(
    node: &Node<ipc::Service>,
    name: &str,
    buffer: usize,
) -> Result<Publisher<ipc::Service, Bytes<N>, ()>> {
    let service = service(node, name, buffer)?;
    Ok(service
        .publisher_builder()
        .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
        .create()?)
}

fn subscriber<const N: usize>(
    node: &Node<ipc::Service>,
    name: &str,
    buffer: usize,
) -> Result<Subscriber<ipc::Service, Bytes<N>, ()>> {
    let service = service(node, name, buffer)?;
    Ok(service.subscriber_builder().buffer_size(buffer).create()?)
}

fn put<const N: usize>(
    publisher: &Publisher<ipc::Service, Bytes<N>, ()>,
    bytes: Bytes<N>,
) -> Result<()> {
    publisher.loan_uninit()?.write_payload(bytes).send()?;
    Ok(())
}

fn take<const N: usize>(
    subscriber: &Subscriber<ipc::Service, Bytes<N>, ()>,
) -> Result<Sample<ipc::Service, Bytes<N>, ()>> {
    loop {
        if let Some(sample) = subscriber.receive()? {
            return Ok(sample);
        }
        std::hint::spin_loop();
    }
}

/// Sends `count` messages; gives the time at which it began.
fn send<const N: usize>(count: u64, buffer: usize) -> Result<Instant> {
    let (ready, receiving) = channel();
    let receiver = thread(move || {
        let node = node()?;
        let subscriber = subscriber::<N>(&node, "one-way", buffer)?;
        ready.send(())?;
        let mut tally = Tally::default();
        while tally.count < count {
            tally.add(take(&subscriber)?.payload())?;
        }
        Ok(tally)
    });
    receiving.recv().context("the receiver could not start")?;
    let node = node()?;
    let publisher = publisher::<N>(&node, "one-way", buffer)?;
    publisher.update_connections()?;
    let mut bytes = [0x5a; N];
    let start = Instant::now();
    for index in 0..count {
        stamp(&mut bytes, index);
        put(&publisher, bytes)?;
    }
    join(receiver)?.ensure(count, N)?;
    Ok(start)
}

fn messages() -> Result<Figures> {
    let start = send::<MESSAGE_BYTES>(MESSAGES, 1024)?;
    Ok(vec![("shm_msgs_per_s", per_second(MESSAGES, start))])
}

/// The sender writes every byte; the receiver looks at each message where it lies.
fn bulk() -> Result<Figures> {
    let start = send::<BESIDE_BYTES>(LARGE, 16)?;
    let rate = gb_per_second(LARGE * BESIDE_BYTES as u64, start);
    Ok(vec![("shm_gb_per_s", rate)])
}

fn latency() -> Result<Figures> {
    let (ready, answering) = channel();
    let (go, begin) = channel();
    let server = thread(move || answer(&ready, &begin));
    answering.recv().context("the server could not start")?;
    Place::TwoCores.pin_client()?;
    let node = node()?;
    let there = publisher::<MESSAGE_BYTES>(&node, "there", 16)?;
    let back = subscriber::<MESSAGE_BYTES>(&node, "back", 16)?;
    there.update_connections()?;
    go.send(())?;
    let mut hist = Hist::new(ROUNDS);
    for round in 0..ROUNDS + WARM_UP {
        let sent = message(round as u64);
        let start = Instant::now();
        put(&there, sent)?;
        let echo = take(&back)?;
        if round >= WARM_UP {
            hist.since(start);
        }
        ensure_echo(echo.payload(), round as u64)?;
    }
    join(server)?;
    Ok(vec![("shm_spin_p50_us", hist.us(0.5))])
}

fn answer(ready: &Sender<()>, begin: &Receiver<()>) -> Result<()> {
    Place::TwoCores.pin_server()?;
    let node = node()?;
    let there = subscriber::<MESSAGE_BYTES>(&node, "there", 16)?;
    let back = publisher::<MESSAGE_BYTES>(&node, "back", 16)?;
    ready.send(())?;
    begin.recv()?;
    back.update_connections()?;
    for _ in 0..ROUNDS + WARM_UP {
        let came = *take(&there)?.payload();
        put(&back, came)?;
    }
    Ok(())
}
