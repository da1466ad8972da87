//! One message there and back, one at a time.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use futures_util::stream;
use tokio::sync::mpsc;

use super::proto::Message;
use super::{client, message, serve};
use crate::wire::measure::{Hist, MESSAGE_BYTES, WARM_UP};
use crate::wire::place::{self, Place, runtime};

/// A call each.
pub(super) fn unary(rounds: usize, place: Place) -> Result<Hist> {
    let at = place::serve(Some(place), serve)?;
    place.pin_client()?;
    runtime()?.block_on(async {
        let mut client = client(at).await?;
        let mut hist = Hist::new(rounds);
        for round in 0..rounds + WARM_UP {
            let start = Instant::now();
            let answer = client.echo(message(round as u64, MESSAGE_BYTES)).await?;
            if round >= WARM_UP {
                hist.since(start);
            }
            ensure_answer(&answer.into_inner(), round)?;
        }
        Ok(hist)
    })
}

/// All in one stream both ways.
pub(super) fn stream(rounds: usize, place: Place) -> Result<Hist> {
    let at = place::serve(Some(place), serve)?;
    place.pin_client()?;
    runtime()?.block_on(async {
        let mut client = client(at).await?;
        let (sender, receiver) = mpsc::channel(4);
        let messages = stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|message| (message, receiver))
        });
        let mut answers = client.talk(messages).await?.into_inner();
        let mut hist = Hist::new(rounds);
        for round in 0..rounds + WARM_UP {
            let start = Instant::now();
            sender.send(message(round as u64, MESSAGE_BYTES)).await?;
            let answer = answers.message().await?.context("the stream ended early")?;
            if round >= WARM_UP {
                hist.since(start);
            }
            ensure_answer(&answer, round)?;
        }
        Ok(hist)
    })
}

fn ensure_answer(answer: &Message, round: usize) -> Result<()> {
    ensure!(
        answer.index == round as u64 && answer.payload.len() == MESSAGE_BYTES,
        "message {round} came back as another"
    );
    Ok(())
}
