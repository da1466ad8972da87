//! The bytes of the header.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::limits::PROXY_BYTES_MAX;

/// Bytes in front, which say how many follow.
pub(super) const HEAD_BYTES: usize = 16;
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of the addresses of each family.
const IPV4_BYTES: usize = 12;
const IPV6_BYTES: usize = 36;
const UNIX_BYTES: usize = 216;
/// Of which this is the source.
const UNIX_PATH_BYTES: usize = UNIX_BYTES / 2;

/// CRC-32C of the whole header, with this entry's value as zeros.
const TLV_CRC32C: u8 = 0x03;
/// An id that the proxy gives the connection.
const TLV_UNIQUE_ID: u8 = 0x05;
const UNIQUE_ID_BYTES_MAX: usize = 128;

/// Who is behind a proxy, as the proxy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAddress {
    /// A TCP connection from here.
    Tcp(SocketAddr),
    /// A Unix stream socket of the proxy's host, with the path of the client's end, which is
    /// often empty.
    Unix(PathBuf),
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why a proxy's connection was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// It does not come from a proxy that this listener believes.
    #[error("{peer} is not one of the proxies that this listener trusts")]
    Untrusted {
        /// Where it comes from.
        peer: SocketAddr,
    },
    /// Something other than a header came first.
    #[error("no PROXY header of version 2 in front; let the proxy send one (send-proxy-v2)")]
    Signature,
    /// Another version.
    #[error("the PROXY header has version {found}, this listener takes version 2")]
    Version {
        /// The version.
        found: u8,
    },
    /// A command other than LOCAL and PROXY.
    #[error("the PROXY header has the unknown command {found}")]
    Command {
        /// The command.
        found: u8,
    },
    /// Something that is no stream over IPv4, IPv6 or Unix sockets.
    #[error("the PROXY header is about family and protocol {found:#04x}, which is no byte stream")]
    Family {
        /// Family and protocol.
        found: u8,
    },
    /// It is longer than anyone needs.
    #[error("the PROXY header has {found} bytes behind its head, {PROXY_BYTES_MAX} are possible")]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// It is shorter than its addresses.
    #[error("the PROXY header has {found} bytes for addresses that need {needed}")]
    TooShort {
        /// Its length.
        found: usize,
        /// What the family needs.
        needed: usize,
    },
    /// One of its entries goes over its end, or has an impossible length.
    #[error("entry {kind:#04x} of the PROXY header, {left} bytes before its end, is broken")]
    Entry {
        /// Type of the entry; 0 if not even that is whole.
        kind: u8,
        /// Bytes from its beginning to the end of the header.
        left: usize,
    },
    /// It was changed on the way.
    #[error("the checksum of the PROXY header is wrong")]
    Checksum,
    /// The connection ended inside of it.
    #[error("the connection ended before the PROXY header did")]
    Ended,
    /// The connection failed inside of it.
    #[error("the connection failed before the PROXY header ended: {0}")]
    Io(#[source] io::Error),
}

/// How many bytes follow `head`.
pub(super) fn length(head: &[u8; HEAD_BYTES]) -> Result<usize, ProxyError> {
    let [signature @ .., version, _, high, low] = head;
    if *signature != SIGNATURE {
        return Err(ProxyError::Signature);
    }
    if version >> 4 != 2 {
        let found = version >> 4;
        return Err(ProxyError::Version { found });
    }
    match usize::from(u16::from_be_bytes([*high, *low])) {
        found if found > PROXY_BYTES_MAX => Err(ProxyError::TooLong { found }),
        found => Ok(found),
    }
}

/// Reads a header whose length was checked; `None` if the proxy speaks for itself.
pub(super) fn parse(
    head: &[u8; HEAD_BYTES],
    rest: &[u8],
) -> Result<Option<ClientAddress>, ProxyError> {
    let [.., version, family, _, _] = *head;
    let local = match version & 0xf {
        0 => true,
        1 => false,
        found => return Err(ProxyError::Command { found }),
    };
    // Of a connection of the proxy's own, addresses are to be skipped whatever they are.
    let (address, entries) = match family {
        0x00 => (None, rest),
        0x11 => ipv4(rest)?,
        0x21 => ipv6(rest)?,
        0x31 => unix(rest)?,
        _ if local => return Ok(None),
        found => return Err(ProxyError::Family { found }),
    };
    check_entries(head, rest, entries)?;
    Ok(address.filter(|_| !local))
}

type Parsed<'a> = Result<(Option<ClientAddress>, &'a [u8]), ProxyError>;

fn split<const N: usize>(rest: &[u8]) -> Result<(&[u8; N], &[u8]), ProxyError> {
    rest.split_first_chunk().ok_or(ProxyError::TooShort {
        found: rest.len(),
        needed: N,
    })
}

fn ipv4(rest: &[u8]) -> Parsed<'_> {
    let (addresses, entries) = split::<IPV4_BYTES>(rest)?;
    let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
    let ip = IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    Ok((Some(tcp(ip, [high, low])), entries))
}

fn ipv6(rest: &[u8]) -> Parsed<'_> {
    let (addresses, entries) = split::<IPV6_BYTES>(rest)?;
    let (source, other) = split::<16>(addresses)?;
    let (_, ports) = split::<16>(other)?;
    let (port, _) = split::<2>(ports)?;
    let ip = IpAddr::V6(Ipv6Addr::from(*source));
    Ok((Some(tcp(ip, *port)), entries))
}

fn tcp(ip: IpAddr, port: [u8; 2]) -> ClientAddress {
    ClientAddress::Tcp(SocketAddr::new(ip, u16::from_be_bytes(port)))
}

fn unix(rest: &[u8]) -> Parsed<'_> {
    let (addresses, entries) = split::<UNIX_BYTES>(rest)?;
    let (source, _) = split::<UNIX_PATH_BYTES>(addresses)?;
    // Abstract names begin with a zero byte and have no path.
    let path = source.split(|byte| *byte == 0).next().unwrap_or_default();
    let path = PathBuf::from(OsStr::from_bytes(path));
    Ok((Some(ClientAddress::Unix(path)), entries))
}

/// Walks over all entries: each lies inside the header, and a checksum is the right one.
fn check_entries(
    head: &[u8; HEAD_BYTES],
    rest: &[u8],
    mut entries: &[u8],
) -> Result<(), ProxyError> {
    while let Some((kind, after)) = entries.split_first() {
        let broken = ProxyError::Entry {
            kind: *kind,
            left: entries.len(),
        };
        let Some((length, after)) = after.split_first_chunk() else {
            return Err(broken);
        };
        let length = usize::from(u16::from_be_bytes(*length));
        let Some((value, next)) = after.split_at_checked(length) else {
            return Err(broken);
        };
        match (*kind, value.first_chunk()) {
            (TLV_CRC32C, Some(told)) if length == 4 => {
                let behind = next.len();
                if u32::from_be_bytes(*told) != checksum(head, rest, behind) {
                    return Err(ProxyError::Checksum);
                }
            }
            (TLV_CRC32C, _) => return Err(broken),
            (TLV_UNIQUE_ID, _) if length > UNIQUE_ID_BYTES_MAX => return Err(broken),
            _ => {}
        }
        entries = next;
    }
    Ok(())
}

/// The checksum of the header, with zeros for the four bytes that have `behind` bytes after them.
fn checksum(head: &[u8; HEAD_BYTES], rest: &[u8], behind: usize) -> u32 {
    let (rest, after) = rest.split_at(rest.len().saturating_sub(behind));
    let (before, _) = rest.split_at(rest.len().saturating_sub(4));
    let parts = [before, &[0; 4], after];
    parts
        .into_iter()
        .fold(crc32c::crc32c(head), crc32c::crc32c_append)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(version: u8, family: u8, length: usize) -> [u8; HEAD_BYTES] {
        let length = u16::try_from(length).unwrap().to_be_bytes();
        let bytes = [&SIGNATURE[..], &[version, family], &length].concat();
        bytes.try_into().unwrap()
    }

    fn read(version: u8, family: u8, rest: &[u8]) -> Result<Option<ClientAddress>, ProxyError> {
        let head = head(version, family, rest.len());
        assert_eq!(length(&head)?, rest.len());
        parse(&head, rest)
    }

    fn ipv4_rest(entries: &[u8]) -> Vec<u8> {
        let addresses = [192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0x1d, 0x13];
        [&addresses[..], entries].concat()
    }

    fn entry(kind: u8, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap().to_be_bytes();
        [&[kind][..], &length, value].concat()
    }

    #[test]
    fn addresses_of_all_stream_families_are_read() {
        let client = read(0x21, 0x11, &ipv4_rest(&[])).unwrap().unwrap();
        assert_eq!(client.to_string(), "tcp:192.0.2.7:12345");
        let mut six = vec![0; IPV6_BYTES];
        six[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        six[32..34].copy_from_slice(&443u16.to_be_bytes());
        let client = read(0x21, 0x21, &six).unwrap().unwrap();
        assert_eq!(client.to_string(), "tcp:[2001:db8::7]:443");
        let mut unix = vec![0; UNIX_BYTES];
        unix[..6].copy_from_slice(b"/run/c");
        let client = read(0x21, 0x31, &unix).unwrap().unwrap();
        assert_eq!(client.to_string(), "unix:/run/c");
    }

    #[test]
    fn a_proxy_that_speaks_for_itself_is_who_it_seems() {
        assert_eq!(read(0x20, 0x00, &[]).unwrap(), None);
        assert_eq!(read(0x20, 0x11, &ipv4_rest(&[])).unwrap(), None);
        assert_eq!(read(0x20, 0x42, b"anything").unwrap(), None);
        assert_eq!(read(0x21, 0x00, &entry(0x04, b"pad")).unwrap(), None);
    }

    #[test]
    fn entries_are_walked_and_the_checksum_is_checked() {
        let known = [
            entry(0x01, b"h2"),
            entry(0x02, b"example.org"),
            entry(TLV_UNIQUE_ID, &[7; UNIQUE_ID_BYTES_MAX]),
            entry(0xe0, &[]),
        ]
        .concat();
        assert!(read(0x21, 0x11, &ipv4_rest(&known)).is_ok());

        // The checksum in the middle, computed here byte by byte.
        let with = |sum: u32| {
            let entries = [
                entry(0x04, b"a"),
                entry(TLV_CRC32C, &sum.to_be_bytes()),
                entry(0x04, b"b"),
            ];
            ipv4_rest(&entries.concat())
        };
        let zeros = with(0);
        let whole = [&head(0x21, 0x11, zeros.len())[..], &zeros].concat();
        let sum = !whole.iter().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
            })
        });
        assert!(read(0x21, 0x11, &with(sum)).is_ok());
        let error = read(0x21, 0x11, &with(sum ^ 1)).unwrap_err();
        assert!(matches!(error, ProxyError::Checksum), "{error}");
    }

    #[test]
    fn what_is_broken_is_refused_by_name() {
        let bad = |version, family, rest: &[u8]| read(version, family, rest).unwrap_err();
        let text = *b"GET / HTTP/1.1\r\n";
        assert!(matches!(length(&text), Err(ProxyError::Signature)));
        assert!(matches!(
            bad(0x11, 0x11, &[]),
            ProxyError::Version { found: 1 }
        ));
        assert!(matches!(
            bad(0x22, 0x11, &[]),
            ProxyError::Command { found: 2 }
        ));
        for family in [0x12, 0x22, 0x32, 0x10, 0x41, 0xff] {
            let error = bad(0x21, family, &[0; 300]);
            assert!(matches!(error, ProxyError::Family { found } if found == family));
        }
        for (family, needed) in [(0x11, IPV4_BYTES), (0x21, IPV6_BYTES), (0x31, UNIX_BYTES)] {
            let error = bad(0x21, family, &vec![0; needed - 1]);
            let ProxyError::TooShort {
                found,
                needed: told,
            } = error
            else {
                panic!("{error}");
            };
            assert_eq!((found, told), (needed - 1, needed));
        }
        let long = head(0x21, 0x11, PROXY_BYTES_MAX + 1);
        assert!(matches!(length(&long), Err(ProxyError::TooLong { .. })));
        for entries in [
            &[0x04][..],
            &[0x04, 0],
            &[0x04, 0, 2, 1],
            &[0x04, 0xff, 0xff],
            &entry(TLV_CRC32C, &[1, 2, 3]),
            &entry(TLV_CRC32C, &[1, 2, 3, 4, 5]),
            &entry(TLV_UNIQUE_ID, &[7; UNIQUE_ID_BYTES_MAX + 1]),
        ] {
            let error = bad(0x21, 0x11, &ipv4_rest(entries));
            assert!(
                matches!(error, ProxyError::Entry { .. }),
                "{entries:?}: {error}"
            );
        }
    }
}
