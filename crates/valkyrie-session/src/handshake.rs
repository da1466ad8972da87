//! HELLO, HELLO_ACK and AUTH_SUCCESS: what both sides agree on.

use valkyrie_frame::limits::NODE_BYTES_MAX;
use valkyrie_frame::{Flags, Frame, Header, MessageType, SecurityMode, StreamId, Time, th0, v2};

use sha2::{Digest, Sha256};

use crate::config::{Agreement, Limits, Role, Side};
use crate::credit::SendCredit;
use crate::error::Violation;
use crate::event::Event;
use crate::receive::value;
use crate::resume::Resume;
use crate::rule::Rule;
use crate::session::{Phase, Session};
use crate::streams::Streams;

/// The first words of a connection.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) random: [u8; 32],
    /// The HELLO frame as sent, until it is answered.
    pub(crate) hello: Vec<u8>,
    /// Frames of the peer so far.
    pub(crate) frames: u32,
    /// When the clock was first read.
    pub(crate) started: Option<Time>,
}

impl Greeting {
    pub(crate) const fn new(random: [u8; 32]) -> Self {
        Self {
            random,
            hello: Vec::new(),
            frames: 0,
            started: None,
        }
    }
}

impl Session {
    pub(crate) fn send_hello(&mut self) {
        let hello = v2::Hello {
            random: self.greeting_random(),
            ..self.hello_of_config()
        };
        let hello = self.send_handshake(MessageType::HELLO, &hello);
        if let Some(greeting) = &mut self.greeting {
            greeting.hello = hello;
        }
    }

    /// HELLO as the settings have it.
    pub(crate) fn hello_of_config(&self) -> v2::Hello {
        v2::Hello {
            version_min: self.config.version_min,
            version_max: self.config.version_max,
            modes: self
                .config
                .allowed_modes
                .iter()
                .map(|mode| mode.0)
                .collect(),
            features: self.config.features,
            limits: Some(self.own.to_wire()),
            role: self.config.role.0,
            node: cut(&self.config.node).to_owned(),
            keepalive_ms: self.keepalive_ms(),
            authority: self.config.authority.clone(),
            ..Default::default()
        }
    }

    /// HELLO_ACK as the settings have it.
    pub(crate) fn ack_of_config(&self) -> v2::HelloAck {
        v2::HelloAck {
            modes: self
                .config
                .allowed_modes
                .iter()
                .map(|mode| mode.0)
                .collect(),
            limits: Some(self.own.to_wire()),
            role: self.config.role.0,
            node: cut(&self.config.node).to_owned(),
            // Sessions cannot be resumed after a loss, and an empty name says so.
            session: Vec::new(),
            ..Default::default()
        }
    }

    /// Sends a structured message of the handshake; returns the frame as sent.
    fn send_handshake(&mut self, kind: MessageType, message: &impl prost::Message) -> Vec<u8> {
        let body = message.encode_to_vec();
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let mut frame = Header::new(kind, StreamId::CONTROL, length)
            .to_bytes()
            .to_vec();
        frame.extend_from_slice(&body);
        self.control(kind, |out| out.extend_from_slice(&body));
        frame
    }

    fn keepalive_ms(&self) -> u32 {
        let interval = self.config.keepalive.unwrap_or_default();
        u32::try_from(interval.as_millis()).unwrap_or(u32::MAX)
    }

    /// The acceptor got HELLO, as the bytes `raw`: choose, answer, and in plaintext let the peer
    /// in at once.
    pub(crate) fn on_hello(
        &mut self,
        frame: &Frame<'_>,
        raw: &[u8],
    ) -> Result<Event<'static>, Violation> {
        if self.side != Side::Acceptor {
            return Err(unexpected(
                frame,
                "from the side that accepted",
                Rule::HANDSHAKE_ORDER,
            ));
        }
        check_header(frame)?;
        let hello: v2::Hello = decode(frame)?;
        check_identity(frame, &hello.random, &hello.node)?;
        if let Some(resume) = resume_of(frame, &hello.resume, raw)? {
            self.phase = Phase::Resuming;
            return Ok(Event::Resume(resume));
        }
        let version = self.choose_version(hello.version_min, hello.version_max)?;
        let mode = self.choose_mode(&hello.modes)?;
        let peer = Limits::from_wire(&hello.limits.unwrap_or_default())?;
        let features = hello.features & self.config.features;
        let ack = v2::HelloAck {
            version,
            mode: mode.0,
            features,
            hello_sha256: Sha256::digest(raw).to_vec(),
            random: self.greeting_random(),
            ..self.ack_of_config()
        };
        let sent = self.send_handshake(MessageType::HELLO_ACK, &ack);
        self.keepalive.set_peer(hello.keepalive_ms);
        let agreement = Agreement {
            version,
            mode,
            features,
            th0: th0(raw, &sent),
            node: hello.node,
            role: Role(hello.role),
            authority: hello.authority,
            limits: peer,
        };
        self.send_handshake(MessageType::AUTH_SUCCESS, &v2::AuthSuccess::default());
        self.way.greet(self.now);
        Ok(self.become_ready(agreement))
    }

    /// The initiator got the answer to its HELLO, as the bytes `raw`.
    pub(crate) fn on_hello_ack(&mut self, frame: &Frame<'_>, raw: &[u8]) -> Result<(), Violation> {
        if self.side != Side::Initiator || self.phase != Phase::Hello {
            return Err(unexpected(frame, "without a HELLO", Rule::HANDSHAKE_ORDER));
        }
        check_header(frame)?;
        let ack: v2::HelloAck = decode(frame)?;
        check_identity(frame, &ack.random, &ack.node)?;
        let mode = SecurityMode(ack.mode);
        if ack.hello_sha256.as_slice() != Sha256::digest(self.sent_hello()).as_slice() {
            return Err(Violation::Downgrade {
                what: "the peer saw another HELLO",
            });
        }
        if !self.config.allowed_modes.contains(&mode) {
            return Err(Violation::Downgrade {
                what: "the mode chosen was not offered",
            });
        }
        if ack.features & !self.config.features != 0 {
            return Err(Violation::Downgrade {
                what: "a feature chosen was not offered",
            });
        }
        let offered = self.config.version_min..=self.config.version_max;
        if !offered.contains(&ack.version) {
            return Err(Violation::Downgrade {
                what: "the version chosen was not offered",
            });
        }
        if !matches!(ack.session.len(), 0 | 16) {
            let problem = "session must have 16 bytes or none";
            return Err(value(frame, problem, Rule::IDENTITY));
        }
        self.agreement = Some(Box::new(Agreement {
            version: ack.version,
            mode,
            features: ack.features,
            th0: th0(self.sent_hello(), raw),
            node: ack.node,
            role: Role(ack.role),
            authority: String::new(),
            limits: Limits::from_wire(&ack.limits.unwrap_or_default())?,
        }));
        self.phase = Phase::Auth;
        Ok(())
    }

    /// The initiator was let in.
    pub(crate) fn on_auth_success(
        &mut self,
        frame: &Frame<'_>,
    ) -> Result<Event<'static>, Violation> {
        let agreement = self.agreement.take().filter(|_| self.phase == Phase::Auth);
        let Some(agreement) = agreement else {
            return Err(unexpected(frame, "before HELLO_ACK", Rule::HANDSHAKE_ONCE));
        };
        // In plaintext nobody is proven to be anybody; the message is only the gate.
        decode::<v2::AuthSuccess>(frame)?;
        Ok(self.become_ready(*agreement))
    }

    /// Bytes that nobody can guess.
    fn greeting_random(&self) -> Vec<u8> {
        let greeting = self.greeting.as_ref();
        greeting.map_or_else(Vec::new, |greeting| greeting.random.to_vec())
    }

    /// The HELLO frame as this side sent it.
    fn sent_hello(&self) -> &[u8] {
        let greeting = self.greeting.as_ref();
        greeting.map_or(&[], |greeting| &greeting.hello)
    }

    fn become_ready(&mut self, agreement: Agreement) -> Event<'static> {
        self.greeting = None;
        self.peer = agreement.limits;
        self.send = SendCredit::new(u64::from(self.peer.connection_window()));
        self.streams = Streams::new(self.side.parity(), &self.own, &self.peer);
        self.phase = Phase::Ready;
        self.agreement = Some(Box::new(agreement.clone()));
        Event::Ready(Box::new(agreement))
    }

    /// The highest version that both sides speak.
    fn choose_version(&self, peer_min: u32, peer_max: u32) -> Result<u32, Violation> {
        let (min, max) = (self.config.version_min, self.config.version_max);
        let version = max.min(peer_max);
        if version < min.max(peer_min) {
            return Err(Violation::Version {
                peer_min,
                peer_max,
                min,
                max,
            });
        }
        Ok(version)
    }

    /// The first of the peer's modes that this side allows.
    fn choose_mode(&self, offered: &[u32]) -> Result<SecurityMode, Violation> {
        let allowed = &self.config.allowed_modes;
        let chosen = offered
            .iter()
            .map(|mode| SecurityMode(*mode))
            .find(|m| allowed.contains(m));
        chosen.ok_or_else(|| Violation::Mode {
            allowed: allowed.clone(),
        })
    }
}

/// A structured body.
pub(crate) fn decode<M: prost::Message + Default>(frame: &Frame<'_>) -> Result<M, Violation> {
    M::decode(frame.body).map_err(|error| Violation::Message {
        kind: frame.header.kind,
        error: error.to_string(),
    })
}

pub(crate) const fn unexpected(frame: &Frame<'_>, when: &'static str, rule: Rule) -> Violation {
    Violation::Unexpected {
        kind: frame.header.kind,
        when,
        rule,
    }
}

/// HELLO and HELLO_ACK are frozen: their headers say nothing but type and length.
fn check_header(frame: &Frame<'_>) -> Result<(), Violation> {
    if frame.header.flags == Flags::NONE && frame.header.correlation.is_none() {
        return Ok(());
    }
    let when = "with flags or a correlation";
    Err(unexpected(frame, when, Rule::HANDSHAKE_ORDER))
}

/// What a HELLO with a token wants; a session of its own has none. A name of 16 bytes asks for a
/// session that was lost; none is kept, so a new one begins.
fn resume_of(frame: &Frame<'_>, resume: &[u8], raw: &[u8]) -> Result<Option<Resume>, Violation> {
    match resume.len() {
        0 | 16 => Ok(None),
        32 => {
            let mut token = [0; 32];
            token.copy_from_slice(resume);
            let hello_sha256 = Sha256::digest(raw).into();
            Ok(Some(Resume {
                token,
                hello_sha256,
            }))
        }
        _ => Err(value(
            frame,
            "resume must have 32 or 16 bytes, or none",
            Rule::IDENTITY,
        )),
    }
}

pub(crate) fn check_identity(
    frame: &Frame<'_>,
    random: &[u8],
    node: &str,
) -> Result<(), Violation> {
    let kind = frame.header.kind;
    if random.len() != 32 {
        return Err(Violation::Value {
            kind,
            problem: "random must have 32 bytes",
            rule: Rule::IDENTITY,
        });
    }
    if node.len() > NODE_BYTES_MAX {
        return Err(Violation::Value {
            kind,
            problem: "node is longer than 255 bytes",
            rule: Rule::IDENTITY,
        });
    }
    Ok(())
}

fn cut(node: &str) -> &str {
    node.get(..node.floor_char_boundary(NODE_BYTES_MAX))
        .unwrap_or_default()
}
