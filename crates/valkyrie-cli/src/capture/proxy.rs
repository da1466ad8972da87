//! Passes bytes on, in both directions, unchanged.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use valkyrie::Endpoint;
use valkyrie_transport::{AcceptError, Connection, Listener};

use super::recorder::{Recorder, Recording};
use crate::explain::Sender;
use crate::output::complain;

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1024;
/// Bytes that are passed on at once.
const READ_BYTES: usize = 64 * 1024;

/// Where connections come from and go to.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) listener: Listener,
    pub(crate) to: Endpoint,
    pub(crate) recorder: Recorder,
}

/// Passes connections on until the listener breaks or the future is dropped.
///
/// # Errors
/// The listener broke.
pub(crate) async fn run(proxy: Proxy) -> Result<(), AcceptError> {
    let Proxy {
        mut listener,
        to,
        recorder,
    } = proxy;
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // The semaphore is never closed, so there is always a permit in the end.
        let permit = Arc::clone(&room).acquire_owned().await.ok();
        let initiator = listener.accept().await?;
        let (to, recorder) = (to.clone(), recorder.clone());
        spawn_local(async move {
            // Closing the initiator's connection tells it what a refusal would have told.
            match valkyrie_transport::connect(&to).await {
                Ok(acceptor) => pass(initiator, acceptor, &recorder).await,
                Err(error) => complain(&format!("error: {error}\n")),
            }
            drop(permit);
        });
    }
}

/// Passes on what two connections say until both have ended.
async fn pass(initiator: Connection, acceptor: Connection, recorder: &Recorder) {
    let recording = recorder.open(initiator.peer());
    let (from_initiator, to_initiator) = split(initiator);
    let (from_acceptor, to_acceptor) = split(acceptor);
    let there = direction(Sender::Initiator, from_initiator, to_acceptor, &recording);
    let back = direction(Sender::Acceptor, from_acceptor, to_initiator, &recording);
    // A broken connection ends both directions at once, an ended one only its own.
    drop(tokio::try_join!(there, back));
}

async fn direction(
    sender: Sender,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    recording: &Recording,
) -> std::io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = from.read(&mut buffer).await;
        let count = match read {
            Ok(count @ 1..) => count,
            Ok(_) | Err(_) => {
                recording.end(sender);
                to.shutdown().await?;
                return read.map(|_| ());
            }
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        recording.data(sender, bytes);
        to.write_all(bytes).await?;
    }
}
