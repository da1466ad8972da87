//! The socket by which other programs reach a `rustci run`.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use axum::Router;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// Name of the socket in the data directory.
const SOCKET: &str = "control.sock";

/// The socket of a data directory, under a path that is short enough for its address: those of
/// projects are often longer than the 107 bytes that fit.
#[derive(Debug)]
pub(crate) struct Control {
    dir: File,
}

impl Control {
    /// Of the data in `dir`. Nothing is connected or made yet.
    ///
    /// # Errors
    /// When there is no such directory.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let dir = File::open(dir)?;
        Ok(Self { dir })
    }

    /// The path, as long as this lives.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", self.dir.as_raw_fd()))
    }
}

/// Whether a process served the socket of `dir` and was killed: who ends in order removes it.
pub(crate) async fn is_left_behind(dir: &Path) -> bool {
    if !dir.join(SOCKET).exists() {
        return false;
    }
    match Control::open(dir) {
        Ok(control) => UnixStream::connect(control.path()).await.is_err(),
        Err(_) => false,
    }
}

/// The API of a run that goes on here, for other programs of the same user.
#[derive(Debug)]
pub(crate) struct ControlServer {
    task: JoinHandle<()>,
    socket: PathBuf,
}

impl ControlServer {
    /// Serves `router` on the socket of `dir`, which belongs to this process.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub(crate) fn start(dir: &Path, router: Router) -> io::Result<Self> {
        let socket = dir.join(SOCKET);
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(Control::open(dir)?.path())?;
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(%error, "this run cannot be reached by other programs any more");
            }
        });
        Ok(Self { task, socket })
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.task.abort();
        // Nobody connects to what is left over, so a file that stays does no harm.
        let _ = fs::remove_file(&self.socket);
    }
}
