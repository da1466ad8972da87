//! A runner: a link to the server, and attempts that outlive it.
//!
//! Start with [`run`]. Inside, `shared` is the state that the link's handler and the workers change;
//! `attempt` decides what the server is told; `native` has the workers; `recovery` is what happens
//! before the first connection.

mod attempt;
pub(crate) mod chunks;
mod config;
mod dummy;
mod error;
mod fetch;
mod link;
mod log_source;
mod native;
mod recovery;
mod report;
mod shared;
mod source;
mod token;
mod transfer;
mod upload;

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::info;

pub use self::config::{JobProgram, RunnerConfig, default_labels, host_environment};
pub use self::error::RunnerError;
use self::recovery::StateDir;
use self::shared::Shared;

/// How long ending everything may take when it has to be quick.
const STOP_WAIT: Duration = Duration::from_secs(20);

/// Whether a runner goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// It does.
    #[default]
    No,
    /// It takes nothing new and ends when everything it has is finished and acknowledged. What the
    /// first SIGTERM means.
    Drain,
    /// It ends its jobs and itself. Results that are not acknowledged stay in the state directory
    /// for the next start. What the second SIGTERM means.
    Now,
}

/// Ends what an earlier runner on this state directory has left running, and frees the room that its
/// lost jobs took. [`run`] does it too; a caller that needs the room before that calls this first.
///
/// # Errors
/// [`RunnerError`], also when another runner uses the directory.
pub fn reclaim(state_dir: &Path) -> Result<(), RunnerError> {
    let (dirs, _held) = StateDir::open(state_dir)?;
    dirs.recover().map(|_| ())
}

/// Runs a runner until `stop` says otherwise; a dropped sender means [`Stop::Drain`].
///
/// First ends what an earlier runner on this state directory has left running, then connects, and
/// reconnects for ever. Needs a `LocalSet`, such as [`valkyrie::block_on`] gives.
///
/// Dropping the future ends nothing in order: job processes notice it and end their jobs.
///
/// # Errors
/// [`RunnerError`], all before the first connection.
pub async fn run(config: RunnerConfig, mut stop: watch::Receiver<Stop>) -> Result<(), RunnerError> {
    let (dirs, held_dir) = StateDir::open(&config.state_dir)?;
    let found = dirs.recover()?;
    let (held, lost) = (found.held.len(), found.lost.len());
    info!(name = config.name, endpoint = %config.endpoint, held, lost, "runner starts");
    let shared = Rc::new(Shared::new(config, dirs, found));
    let connecting = Aborting(tokio::task::spawn_local(link::stay_connected(Rc::clone(
        &shared,
    ))));
    let renewing = Aborting(tokio::task::spawn_local(renew(Rc::clone(&shared))));
    if wait_for(&mut stop, Stop::Drain).await < Stop::Now {
        info!("runner drains");
        shared.drain();
        tokio::select! {
            () = until_idle(&shared) => {}
            _ = wait_for(&mut stop, Stop::Now) => {}
        }
    }
    drop(connecting);
    shared.abandon_all();
    // What takes longer is left to the job processes, which go on ending it.
    let _ = tokio::time::timeout(STOP_WAIT, until_idle(&shared)).await;
    shared.close().await;
    drop((renewing, held_dir));
    info!("runner ends");
    Ok(())
}

/// Waits until at least `wanted` is asked for. After the sender is gone nothing more comes.
async fn wait_for(stop: &mut watch::Receiver<Stop>, wanted: Stop) -> Stop {
    match stop.wait_for(|stop| *stop >= wanted).await {
        Ok(stop) => *stop,
        Err(_) if wanted == Stop::Drain => Stop::Drain,
        Err(_) => std::future::pending().await,
    }
}

async fn until_idle(shared: &Shared) {
    while !shared.is_idle() {
        shared.changed().await;
    }
}

async fn renew(shared: Rc<Shared>) {
    loop {
        // A registration may bring a shorter lease, so it starts the wait anew.
        tokio::select! {
            () = tokio::time::sleep(shared.renewal()) => shared.renew(),
            () = shared.lease_changed() => {}
        }
    }
}

/// A task that ends with its handle.
struct Aborting(tokio::task::JoinHandle<()>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}
