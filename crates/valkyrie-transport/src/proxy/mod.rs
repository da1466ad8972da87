//! The PROXY protocol, version 2: a proxy says in front of everything else who is behind it.

mod header;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

pub use header::{ClientAddress, ProxyError};

/// Which proxies a listener believes.
///
/// Nobody else may connect to it: an address that anyone can claim would be worth nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyTrust {
    networks: Vec<IpNet>,
}

impl ProxyTrust {
    /// Proxies of these networks.
    #[must_use]
    pub const fn networks(networks: Vec<IpNet>) -> Self {
        Self { networks }
    }

    /// Proxies of this host.
    #[must_use]
    pub fn loopback() -> Self {
        Self::networks(vec![
            Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into(),
            Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128).into(),
        ])
    }

    fn trusts(&self, address: IpAddr) -> bool {
        // A socket of both families gives IPv4 addresses in their IPv6 form.
        let address = address.to_canonical();
        self.networks
            .iter()
            .any(|network| network.contains(&address))
    }
}

/// Reads who is behind `proxy`; `None` if it speaks for itself. Not a byte more than the header is
/// taken from `stream`.
pub(crate) async fn read(
    stream: &mut TcpStream,
    proxy: SocketAddr,
    trust: &ProxyTrust,
) -> Result<Option<ClientAddress>, ProxyError> {
    if !trust.trusts(proxy.ip()) {
        return Err(ProxyError::Untrusted { peer: proxy });
    }
    let mut head = [0; header::HEAD_BYTES];
    stream.read_exact(&mut head).await.map_err(ended)?;
    let length = header::length(&head)?;
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await.map_err(ended)?;
    header::parse(&head, &rest)
}

fn ended(error: io::Error) -> ProxyError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ProxyError::Ended,
        _ => ProxyError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_networks_are_trusted() {
        let trust = ProxyTrust::networks(vec![
            "10.1.0.0/16".parse().unwrap(),
            "fd00::/8".parse().unwrap(),
        ]);
        for (address, trusted) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("fd12::1", true),
            ("::1", false),
            ("127.0.0.1", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(trust.trusts(address), trusted, "{address}");
        }
        let local = ProxyTrust::loopback();
        assert!(local.trusts("127.9.9.9".parse().unwrap()));
        assert!(local.trusts("::1".parse().unwrap()));
        assert!(!local.trusts("192.0.2.1".parse().unwrap()));
    }
}
