//! The deadlines of a shard's connections, behind one timer of the kernel.
//!
//! The runtime has timers of its own. While one of them is armed, and a connection always has a
//! deadline, every wait for sockets arms and disarms a timer in the kernel: half a microsecond for
//! each. Here the kernel's timer is set when the earliest deadline changes, and waiting costs
//! nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::spawn_local;
use valkyrie_frame::Time;

use crate::clock;

/// Deadlines are rounded up to a multiple of this, so that many connections share a wake-up.
const GRAIN: Duration = Duration::from_millis(1);

thread_local! {
    static TIMERS: RefCell<Option<Timers>> = const { RefCell::new(None) };
}

struct Timers {
    /// Who is woken when, in the order of time; the number tells equal times apart.
    due: BTreeMap<(Time, u64), Waker>,
    numbers: u64,
    kernel: Rc<AsyncFd<OwnedFd>>,
    /// What the kernel's timer is set to, until it was heard.
    set: Option<Time>,
}

/// Lets this thread's connections have deadlines; does nothing where they have them already. Their
/// timer is a local task, so it runs where they do: on one `LocalSet` a thread.
///
/// # Errors
/// The kernel gives no timer, which is a descriptor.
pub(crate) fn start() -> io::Result<()> {
    if TIMERS.with_borrow(Option::is_some) {
        return Ok(());
    }
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let kernel = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    #[expect(
        deprecated,
        reason = "an OwnedFd keeps to one descriptor, and nothing here is unsafe"
    )]
    let kernel = AsyncFd::with_interest(kernel, Interest::READABLE)?;
    let kernel = Rc::new(kernel);
    TIMERS.set(Some(Timers {
        due: BTreeMap::new(),
        numbers: 0,
        kernel: Rc::clone(&kernel),
        set: None,
    }));
    let end = EndOnDrop;
    spawn_local(async move {
        let _end = end;
        while rung(&kernel).await.is_ok() {
            wake_due(clock::now());
        }
    });
    Ok(())
}

/// Waits until the kernel's timer rings.
async fn rung(kernel: &AsyncFd<OwnedFd>) -> io::Result<()> {
    loop {
        let mut count = [0; 8];
        let mut ready = kernel.readable().await?;
        let read = ready.try_io(|kernel| Ok(rustix::io::read(kernel.get_ref(), &mut count)?));
        // Where it was set anew in between, there is nothing to read.
        if let Ok(read) = read {
            return read.map(drop);
        }
    }
}

/// Wakes whose time has come, and sets the kernel's timer for the next.
fn wake_due(now: Time) {
    TIMERS.with_borrow_mut(|timers| timers.as_mut().map(|timers| timers.set.take()));
    while let Some(waker) = TIMERS.with_borrow_mut(|timers| timers.as_mut()?.pop(now)) {
        waker.wake();
    }
}

impl Timers {
    /// Who is due; `None`, and the kernel's timer set for the next, when nobody is any more.
    fn pop(&mut self, now: Time) -> Option<Waker> {
        let first = self.due.first_entry()?;
        let (at, _) = *first.key();
        if at <= now {
            return Some(first.remove());
        }
        self.set_kernel(at, now);
        None
    }

    fn set_kernel(&mut self, at: Time, now: Time) {
        let wait = at.saturating_since(now).max(Duration::from_nanos(1));
        let value = Itimerspec {
            it_interval: Timespec::default(),
            // Deadlines are no further away than the clock can tell.
            it_value: Timespec::try_from(wait).unwrap_or_default(),
        };
        match timerfd_settime(&*self.kernel, TimerfdTimerFlags::empty(), &value) {
            Ok(_) => self.set = Some(at),
            Err(error) => tracing::error!(%error, "the timer of a shard cannot be set"),
        }
    }
}

/// The one deadline of a connection. Dropping it drops the deadline.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    armed: Option<(Time, u64)>,
}

impl Deadline {
    /// Wakes `waker` at `at`, which lies behind `now`, or earlier: one that is armed for an earlier
    /// time stays. It wakes once too often, but most deadlines move with every frame.
    pub(crate) fn arm(&mut self, at: Time, now: Time, waker: &Waker) {
        if self
            .armed
            .is_some_and(|(armed, _)| now < armed && armed <= at)
        {
            return;
        }
        let at = rounded_up(at);
        let old = self.armed;
        self.armed = TIMERS.with_borrow_mut(|timers| {
            let timers = timers.as_mut()?;
            let number = match old {
                Some(key) => {
                    timers.due.remove(&key);
                    key.1
                }
                None => {
                    timers.numbers += 1;
                    timers.numbers
                }
            };
            timers.due.insert((at, number), waker.clone());
            // One that has rung stays, or nobody would hear it; the next is set behind it.
            if timers.set.is_none_or(|set| at < set) {
                timers.set_kernel(at, now);
            }
            Some((at, number))
        });
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let Some(key) = self.armed else { return };
        // At the end of a thread the timers may be gone first, and with them the deadline.
        let waker = TIMERS.try_with(|timers| {
            let mut timers = timers.try_borrow_mut().ok()?;
            timers.as_mut()?.due.remove(&key)
        });
        drop(waker);
    }
}

fn rounded_up(at: Time) -> Time {
    let since = at.saturating_since(Time::ZERO);
    let over = since.subsec_nanos() % GRAIN.subsec_nanos();
    match over {
        0 => at,
        over => at + (GRAIN - Duration::from_nanos(u64::from(over))),
    }
}

/// Ends the deadlines of a thread with the task that serves them.
struct EndOnDrop;

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        let timers = TIMERS.try_with(|timers| timers.borrow_mut().take());
        // Outside of the borrow: wakers may be the last to hold a task with a deadline.
        drop(timers);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;
    use crate::shard::block_on;

    /// Sleeps until the deadline wakes it; gives how late that was.
    async fn sleep(deadline: &mut Deadline, wait: Duration) -> Duration {
        let at = clock::now() + wait;
        poll_fn(|cx| {
            let now = clock::now();
            if at <= now {
                return Poll::Ready(());
            }
            deadline.arm(at, now, cx.waker());
            Poll::Pending
        })
        .await;
        clock::now().saturating_since(at)
    }

    #[test]
    fn deadlines_wake_in_their_order_and_not_early() {
        let order = block_on(async {
            start().unwrap();
            let order = Rc::new(RefCell::new(Vec::new()));
            let sleepers = [30, 10, 20].map(|wait| {
                let order = Rc::clone(&order);
                spawn_local(async move {
                    sleep(&mut Deadline::default(), Duration::from_millis(wait)).await;
                    order.borrow_mut().push(wait);
                })
            });
            for sleeper in sleepers {
                sleeper.await.unwrap();
            }
            order.take()
        });
        assert_eq!(order.unwrap(), [10, 20, 30]);
    }

    #[test]
    fn deadline_is_moved_forward_and_dropped() {
        block_on(async {
            start().unwrap();
            let mut deadline = Deadline::default();
            let now = clock::now();
            deadline.arm(now + Duration::from_secs(60), now, Waker::noop());
            assert!(sleep(&mut deadline, Duration::from_millis(5)).await < Duration::from_secs(50));
            // A later one lets the earlier stay.
            let now = clock::now();
            deadline.arm(now + Duration::from_secs(10), now, Waker::noop());
            let armed = deadline.armed;
            deadline.arm(now + Duration::from_secs(20), now, Waker::noop());
            assert_eq!(deadline.armed, armed);
            let waiting = || TIMERS.with_borrow(|timers| timers.as_ref().unwrap().due.len());
            assert_eq!(waiting(), 1);
            drop(deadline);
            assert_eq!(waiting(), 0);
        })
        .unwrap();
    }

    #[test]
    fn deadline_behind_one_that_rings_leaves_it_heard() {
        let late = block_on(async {
            start().unwrap();
            let mut first = Deadline::default();
            let (began, mut second) = (clock::now(), Deadline::default());
            let at = began + Duration::from_millis(2);
            poll_fn(|cx| {
                let now = clock::now();
                if now < at {
                    first.arm(at, now, cx.waker());
                    std::thread::sleep(Duration::from_millis(5));
                    let now = clock::now();
                    second.arm(now + Duration::from_secs(60), now, Waker::noop());
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
            clock::now().saturating_since(began)
        });
        assert!(late.unwrap() < Duration::from_secs(30));
    }

    #[test]
    fn deadlines_are_rounded_up_to_milliseconds() {
        let at = |nanos| Time::from_nanos(nanos);
        assert_eq!(rounded_up(at(7_000_000)), at(7_000_000));
        assert_eq!(rounded_up(at(7_000_001)), at(8_000_000));
        assert_eq!(rounded_up(at(7_999_999)), at(8_000_000));
    }

    #[test]
    fn shard_after_another_on_a_thread_has_deadlines_of_its_own() {
        for _ in 0..2 {
            block_on(async {
                start().unwrap();
                sleep(&mut Deadline::default(), Duration::from_millis(1)).await;
            })
            .unwrap();
            assert!(TIMERS.with_borrow(Option::is_none));
        }
    }
}
