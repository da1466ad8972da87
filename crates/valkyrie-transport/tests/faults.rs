//! Every transport through a proxy that misbehaves, from fixed seeds, in simulated time.

#![expect(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use valkyrie_faults::{Faults, Plan, Proxy};
use valkyrie_transport::{Connection, Endpoint, listen};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `test` with both ends of a connection through a proxy, over each transport.
fn over_every_transport(plan: Plan, test: impl AsyncFn(Connection, Connection)) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    for kind in ["mem", "shm", "unix", "tcp"] {
        let endpoint = |name: &str| -> Endpoint {
            let text = match kind {
                "mem" => format!("valkyrie+mem://faults-{}-{name}", plan.seed),
                "tcp" => "valkyrie+tcp://127.0.0.1:0".to_owned(),
                _ => format!("valkyrie+{kind}://{}/{kind}-{name}", dir.path().display()),
            };
            text.parse().unwrap()
        };
        let run = async {
            let mut listener = listen(&endpoint("target")).await.unwrap();
            let target = listener.endpoint().clone();
            let mut proxy = Proxy::new(&endpoint("proxy"), target, plan).await.unwrap();
            let at = proxy.endpoint().clone();
            let client = valkyrie_transport::connect(&at).await.unwrap();
            tokio::spawn(proxy.accept().await.unwrap());
            let server = listener.accept().await.unwrap();
            assert_eq!(server.kind().name(), kind);
            test(client, server).await;
        };
        let done = runtime.block_on(async { timeout(PATIENCE, run).await });
        assert!(done.is_ok(), "{kind} hangs");
    }
}

fn bytes(count: u32) -> Vec<u8> {
    (0..count).map(|at| (at % 253) as u8).collect()
}

/// Sends both ways at once and checks what arrives.
async fn exchange(mut client: Connection, mut server: Connection, count: u32) {
    let sent = bytes(count);
    let copy = sent.clone();
    let echo = tokio::spawn(async move {
        let mut got = vec![0; 8192];
        loop {
            match server.read(&mut got).await.unwrap() {
                0 => break,
                count => server.write_all(got.split_at(count).0).await.unwrap(),
            }
        }
        server.shutdown().await.unwrap();
    });
    let (mut reader, mut writer) = tokio::io::split(&mut client);
    let write = async {
        writer.write_all(&copy).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let (_, read) = tokio::join!(write, reader.read_to_end(&mut got));
    read.unwrap();
    assert!(got == sent);
    echo.await.unwrap();
}

#[test]
fn slices_and_delays_keep_everything_in_order() {
    for seed in [1, 2, 3] {
        let faults = Faults {
            slice_bytes_max: Some(4000),
            delay_max: Duration::from_millis(seed),
            ..Faults::default()
        };
        over_every_transport(Plan::both(seed, faults), async |client, server| {
            exchange(client, server, 200_000).await;
        });
    }
}

#[test]
fn single_bytes_keep_everything_in_order() {
    let faults = Faults {
        slice_bytes_max: Some(1),
        ..Faults::default()
    };
    over_every_transport(Plan::both(4, faults), async |client, server| {
        exchange(client, server, 5_000).await;
    });
}

#[test]
fn a_narrow_way_slows_down_and_loses_nothing() {
    let faults = Faults {
        slice_bytes_max: Some(64 * 1024),
        bytes_per_second: Some(20_000_000),
        ..Faults::default()
    };
    over_every_transport(Plan::both(5, faults), async |client, server| {
        exchange(client, server, 3_000_000).await;
    });
}

#[test]
fn a_direction_that_ends_leaves_the_other_one_open() {
    let plan = Plan {
        seed: 6,
        forth: Faults {
            finish_at: Some(1000),
            ..Faults::default()
        },
        back: Faults::default(),
    };
    over_every_transport(plan, async |mut client, mut server| {
        client.write_all(&bytes(3000)).await.unwrap();
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, bytes(1000));
        server.write_all(b"still here").await.unwrap();
        server.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"still here");
    });
}

#[test]
fn one_bit_is_changed_and_nothing_else() {
    for at in [0, 777, 99_999] {
        let plan = Plan {
            seed: at,
            forth: Faults {
                corrupt_at: Some(at),
                slice_bytes_max: Some(3000),
                ..Faults::default()
            },
            back: Faults::default(),
        };
        over_every_transport(plan, async |mut client, mut server| {
            let sent = bytes(100_000);
            let mut got = vec![0; sent.len()];
            let (wrote, read) = tokio::join!(client.write_all(&sent), server.read_exact(&mut got));
            wrote.unwrap();
            read.unwrap();
            let changed: Vec<_> = (0..sent.len()).filter(|at| got[*at] != sent[*at]).collect();
            assert_eq!(changed, [at as usize]);
        });
    }
}
