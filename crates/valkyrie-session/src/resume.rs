//! The first words on another transport of a session: HELLO with the token, and HELLO_ACK.

use prost::Message;
use sha2::{Digest, Sha256};
use valkyrie_frame::{Frame, FrameLimits, Header, MessageType, StreamId, v2};

use crate::error::Violation;
use crate::handshake::{check_identity, decode, unexpected};
use crate::receive::value;
use crate::rule::Rule;
use crate::session::Session;

/// What somebody who wants to join a session said: HELLO with a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The token of the offer.
    pub token: [u8; 32],
    pub(crate) hello_sha256: [u8; 32],
}

/// The taker's side of the first words on the new transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joining {
    hello: Vec<u8>,
}

impl Session {
    /// The first words of the taker of an offer on its new transport; `random` is new.
    #[must_use]
    pub fn joining(&self, token: &[u8; 32], random: [u8; 32]) -> Joining {
        let hello = v2::Hello {
            random: random.to_vec(),
            resume: token.to_vec(),
            ..self.hello_of_config()
        };
        Joining {
            hello: whole(MessageType::HELLO, &hello),
        }
    }

    /// The answer to somebody whose token [`redeem`](Self::redeem) took: HELLO_ACK, to be written
    /// to the new transport before anything else; `random` is new.
    #[must_use]
    pub fn welcome(&self, resume: &Resume, random: [u8; 32]) -> Vec<u8> {
        let agreement = self.agreement();
        let ack = v2::HelloAck {
            version: agreement.map_or(0, |agreement| agreement.version),
            mode: agreement.map_or(0, |agreement| agreement.mode.0),
            features: agreement.map_or(0, |agreement| agreement.features),
            hello_sha256: resume.hello_sha256.to_vec(),
            random: random.to_vec(),
            ..self.ack_of_config()
        };
        whole(MessageType::HELLO_ACK, &ack)
    }
}

impl Joining {
    /// What to write first.
    #[must_use]
    pub fn hello(&self) -> &[u8] {
        &self.hello
    }

    /// Looks at what the other side answered; `Ok(false)` when it is not whole.
    ///
    /// # Errors
    /// It is not the answer to this HELLO: the transport is of no use.
    pub fn check(&self, mut answer: &[u8]) -> Result<bool, Violation> {
        let Some(frame) = Frame::parse(&mut answer, FrameLimits::PRE_AUTH)? else {
            return Ok(false);
        };
        if frame.header.kind != MessageType::HELLO_ACK {
            let when = "in place of HELLO_ACK on another transport";
            return Err(unexpected(&frame, when, Rule::JOIN));
        }
        let ack: v2::HelloAck = decode(&frame)?;
        check_identity(&frame, &ack.random, &ack.node)?;
        if ack.hello_sha256 != Sha256::digest(&self.hello).as_slice() {
            let what = "the peer saw another HELLO";
            return Err(Violation::Downgrade { what });
        }
        match answer.is_empty() {
            true => Ok(true),
            false => Err(value(&frame, "bytes follow before the mark", Rule::JOIN)),
        }
    }
}

fn whole(kind: MessageType, message: &impl Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    let length = u32::try_from(body.len()).expect("what is made of settings is short");
    let mut bytes = Header::new(kind, StreamId::CONTROL, length)
        .to_bytes()
        .to_vec();
    bytes.extend_from_slice(&body);
    bytes
}
