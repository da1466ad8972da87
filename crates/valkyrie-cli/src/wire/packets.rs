//! Reads captures: TCP segments with their times.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};
use pcap_parser::traits::{PcapNGPacketBlock, PcapReaderIterator};
use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};

use crate::wire::pcapng::PROGRAM;

/// Longest block of a capture; a packet is at most 256 KiB in what other programs write.
const BLOCK_BYTES_MAX: usize = 1024 * 1024;
/// Most interfaces of one section.
const INTERFACES_MAX: usize = 4096;

/// One TCP segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment<'a> {
    /// When it was captured, Unix nanoseconds.
    pub(crate) unix_ns: u64,
    pub(crate) source: SocketAddr,
    pub(crate) target: SocketAddr,
    pub(crate) sequence: u32,
    pub(crate) marks: Marks,
    pub(crate) payload: &'a [u8],
}

/// Which of the flags that matter here are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marks {
    /// The initiator's first segment.
    Syn,
    /// The acceptor's first segment.
    SynAck,
    /// Neither first nor last.
    None,
    /// The sender's last segment.
    End,
}

/// Who wrote a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `valkyrie capture`: all of it is Valkyrie.
    Ours,
    /// Another program: it may hold anything.
    Other,
}

/// Why a capture cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CaptureError {
    /// The file has another format, or damage.
    #[error("the capture is damaged after {after} bytes")]
    Damaged {
        /// Bytes before it.
        after: usize,
    },
    /// The file ends inside a block.
    #[error("the capture ends in the middle of a block, after {after} bytes")]
    Torn {
        /// Bytes of whole blocks.
        after: usize,
    },
    /// The input cannot be read.
    #[error("the capture cannot be read on after {after} bytes")]
    Read {
        /// Bytes of whole blocks.
        after: usize,
    },
}

/// Why reading ended early.
#[derive(Debug)]
pub(crate) enum Stop<E> {
    /// The capture.
    Capture(CaptureError),
    /// Whoever takes the segments.
    Taker(E),
}

/// What is known of the packets of one interface.
#[derive(Debug, Clone, Copy)]
struct Interface {
    link: i32,
    /// Units of a second.
    resolution: u64,
    offset_s: i64,
}

/// Gives every TCP segment of a pcap or pcapng file to `each`; other packets are passed over.
///
/// # Errors
/// [`Stop`]; what came before was given.
pub(crate) fn read<E>(
    input: impl Read + Send,
    mut each: impl FnMut(Origin, Segment<'_>) -> Result<(), E>,
) -> Result<(), Stop<E>> {
    let damaged = |after| Stop::Capture(CaptureError::Damaged { after });
    let mut reader = create_reader(BLOCK_BYTES_MAX, input).map_err(|_| damaged(0))?;
    let mut origin = Origin::Other;
    let mut interfaces: Vec<Interface> = Vec::new();
    loop {
        let after = reader.consumed();
        let taken = match reader.next() {
            Ok((length, block)) => {
                if interfaces.len() == INTERFACES_MAX {
                    return Err(damaged(after));
                }
                on_block(block, &mut origin, &mut interfaces, &mut each).map_err(Stop::Taker)?;
                Some(length)
            }
            Err(PcapError::Eof) => return Ok(()),
            Err(PcapError::Incomplete(_)) => None,
            Err(PcapError::UnexpectedEof) => {
                return Err(Stop::Capture(CaptureError::Torn { after }));
            }
            Err(PcapError::ReadError) => return Err(Stop::Capture(CaptureError::Read { after })),
            Err(_) => return Err(damaged(after)),
        };
        match taken {
            Some(length) => reader.consume(length),
            None => refill(&mut *reader, after).map_err(Stop::Capture)?,
        }
    }
}

/// Reads on when a block is not whole.
fn refill(reader: &mut dyn PcapReaderIterator, after: usize) -> Result<(), CaptureError> {
    if reader.reader_exhausted() {
        return Err(CaptureError::Torn { after });
    }
    match reader.refill() {
        Ok(()) => Ok(()),
        Err(PcapError::ReadError) => Err(CaptureError::Read { after }),
        Err(_) => Err(CaptureError::Damaged { after }),
    }
}

fn on_block<E>(
    block: PcapBlockOwned<'_>,
    origin: &mut Origin,
    interfaces: &mut Vec<Interface>,
    each: &mut impl FnMut(Origin, Segment<'_>) -> Result<(), E>,
) -> Result<(), E> {
    match block {
        PcapBlockOwned::LegacyHeader(header) => {
            let nanoseconds = header.is_nanosecond_precision();
            interfaces.push(Interface {
                link: header.network.0,
                resolution: if nanoseconds {
                    1_000_000_000
                } else {
                    1_000_000
                },
                offset_s: 0,
            });
        }
        PcapBlockOwned::Legacy(packet) => {
            if let Some(interface) = interfaces.first() {
                let ticks = u64::from(packet.ts_sec) * interface.resolution;
                let unix_ns = interface.unix_ns(ticks + u64::from(packet.ts_usec));
                give(*origin, interface.link, unix_ns, packet.data, each)?;
            }
        }
        PcapBlockOwned::NG(Block::SectionHeader(section)) => {
            interfaces.clear();
            let ours = section
                .shb_userappl()
                .and_then(Result::ok)
                .is_some_and(|program| program.starts_with(PROGRAM));
            *origin = if ours { Origin::Ours } else { Origin::Other };
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
            interfaces.push(Interface {
                link: interface.linktype.0,
                resolution: interface.ts_resolution().unwrap_or(1_000_000),
                offset_s: interface.ts_offset(),
            });
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
            let number = usize::try_from(packet.if_id).unwrap_or(usize::MAX);
            if let Some(interface) = interfaces.get(number) {
                let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let unix_ns = interface.unix_ns(ticks);
                give(*origin, interface.link, unix_ns, packet.packet_data(), each)?;
            }
        }
        // The other blocks hold no packet, or one without a time, which nobody captures today.
        PcapBlockOwned::NG(_) => {}
    }
    Ok(())
}

impl Interface {
    fn unix_ns(self, ticks: u64) -> u64 {
        let resolution = u128::from(self.resolution.max(1));
        let ns = u128::from(ticks) * 1_000_000_000 / resolution;
        let ns = u64::try_from(ns).unwrap_or(u64::MAX);
        let offset = self.offset_s.saturating_mul(1_000_000_000);
        ns.saturating_add_signed(offset)
    }
}

/// Gives the TCP segment of a packet, if it has one.
fn give<E>(
    origin: Origin,
    link: i32,
    unix_ns: u64,
    packet: &[u8],
    each: &mut impl FnMut(Origin, Segment<'_>) -> Result<(), E>,
) -> Result<(), E> {
    match segment(link, unix_ns, packet) {
        Some(segment) => each(origin, segment),
        None => Ok(()),
    }
}

/// Takes a packet apart; a packet that the capture cut gives as much as is there.
fn segment(link: i32, unix_ns: u64, packet: &[u8]) -> Option<Segment<'_>> {
    let behind = |bytes: usize| packet.get(bytes..).unwrap_or_default();
    // The numbers are those of https://www.tcpdump.org/linktypes.html.
    let sliced = match link {
        1 => LaxSlicedPacket::from_ethernet(packet).ok()?,
        0 | 108 => LaxSlicedPacket::from_ip(behind(4)).ok()?,
        12 | 14 | 101 | 228 | 229 => LaxSlicedPacket::from_ip(packet).ok()?,
        113 => LaxSlicedPacket::from_ip(behind(16)).ok()?,
        276 => LaxSlicedPacket::from_ip(behind(20)).ok()?,
        _ => return None,
    };
    let (source, target): (IpAddr, IpAddr) = match sliced.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
            )
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
            )
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let Some(TransportSlice::Tcp(tcp)) = sliced.transport else {
        return None;
    };
    let marks = match (tcp.syn(), tcp.ack(), tcp.fin() || tcp.rst()) {
        (true, false, _) => Marks::Syn,
        (true, true, _) => Marks::SynAck,
        (false, _, true) => Marks::End,
        (false, _, false) => Marks::None,
    };
    Some(Segment {
        unix_ns,
        source: SocketAddr::new(source, tcp.source_port()),
        target: SocketAddr::new(target, tcp.destination_port()),
        sequence: tcp.sequence_number(),
        marks,
        payload: tcp.payload(),
    })
}
