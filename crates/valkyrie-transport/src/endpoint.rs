//! The textual form of an address: `valkyrie+<transport>://<where>`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::TransportKind;
use crate::limits::{MEM_NAME_BYTES_MAX, UNIX_PATH_BYTES_MAX};

/// Where to connect to or to listen on.
///
/// Parses from, and displays as, `valkyrie+tcp://127.0.0.1:7443`, `valkyrie+unix:///run/ci.sock`,
/// `valkyrie+shm:///run/ci.shm` or `valkyrie+mem://name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// A TCP address.
    Tcp {
        /// Host name or IP address, an IPv6 address without its brackets.
        host: String,
        /// Port; 0 lets the system choose when listening.
        port: u16,
    },
    /// A Unix stream socket.
    Unix {
        /// Absolute path of the socket file.
        path: PathBuf,
    },
    /// Shared memory, handed over a Unix stream socket.
    Shm {
        /// Absolute path of the socket file.
        path: PathBuf,
    },
    /// A name known to this process only.
    Mem {
        /// Any text without `/`.
        name: String,
    },
}

/// Why a text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// No `valkyrie+<transport>://` in front.
    #[error(
        "endpoint {text:?} does not begin with valkyrie+tcp://, valkyrie+unix://, valkyrie+shm:// \
         or valkyrie+mem://"
    )]
    Scheme {
        /// The text given.
        text: String,
    },
    /// The part behind the scheme is not what the transport needs.
    #[error("endpoint {text:?}: {problem}")]
    Address {
        /// The text given.
        text: String,
        /// What is wrong, and what it should look like.
        problem: &'static str,
    },
}

impl Endpoint {
    /// The transport that the endpoint needs.
    #[must_use]
    pub const fn kind(&self) -> TransportKind {
        match self {
            Self::Tcp { .. } => TransportKind::Tcp,
            Self::Unix { .. } => TransportKind::Unix,
            Self::Shm { .. } => TransportKind::Shm,
            Self::Mem { .. } => TransportKind::Mem,
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let parsed = match text.split_once("://") {
            Some(("valkyrie+tcp", rest)) => parse_tcp(rest),
            Some(("valkyrie+unix", rest)) => parse_path(rest).map(|path| Endpoint::Unix { path }),
            Some(("valkyrie+shm", rest)) => parse_path(rest).map(|path| Endpoint::Shm { path }),
            Some(("valkyrie+mem", rest)) => parse_mem(rest),
            _ => {
                return Err(EndpointError::Scheme {
                    text: text.to_owned(),
                });
            }
        };
        parsed.map_err(|problem| EndpointError::Address {
            text: text.to_owned(),
            problem,
        })
    }
}

fn parse_tcp(rest: &str) -> Result<Endpoint, &'static str> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = rest
        .rsplit_once(':')
        .ok_or("the port is missing, write host:port")?;
    let port = port
        .parse()
        .map_err(|_| "the port is not a number from 0 to 65535")?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner
            .strip_suffix(']')
            .ok_or("the bracket of the IPv6 address is open")?,
        None if host.contains(':') => return Err("write an IPv6 address in brackets"),
        None => host,
    };
    if host.is_empty() || host.contains(['/', '@', '?', '#']) {
        return Err("the host is not a name or an address");
    }
    Ok(Endpoint::Tcp {
        host: host.to_owned(),
        port,
    })
}

fn parse_path(rest: &str) -> Result<PathBuf, &'static str> {
    if !rest.starts_with('/') {
        return Err("the path is not absolute, write three slashes before it");
    }
    if rest.len() > UNIX_PATH_BYTES_MAX {
        return Err("the path is longer than the 107 bytes that a socket address holds");
    }
    if rest.contains('\0') {
        return Err("the path holds a NUL byte");
    }
    Ok(PathBuf::from(rest))
}

fn parse_mem(rest: &str) -> Result<Endpoint, &'static str> {
    if rest.is_empty() || rest.contains('/') || rest.len() > MEM_NAME_BYTES_MAX {
        return Err("the name must have 1 to 255 bytes and no slash");
    }
    Ok(Endpoint::Mem {
        name: rest.to_owned(),
    })
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => {
                write!(f, "valkyrie+tcp://[{host}]:{port}")
            }
            Self::Tcp { host, port } => write!(f, "valkyrie+tcp://{host}:{port}"),
            Self::Unix { path } => write!(f, "valkyrie+unix://{}", path.display()),
            Self::Shm { path } => write!(f, "valkyrie+shm://{}", path.display()),
            Self::Mem { name } => write!(f, "valkyrie+mem://{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transport_has_a_text_that_reads_back() {
        for text in [
            "valkyrie+tcp://127.0.0.1:7443",
            "valkyrie+tcp://[::1]:7443",
            "valkyrie+tcp://localhost:0",
            "valkyrie+unix:///run/rustci.sock",
            "valkyrie+shm:///run/rustci.shm",
            "valkyrie+mem://queue",
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text);
        }
    }

    #[test]
    fn what_is_not_an_endpoint_is_refused_with_its_reason() {
        for (text, reason) in [
            ("http://127.0.0.1:1", "does not begin with"),
            ("valkyrie+quic://h:1", "does not begin with"),
            ("127.0.0.1:7443", "does not begin with"),
            ("valkyrie+tcp://localhost", "port is missing"),
            ("valkyrie+tcp://localhost:70000", "0 to 65535"),
            ("valkyrie+tcp://::1:80", "brackets"),
            ("valkyrie+tcp://[::1:80", "bracket"),
            ("valkyrie+tcp://:80", "host"),
            ("valkyrie+tcp://a/b:80", "host"),
            ("valkyrie+unix://relative", "not absolute"),
            ("valkyrie+shm://relative", "not absolute"),
            ("valkyrie+mem://", "1 to 255"),
            ("valkyrie+mem://a/b", "1 to 255"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
        let long = format!("valkyrie+unix:///{}", "x".repeat(200));
        assert!(
            long.parse::<Endpoint>()
                .unwrap_err()
                .to_string()
                .contains("107")
        );
    }
}
