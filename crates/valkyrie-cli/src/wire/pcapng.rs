//! Writes captures that Wireshark reads: pcapng with the bytes in made-up TCP packets.
//!
//! The transports differ and some have no packets at all, so every connection is written as a TCP
//! connection: SYN, the bytes of both directions, FIN. Dissectors of TCP put them together again,
//! and the Valkyrie dissector sees what it would see on the wire.

use std::io::{self, Write};
use std::net::SocketAddrV4;

use etherparse::PacketBuilder;

use crate::explain::Sender;

/// Name of this program in the section header, by which `decode` knows its own captures.
pub(crate) const PROGRAM: &str = "valkyrie";
/// LINKTYPE_RAW: packets begin with their IP header.
const LINK_RAW: u16 = 101;
/// Bytes of one packet; what was read at once becomes several where it is longer.
const PAYLOAD_BYTES_MAX: usize = 32 * 1024;
/// Times are in units of 10^-9 s.
const NANOSECONDS: u8 = 9;

/// A capture that is being written.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    out: W,
    written: u64,
    packet: Vec<u8>,
}

/// A made-up TCP connection.
#[derive(Debug)]
pub(crate) struct Connection {
    initiator: SocketAddrV4,
    acceptor: SocketAddrV4,
    /// Next sequence numbers of initiator and acceptor.
    next: [u32; 2],
}

/// What a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Syn,
    SynAck,
    Ack,
    Data,
    Fin,
}

impl<W: Write> Writer<W> {
    /// Begins a capture; `comment` says where its bytes come from.
    ///
    /// # Errors
    /// Those of `out`.
    pub(crate) fn new(out: W, comment: &str) -> io::Result<Self> {
        let mut writer = Self {
            out,
            written: 0,
            packet: Vec::new(),
        };
        writer.section(comment)?;
        writer.interface(comment)?;
        writer.out.flush()?;
        Ok(writer)
    }

    /// Bytes written so far.
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    /// Hands everything to the system.
    ///
    /// # Errors
    /// Those of the output.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Writes the three packets that open a connection.
    ///
    /// # Errors
    /// Those of the output.
    pub(crate) fn open(
        &mut self,
        unix_ns: u64,
        initiator: SocketAddrV4,
        acceptor: SocketAddrV4,
    ) -> io::Result<Connection> {
        let mut connection = Connection {
            initiator,
            acceptor,
            next: [0, 0],
        };
        self.send(unix_ns, &mut connection, Sender::Initiator, Mark::Syn, &[])?;
        self.send(
            unix_ns,
            &mut connection,
            Sender::Acceptor,
            Mark::SynAck,
            &[],
        )?;
        self.send(unix_ns, &mut connection, Sender::Initiator, Mark::Ack, &[])?;
        Ok(connection)
    }

    /// Writes bytes that `from` sent.
    ///
    /// # Errors
    /// Those of the output.
    pub(crate) fn data(
        &mut self,
        unix_ns: u64,
        connection: &mut Connection,
        from: Sender,
        bytes: &[u8],
    ) -> io::Result<()> {
        bytes
            .chunks(PAYLOAD_BYTES_MAX)
            .try_for_each(|piece| self.send(unix_ns, connection, from, Mark::Data, piece))
    }

    /// Writes that `from` sends nothing more.
    ///
    /// # Errors
    /// Those of the output.
    pub(crate) fn end(
        &mut self,
        unix_ns: u64,
        connection: &mut Connection,
        from: Sender,
    ) -> io::Result<()> {
        self.send(unix_ns, connection, from, Mark::Fin, &[])
    }

    fn send(
        &mut self,
        unix_ns: u64,
        connection: &mut Connection,
        from: Sender,
        mark: Mark,
        payload: &[u8],
    ) -> io::Result<()> {
        let Connection {
            initiator,
            acceptor,
            next: [of_initiator, of_acceptor],
        } = connection;
        let (source, target, sequence, acknowledged) = match from {
            Sender::Initiator => (*initiator, *acceptor, of_initiator, *of_acceptor),
            Sender::Acceptor => (*acceptor, *initiator, of_acceptor, *of_initiator),
        };
        let tcp = PacketBuilder::ipv4(source.ip().octets(), target.ip().octets(), 64).tcp(
            source.port(),
            target.port(),
            *sequence,
            u16::MAX,
        );
        let tcp = match mark {
            Mark::Syn => tcp.syn(),
            Mark::SynAck => tcp.syn().ack(acknowledged),
            Mark::Ack => tcp.ack(acknowledged),
            Mark::Data => tcp.psh().ack(acknowledged),
            Mark::Fin => tcp.fin().ack(acknowledged),
        };
        let takes = match mark {
            Mark::Syn | Mark::SynAck | Mark::Fin => 1,
            Mark::Ack => 0,
            Mark::Data => u32::try_from(payload.len()).map_err(io::Error::other)?,
        };
        *sequence = sequence.wrapping_add(takes);
        let mut packet = std::mem::take(&mut self.packet);
        packet.clear();
        tcp.write(&mut packet, payload).map_err(io::Error::other)?;
        let result = self.packet(unix_ns, &packet);
        self.packet = packet;
        result
    }

    /// Section Header Block.
    fn section(&mut self, comment: &str) -> io::Result<()> {
        let mut body = Vec::new();
        body.extend_from_slice(&0x1A2B_3C4D_u32.to_le_bytes());
        body.extend_from_slice(&1_u16.to_le_bytes());
        body.extend_from_slice(&0_u16.to_le_bytes());
        // The length of the section is not known yet.
        body.extend_from_slice(&u64::MAX.to_le_bytes());
        option(&mut body, 1, comment.as_bytes());
        let program = format!("{PROGRAM} {}", env!("CARGO_PKG_VERSION"));
        option(&mut body, 4, program.as_bytes());
        option(&mut body, 0, &[]);
        self.block(0x0A0D_0D0A, &body)
    }

    /// Interface Description Block.
    fn interface(&mut self, name: &str) -> io::Result<()> {
        let mut body = Vec::new();
        body.extend_from_slice(&LINK_RAW.to_le_bytes());
        body.extend_from_slice(&0_u16.to_le_bytes());
        // Packets are never cut.
        body.extend_from_slice(&0_u32.to_le_bytes());
        option(&mut body, 2, name.as_bytes());
        option(&mut body, 9, &[NANOSECONDS]);
        option(&mut body, 0, &[]);
        self.block(1, &body)
    }

    /// Enhanced Packet Block.
    fn packet(&mut self, unix_ns: u64, packet: &[u8]) -> io::Result<()> {
        let length = u32::try_from(packet.len()).map_err(io::Error::other)?;
        let [high, low] = [unix_ns >> 32, unix_ns & 0xFFFF_FFFF];
        let mut body = Vec::with_capacity(packet.len() + 24);
        for number in [0, high, low, length.into(), length.into()] {
            let number = u32::try_from(number).map_err(io::Error::other)?;
            body.extend_from_slice(&number.to_le_bytes());
        }
        body.extend_from_slice(packet);
        self.block(6, &body)
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let padding = padding(body.len());
        let length = 12 + body.len() + padding.len();
        let field = u32::try_from(length)
            .map_err(io::Error::other)?
            .to_le_bytes();
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&field)?;
        self.out.write_all(body)?;
        self.out.write_all(padding)?;
        self.out.write_all(&field)?;
        self.written += length as u64;
        Ok(())
    }
}

/// Options and blocks end at a multiple of four bytes.
fn padding(length: usize) -> &'static [u8] {
    match length % 4 {
        1 => &[0; 3],
        2 => &[0; 2],
        3 => &[0; 1],
        _ => &[],
    }
}

/// One option; a longer value than a u16 counts is cut.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    body.extend_from_slice(&code.to_le_bytes());
    body.extend_from_slice(&length.to_le_bytes());
    body.extend_from_slice(value);
    body.extend_from_slice(padding(value.len()));
}
