//! tarpc over TCP, with bincode as its documentation has it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tarpc::context::{self, Context};
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::Bincode;
use tarpc::{client, serde_transport};

use crate::wire::measure::{
    Figures, Hist, MESSAGE_BYTES, Tally, WARM_UP, ensure_echo, message, per_second,
};
use crate::wire::place::{self, Place, runtime};
use crate::wire::{CALLS_IN_FLIGHT, Case, Entrant, Work};

pub(crate) const TARPC: Entrant = Entrant {
    name: "tarpc",
    cases: &[
        Case::new("calls", Work::Run(calls)),
        Case::new("latency", Work::Pinned(echo)),
        Case::new("latency", Work::Parked(echo)),
        Case::new("connections", Work::Run(connect)),
    ],
};

const CALLS: u64 = 150_000;
const CONNECTS: u64 = 300;
const CONNECTS_TO_WARM_UP: u64 = 30;
/// Its own default is 10 s, which a loaded machine can exceed.
const LIMIT: Duration = Duration::from_secs(60);

#[tarpc::service]
trait Bench {
    async fn echo(payload: Vec<u8>) -> Vec<u8>;
}

#[derive(Clone)]
struct Service;

impl Bench for Service {
    async fn echo(self, _: Context, payload: Vec<u8>) -> Vec<u8> {
        payload
    }
}

async fn serve(listener: tokio::net::TcpListener) -> Result<()> {
    let mut incoming = serde_transport::tcp::listen_on(listener, Bincode::default).await?;
    while let Some(transport) = incoming.next().await {
        let transport = transport?;
        transport.get_ref().set_nodelay(true)?;
        let requests = BaseChannel::with_defaults(transport).execute(Service.serve());
        tokio::spawn(requests.for_each(|answer| async {
            tokio::spawn(answer);
        }));
    }
    Ok(())
}

async fn client(at: SocketAddr) -> Result<BenchClient> {
    let transport = serde_transport::tcp::connect(at, Bincode::default).await?;
    transport.get_ref().set_nodelay(true)?;
    let mut config = client::Config::default();
    config.max_in_flight_requests = 4 * CALLS_IN_FLIGHT as usize;
    config.pending_request_buffer = 4 * CALLS_IN_FLIGHT as usize;
    Ok(BenchClient::new(config, transport).spawn())
}

async fn call(client: &BenchClient, index: u64) -> Result<Vec<u8>> {
    let mut context = context::current();
    context.deadline = Instant::now() + LIMIT;
    Ok(client.echo(context, message(index).to_vec()).await?)
}

fn calls() -> Result<Figures> {
    let at = place::serve(None, serve)?;
    runtime()?.block_on(async {
        let client = client(at).await?;
        let start = Instant::now();
        let tally = stream::iter(0..CALLS)
            .map(|index| call(&client, index))
            .buffer_unordered(CALLS_IN_FLIGHT as usize)
            .try_fold(Tally::default(), |mut tally, answer| async move {
                tally.add(&answer)?;
                Ok(tally)
            })
            .await?;
        let rate = per_second(CALLS, start);
        tally.ensure(CALLS, MESSAGE_BYTES)?;
        Ok(vec![("calls_256_per_s", rate)])
    })
}

fn echo(rounds: usize, place: Place) -> Result<Hist> {
    let at = place::serve(Some(place), serve)?;
    place.pin_client()?;
    runtime()?.block_on(async {
        let client = client(at).await?;
        let mut hist = Hist::new(rounds);
        for round in 0..(rounds + WARM_UP) as u64 {
            let start = Instant::now();
            let answer = call(&client, round).await?;
            if round >= WARM_UP as u64 {
                hist.since(start);
            }
            ensure_echo(&answer, round)?;
        }
        Ok(hist)
    })
}

/// From opening a connection to the answer of its first call.
fn connect() -> Result<Figures> {
    let at = place::serve(Some(Place::TwoCores), serve)?;
    Place::TwoCores.pin_client()?;
    runtime()?.block_on(async {
        let mut hist = Hist::new(CONNECTS as usize);
        for index in 0..CONNECTS + CONNECTS_TO_WARM_UP {
            let start = Instant::now();
            let client = client(at).await?;
            let answer = call(&client, index).await?;
            if index >= CONNECTS_TO_WARM_UP {
                hist.since(start);
            }
            ensure_echo(&answer, index)?;
        }
        Ok(vec![("connect_p50_us", hist.us(0.5))])
    })
}
