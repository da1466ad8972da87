//! Lets the tasks of a shard that wake each other go on before the kernel is asked for more.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Polls in a row before the runtime has its turn, which looks at sockets and timers.
const POLLS_MAX: u32 = 4;

/// Tells a wake-up from inside a poll, after which the future is polled again at once, from one
/// that has to reach the runtime.
#[derive(Debug)]
struct Turns {
    polling: AtomicBool,
    woken: AtomicBool,
    runtime: Waker,
}

impl Wake for Turns {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        if !self.polling.load(Ordering::SeqCst) {
            self.runtime.wake_by_ref();
        }
    }
}

/// Runs `future`, and again at once when it was woken meanwhile.
///
/// The runtime asks the kernel (`epoll_wait`) between any two polls of a future. Where an answer
/// that was read wakes who waited for it, that is a system call for each call.
pub(crate) async fn again_while_woken<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut turns = None;
    poll_fn(|cx| {
        let turns = turns.get_or_insert_with(|| {
            Arc::new(Turns {
                polling: AtomicBool::new(false),
                woken: AtomicBool::new(false),
                runtime: cx.waker().clone(),
            })
        });
        // The shard's future is never moved to another task, so its waker stays the same.
        debug_assert!(turns.runtime.will_wake(cx.waker()));
        let waker = Waker::from(Arc::clone(turns));
        for _ in 0..POLLS_MAX {
            turns.polling.store(true, Ordering::SeqCst);
            turns.woken.store(false, Ordering::SeqCst);
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            turns.polling.store(false, Ordering::SeqCst);
            // A wake-up before this line left its mark; one behind it reaches the runtime.
            if polled.is_ready() || !turns.woken.load(Ordering::SeqCst) {
                return polled;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn wake_up_from_inside_polls_again_without_the_runtime() {
        let runtime = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&runtime));
        let mut polls = 0;
        let future = again_while_woken(poll_fn(|cx| {
            polls += 1;
            if polls < 3 {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        }));
        let pending = pin!(future).poll(&mut Context::from_waker(&waker));
        assert!(pending.is_pending());
        assert_eq!((polls, runtime.0.load(Ordering::SeqCst)), (3, 0));
    }

    #[test]
    fn future_that_wakes_itself_for_ever_gives_way_to_the_runtime() {
        let runtime = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&runtime));
        let future = again_while_woken(poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        let pending = pin!(future).poll(&mut Context::from_waker(&waker));
        assert!(pending.is_pending());
        assert_eq!(runtime.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn wake_up_from_outside_reaches_the_runtime() {
        let runtime = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&runtime));
        let mut inner = None;
        let mut future = Box::pin(again_while_woken(poll_fn(|cx| {
            inner = Some(cx.waker().clone());
            Poll::<()>::Pending
        })));
        let pending = future.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(pending.is_pending());
        drop(future);
        inner.unwrap().wake();
        assert_eq!(runtime.0.load(Ordering::SeqCst), 1);
    }
}
