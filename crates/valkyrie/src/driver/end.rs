//! The course of a connection, and its end.

use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use valkyrie_frame::ErrorCode;
use valkyrie_session::SessionError;

use super::{Driver, Turn};
use crate::error::CloseReason;
use crate::link::Handler;
use crate::told;
use crate::upgrade;

/// How long a closed connection is read on, so that the peer sees the last words: closing a socket
/// with unread bytes would make the kernel throw away what was sent.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes read on at most meanwhile.
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// A connection as a task. Written by hand: as an `async fn` it would take a task of twice the
/// size, for every connection as long as it is open.
pub(crate) enum Course<H> {
    Runs(Box<Driver<H>>),
    Ends(Pin<Box<dyn Future<Output = ()>>>),
    IsOver,
}

impl<H: Handler> Future for Course<H> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let course = &mut *self;
        if let Self::Runs(driver) = course {
            let reason = ready!(driver.poll_tick(cx));
            if let Self::Runs(driver) = mem::replace(course, Self::IsOver) {
                *course = Self::Ends(Box::pin(driver.end(reason)));
            }
        }
        match course {
            Self::Ends(end) => end.as_mut().poll(cx),
            Self::Runs(_) | Self::IsOver => Poll::Ready(()),
        }
    }
}

impl<H: Handler> Driver<H> {
    /// Tells everyone that the connection is over, and lets the peer read why.
    async fn end(mut self: Box<Self>, reason: CloseReason) {
        let link = self.link.clone();
        match &reason {
            CloseReason::Session(SessionError::Violation(_)) => {
                tracing::info!(conn = link.id(), peer = %link.peer().address, %reason, "peer refused");
            }
            _ => tracing::debug!(conn = link.id(), %reason, "connection closed"),
        }
        // A connection that was the transport of another link was none of its own.
        let counts = !matches!(reason, CloseReason::Moved);
        if let Some(meter) = self.settings.meter.as_ref().filter(|_| counts) {
            meter.finish(&mut link.driver_session(), reason.label());
            if matches!(reason.code(), ErrorCode::LOST) {
                meter.error(ErrorCode::LOST);
            }
        }
        // Or whoever still has the link would fill it with what nobody sends.
        link.driver_session().abandon();
        self.open = None;
        if let Some(sender) = self.beginning.take().and_then(|beginning| beginning.ready) {
            drop(sender.send(Err(reason.clone())));
        }
        link.set_closed(&reason);
        told::end(&link, &self.settings.receivers);
        self.handler.closed(&link, &reason);
        if let Turn::Away(away) = self.turn {
            let (target, resume) = *away;
            return upgrade::welcome(target, resume, self.connection.into_present()).await;
        }
        if matches!(reason, CloseReason::Closed | CloseReason::Session(_)) {
            // The connection is over either way; the peer just gets the chance to read why.
            drop(timeout(LINGER, self.linger()).await);
        }
    }

    async fn linger(mut self: Box<Self>) -> io::Result<()> {
        self.connection.shutdown().await?;
        let mut buffer = [0; 4096];
        let mut taken = 0;
        while taken < LINGER_BYTES {
            match self.connection.read(&mut buffer).await? {
                0 => break,
                count => taken += count,
            }
        }
        Ok(())
    }
}
