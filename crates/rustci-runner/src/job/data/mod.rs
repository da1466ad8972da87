//! What a job gets before its steps and leaves behind after them: caches and artifacts.
//!
//! The job process knows the files, the runner the way to the server. `restore` asks the runner for
//! trees and puts them in place, `deliver` collects and hashes files and names their pieces to the
//! runner, which uploads them meanwhile.

mod deliver;
mod restore;
mod words;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rustci_pipeline::v1;
use valkyrie_frame::LogChannel;

use super::supervisor::{JOB_STEP, Supervisor};

pub(crate) use deliver::{Delivery, deliver};
pub(crate) use restore::{Restore, restore};

/// How often orders are looked for while a thread works.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A line of the job's own in its log.
fn say(supervisor: &mut Supervisor, text: &str) {
    let text = supervisor.log.mask(text);
    supervisor.log.say(JOB_STEP, LogChannel::SYSTEM, &text);
}

/// The paths of a cache as patterns below the directory of the attempt, where the home directory
/// stands beside the workspace.
fn cache_patterns(paths: &[String]) -> Vec<String> {
    let place = |path: &str| match path.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("home{rest}"),
        // Left as it is, for the reader of patterns to refuse.
        _ if path.starts_with('/') || path.is_empty() => path.to_owned(),
        _ => format!("workspace/{path}"),
    };
    let patterns = paths.iter().map(|path| match path.strip_prefix('!') {
        Some(path) => format!("!{}", place(path)),
        None => place(path),
    });
    patterns.collect()
}

/// Whether something is kept after steps that ended like this.
fn is_wanted(when: v1::When, outcome: v1::Outcome) -> bool {
    let success = outcome == v1::Outcome::Success;
    match when {
        v1::When::Success => success,
        v1::When::Failure => !success,
        v1::When::Always => true,
    }
}

/// Runs `work` on a thread while the runner is listened to, and hands what the thread sends over to
/// `take`. The thread sees in its flag that the job has to end.
fn beside<T: Send, M>(
    supervisor: &mut Supervisor,
    messages: &Receiver<M>,
    stop: &AtomicBool,
    work: impl FnOnce() -> T + Send,
    mut take: impl FnMut(&mut Supervisor, Option<M>),
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(work);
        let mut looked = Ok(());
        loop {
            match messages.recv_timeout(LOOK_INTERVAL) {
                Ok(message) => take(supervisor, Some(message)),
                Err(RecvTimeoutError::Timeout) => {
                    take(supervisor, None);
                    looked = looked.and(supervisor.look());
                    if !supervisor.may_deliver() {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let done = thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        looked.map(|()| done)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_cache_lie_in_the_workspace_or_at_home() {
        let paths = [
            "target",
            "!target/tmp",
            "~/.cargo/registry",
            "!~/x",
            "~",
            "/etc",
            "~user",
        ];
        let paths: Vec<String> = paths.iter().map(|&path| path.to_owned()).collect();
        let expected = [
            "workspace/target",
            "!workspace/target/tmp",
            "home/.cargo/registry",
            "!home/x",
            "home",
            "/etc",
            "workspace/~user",
        ];
        assert_eq!(cache_patterns(&paths), expected);
    }

    #[test]
    fn when_things_are_kept() {
        let all = [v1::When::Success, v1::When::Failure, v1::When::Always];
        let kept = |outcome| all.map(|when| is_wanted(when, outcome));
        assert_eq!(kept(v1::Outcome::Success), [true, false, true]);
        assert_eq!(kept(v1::Outcome::Failure), [false, true, true]);
        assert_eq!(kept(v1::Outcome::TimedOut), [false, true, true]);
    }
}
