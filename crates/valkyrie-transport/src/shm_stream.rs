//! A pipe of shared memory that waits with tokio.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::task::coop;
use valkyrie_shm::{Bell, Pipe, Read, Rest, Violation, Written, refusal, ring};

/// Doorbells taken off the socket at once. There is rarely more than one.
const BELLS: usize = 64;

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct ShmStream {
    socket: UnixStream,
    pipe: Pipe,
    sleepers: Arc<Sleepers>,
    /// Wakes `sleepers`.
    waker: Waker,
    /// Whether the other end of the socket is closed.
    gone: bool,
}

impl ShmStream {
    pub(crate) fn new(socket: UnixStream, pipe: Pipe) -> Self {
        let sleepers = Arc::<Sleepers>::default();
        Self {
            socket,
            pipe,
            waker: Waker::from(sleepers.clone()),
            sleepers,
            gone: false,
        }
    }

    /// Reads what is there, and lets the writer know that nobody sleeps.
    pub(crate) fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.pipe.reader.rise();
        match self.pipe.reader.read(buf).map_err(broken)? {
            Read::Bytes { count, bell } => {
                self.ring(bell);
                Ok(count)
            }
            Read::End => Ok(0),
            Read::Empty => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Bytes that can be read now.
    pub(crate) fn readable_bytes(&self) -> usize {
        self.pipe.reader.readable()
    }

    fn ring(&self, bell: Bell) {
        if bell == Bell::Ring {
            ring(&self.socket);
        }
    }

    /// Ready when the doorbell rang since the last call, or when the peer is gone. Fails when the
    /// peer did not take the memory.
    fn poll_bell(&mut self, cx: &Context<'_>, half: Half) -> Poll<io::Result<()>> {
        self.sleepers.set(half, cx.waker());
        let mut space = [0; BELLS];
        let mut bells = ReadBuf::new(&mut space);
        let mut both = Context::from_waker(&self.waker);
        let polled = Pin::new(&mut self.socket).poll_read(&mut both, &mut bells);
        // A peer that closed its end with a bell unheard leaves an error, another one does not.
        self.gone |= match ready!(polled) {
            Ok(()) => bells.filled().is_empty(),
            Err(_) => true,
        };
        // One bell is for both halves, and so is the end.
        self.sleepers.wake_other(half, cx.waker());
        Poll::Ready(match refusal(bells.filled()) {
            Some(refusal) => Err(io::Error::new(io::ErrorKind::ConnectionRefused, refusal)),
            None => Ok(()),
        })
    }

    fn poll_write_all_of<'a>(
        &mut self,
        cx: &Context<'_>,
        slices: impl IntoIterator<Item = &'a [u8]> + Clone,
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.gone || self.pipe.writer.is_finished() {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let written = self.pipe.writer.write_all_of(slices.clone());
            if let Written::Bytes { count, bell } = written.map_err(broken)? {
                self.ring(bell);
                return Poll::Ready(Ok(count));
            }
            match self.pipe.writer.rest().map_err(broken)? {
                Rest::Ready => {}
                Rest::Asleep => ready!(self.poll_bell(cx, Half::Writer))?,
            }
        }
    }
}

impl AsyncRead for ShmStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // The ring never makes a reader wait while there is something, so this asks the runtime
        // whether it is another task's turn.
        let turn = ready!(coop::poll_proceed(cx));
        loop {
            let out = buf.initialize_unfilled();
            if out.is_empty() {
                return Poll::Ready(Ok(()));
            }
            // Asked before the ring is: what a peer wrote before it went is still delivered.
            let gone = this.gone;
            match this.pipe.reader.read(out).map_err(broken)? {
                Read::Bytes { count, bell } => {
                    buf.advance(count);
                    this.ring(bell);
                    turn.made_progress();
                    return Poll::Ready(Ok(()));
                }
                Read::End => return Poll::Ready(Ok(())),
                Read::Empty if gone => return Poll::Ready(Ok(())),
                Read::Empty => {}
            }
            match this.pipe.reader.rest().map_err(broken)? {
                Rest::Ready => {}
                Rest::Asleep => ready!(this.poll_bell(cx, Half::Reader))?,
            }
        }
    }
}

impl AsyncWrite for ShmStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let turn = ready!(coop::poll_proceed(cx));
        let count = ready!(self.get_mut().poll_write_all_of(cx, [bytes]))?;
        turn.made_progress();
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        let turn = ready!(coop::poll_proceed(cx));
        let slices = slices.iter().map(|slice| &**slice);
        let count = ready!(self.get_mut().poll_write_all_of(cx, slices))?;
        turn.made_progress();
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let bell = this.pipe.writer.finish();
        this.ring(bell);
        Poll::Ready(Ok(()))
    }
}

fn broken(violation: Violation) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, violation)
}

/// Which half of a stream waits.
#[derive(Debug, Clone, Copy)]
enum Half {
    Reader = 0,
    Writer = 1,
}

/// The tasks that wait for the one socket. The halves of a stream may be in different tasks, and
/// the socket remembers only one waker for what comes in.
#[derive(Debug, Default)]
struct Sleepers([Mutex<Option<Waker>>; 2]);

impl Sleepers {
    fn slot(&self, half: Half) -> &Mutex<Option<Waker>> {
        let Self([reader, writer]) = self;
        match half {
            Half::Reader => reader,
            Half::Writer => writer,
        }
    }

    fn set(&self, half: Half, waker: &Waker) {
        let mut slot = lock(self.slot(half));
        if !slot.as_ref().is_some_and(|old| old.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    /// Wakes the half that is not `half`, unless the same task has it.
    fn wake_other(&self, half: Half, own: &Waker) {
        let other = match half {
            Half::Reader => Half::Writer,
            Half::Writer => Half::Reader,
        };
        let taken = lock(self.slot(other)).take();
        if let Some(waker) = taken.filter(|waker| !waker.will_wake(own)) {
            waker.wake();
        }
    }
}

impl Wake for Sleepers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        for slot in &self.0 {
            let taken = lock(slot).take();
            if let Some(waker) = taken {
                waker.wake();
            }
        }
    }
}

// A panic while the lock is held cannot leave a waker half stored.
fn lock(slot: &Mutex<Option<Waker>>) -> std::sync::MutexGuard<'_, Option<Waker>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}
