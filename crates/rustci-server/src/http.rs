//! The thread that serves HTTP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread::JoinHandle;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::limits::{HTTP_BLOCKING_THREADS, SHUTDOWN_DRAIN, THREAD_STACK_BYTES};

/// HTTP cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve HTTP on {address}: {source}; choose another address with --http")]
pub struct HttpError {
    /// The address asked for.
    address: SocketAddr,
    /// What the system said.
    source: io::Error,
}

/// A thread with its own runtime that serves a router. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct HttpServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// An address that is taken and not served yet.
#[derive(Debug)]
pub(crate) struct BoundHttp {
    listener: std::net::TcpListener,
    address: SocketAddr,
}

impl BoundHttp {
    /// Takes `address`; port 0 takes a free one.
    pub(crate) fn bind(address: SocketAddr) -> Result<Self, HttpError> {
        let failed = |source| HttpError { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// How it is reached from this machine.
    pub(crate) fn url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        format!("http://{address}")
    }

    /// Serves `router` there.
    pub(crate) fn serve(self, router: Router) -> Result<HttpServer, HttpError> {
        let Self { listener, address } = self;
        let failed = |source| HttpError { address, source };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(HTTP_BLOCKING_THREADS)
            .thread_stack_size(THREAD_STACK_BYTES)
            .build()
            .map_err(failed)?;
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name("http".to_owned())
            .spawn(move || runtime.block_on(serve(listener, router, stopped)))
            .map_err(failed)?;
        Ok(HttpServer {
            address,
            stop,
            thread: Some(thread),
        })
    }
}

impl HttpServer {
    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn serve(listener: std::net::TcpListener, router: Router, stopped: watch::Receiver<bool>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "HTTP is not served"),
    };
    let mut until = stopped.clone();
    let graceful = async move {
        // An error means that the owner is gone, which is the same.
        let _ = until.wait_for(|stop| *stop).await;
    };
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(graceful);
    let mut cut_off = stopped;
    tokio::select! {
        result = serving => {
            if let Err(error) = result {
                tracing::error!(%error, "HTTP is no longer served");
            }
        }
        // Event streams have no end of their own.
        () = async {
            let _ = cut_off.wait_for(|stop| *stop).await;
            tokio::time::sleep(SHUTDOWN_DRAIN / 4).await;
        } => {}
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by its hook; there is nobody to pass it to here.
            let _ = thread.join();
        }
    }
}
