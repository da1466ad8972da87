//! Logs and files of an application: offsets, resumption, durability.

use valkyrie_frame::{Correlation, FileStart, LogChannel, LogRecord, MessageType, StreamId};
use valkyrie_session::{End, SendError};

use super::{
    peer::{Accepted, Half, Local, Peer, Role, Scene, Stage, What},
    truth::{Step, broken, byte_at, fill, holds},
};

impl Peer {
    /// Sends some records, all or none.
    pub(crate) fn send_log(&mut self, stream: StreamId, scene: &mut Scene<'_>) -> Step {
        let Some(local) = self.streams.get_mut(&stream) else {
            return Ok(());
        };
        if local.role == Role::Acceptor {
            return Ok(());
        }
        let (key, What::Log { position, .. }) = (local.key, &mut local.what) else {
            return Ok(());
        };
        let records = records(key, scene);
        let credit = self.session.log_credit(stream);
        let fits = local.accepted == Accepted::Yes && *position + records.len() as u64 <= credit;
        match self.session.log(stream, *position, &records) {
            Ok(()) => {
                *position += records.len() as u64;
                local.outgoing(scene.truth)?.send(&records);
                Ok(())
            }
            Err(SendError::NoCredit { .. }) => holds("credit", !fits, || {
                format!("{stream} has credit up to {credit}, and yet it has none")
            }),
            Err(error) => broken("api", error.to_string()),
        }
    }

    pub(crate) fn on_log(
        &mut self,
        stream: StreamId,
        offset: u64,
        records: &[u8],
        scene: &mut Scene<'_>,
    ) -> Step {
        let Some(local) = self.streams.get_mut(&stream) else {
            return broken("once", format!("a log on {stream}, which is not open"));
        };
        local.incoming(scene.truth)?.deliver(records)?;
        if let What::Log { position, .. } = &mut local.what {
            let expected = *position;
            holds("once", offset == expected, || {
                format!("records at {offset}, {expected} is next")
            })?;
            *position += records.len() as u64;
        }
        local.unread += records.len();
        self.check_stream(stream)
    }

    /// Makes `count` bytes more of a log durable.
    pub(crate) fn make_durable(&mut self, stream: StreamId, count: u64) {
        if let Some(What::Log { durable, .. }) =
            self.streams.get_mut(&stream).map(|local| &mut local.what)
            && count > 0
        {
            *durable += count;
            self.session.log_durable(stream, *durable);
        }
    }

    pub(crate) fn on_durable(&mut self, stream: StreamId, offset: u64) -> Step {
        let local = self.streams.get_mut(&stream).map(|local| &mut local.what);
        let Some(What::Log { position, durable }) = local else {
            // Plain data on a stream for logs is acknowledged in the same way.
            return Ok(());
        };
        let range = *durable..=*position;
        holds("once", range.contains(&offset), || {
            format!("durable up to {offset}, which is not in {range:?}")
        })?;
        *durable = offset;
        Ok(())
    }

    /// Goes on with a file.
    pub(crate) fn send_file(&mut self, stream: StreamId, scene: &mut Scene<'_>) -> Step {
        let Some(local) = self.streams.get_mut(&stream) else {
            return Ok(());
        };
        let (
            key,
            What::File {
                size,
                position,
                stage,
            },
        ) = (local.key, &mut local.what)
        else {
            return Ok(());
        };
        if local.role == Role::Acceptor || local.accepted == Accepted::No {
            return Ok(());
        }
        match stage {
            Stage::New => {
                let start = FileStart {
                    id: [1; 16],
                    size: *size,
                    digest: [2; 32],
                    name: "file",
                };
                *stage = Stage::Offered;
                expect(self.session.file_start(stream, &start))
            }
            Stage::Moving if position < size => {
                let count = (*size - *position).min(1 + scene.rng.below(60_000));
                let mut bytes = Vec::new();
                let count = usize::try_from(count).unwrap_or(0);
                fill(&mut bytes, key, *position, count);
                let sent = self.session.file_chunk(stream, *position, &bytes);
                expect(sent.map(|sent| *position += sent as u64))
            }
            Stage::Moving => {
                *stage = Stage::Whole;
                expect(self.session.file_complete(stream, [2; 32], End::Yes))?;
                local.outgoing(scene.truth)?.unacked += 1;
                self.ended_here(stream, scene)
            }
            Stage::Offered | Stage::Whole | Stage::Done => Ok(()),
        }
    }

    pub(crate) fn on_file_start(
        &mut self,
        stream: StreamId,
        length: u64,
        scene: &mut Scene<'_>,
    ) -> Step {
        let Some(Local {
            what:
                What::File {
                    size,
                    position,
                    stage,
                },
            ..
        }) = self.streams.get_mut(&stream)
        else {
            return broken("once", format!("a file on {stream}"));
        };
        *size = length;
        // Some of it is there from an earlier connection.
        *position = scene.rng.below(length + 1);
        *stage = Stage::Moving;
        self.session.file_verified(stream, *position);
        Ok(())
    }

    pub(crate) fn on_file_verified(&mut self, stream: StreamId, offset: u64) -> Step {
        let Some(Local {
            what: What::File {
                position, stage, ..
            },
            ..
        }) = self.streams.get_mut(&stream)
        else {
            return broken("once", format!("a file on {stream} is verified"));
        };
        if *stage == Stage::Offered {
            *stage = Stage::Moving;
            *position = offset;
        }
        let sent = *position;
        holds("once", offset <= sent, || {
            format!("verified up to {offset} where {sent} bytes were sent")
        })
    }

    pub(crate) fn on_file_chunk(&mut self, stream: StreamId, offset: u64, bytes: &[u8]) -> Step {
        let Some(local) = self.streams.get_mut(&stream) else {
            return broken("once", format!("a file on {stream}, which is not open"));
        };
        let (key, What::File { position, .. }) = (local.key, &mut local.what) else {
            return broken("once", format!("a file on {stream}"));
        };
        let expected = *position;
        let same = (offset..)
            .zip(bytes)
            .all(|(at, byte)| byte_at(key, at) == *byte);
        holds("once", offset == expected && same, || {
            format!("{} bytes at {offset}, {expected} is next", bytes.len())
        })?;
        *position += bytes.len() as u64;
        local.unread += bytes.len();
        self.check_stream(stream)
    }

    /// Tells the sender how much of a file is verified, and acknowledges the whole of it.
    pub(crate) fn verify(&mut self, stream: StreamId, scene: &mut Scene<'_>) -> Step {
        let Some(local) = self.streams.get_mut(&stream) else {
            return Ok(());
        };
        let unread = local.unread as u64;
        let What::File {
            position, stage, ..
        } = &mut local.what
        else {
            return Ok(());
        };
        match stage {
            Stage::Moving if local.role == Role::Acceptor => {
                self.session.file_verified(stream, *position - unread);
                Ok(())
            }
            Stage::Whole if local.role == Role::Acceptor && unread == 0 => {
                *stage = Stage::Done;
                let kind = MessageType::FILE_TRANSFER_COMPLETE;
                expect(self.session.ack(stream, kind, Correlation::NONE, End::Yes))?;
                self.ended_here(stream, scene)
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn on_file_complete(&mut self, stream: StreamId, scene: &mut Scene<'_>) -> Step {
        let Some(local) = self.streams.get_mut(&stream) else {
            return broken("once", format!("a file on {stream} is complete"));
        };
        if let What::File {
            size,
            position,
            stage,
        } = &mut local.what
        {
            let whole = position == size;
            *stage = Stage::Whole;
            holds("once", whole, || {
                format!("a file of {size} ends at {position}")
            })?;
        }
        local.incoming(scene.truth)?.end()?;
        local.receiving = Half::Ended;
        Ok(())
    }

    pub(crate) fn on_file_acked(&mut self, stream: StreamId, scene: &mut Scene<'_>) -> Step {
        let Some(local) = self.streams.get(&stream) else {
            return broken("once", format!("{stream} is acknowledged and not open"));
        };
        local.outgoing(scene.truth)?.unacked = 0;
        self.ended_by_peer(stream, scene)
    }
}

/// A few records, most of them short.
fn records(key: u64, scene: &mut Scene<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for number in 0..scene.rng.between(1, 6) {
        let bytes = match scene.rng.chance(95) {
            true => scene.rng.below(300),
            false => scene.rng.below(32_768),
        };
        let mut text = Vec::new();
        fill(&mut text, key, number, usize::try_from(bytes).unwrap_or(0));
        let record = LogRecord {
            unix_ns: scene.now.as_nanos(),
            step: 1,
            channel: LogChannel::STDOUT,
            bytes: &text,
        };
        if record.append(&mut out).is_err() {
            break;
        }
    }
    out
}

fn expect(sent: Result<(), SendError>) -> Step {
    match sent {
        Ok(()) | Err(SendError::NoCredit { .. }) => Ok(()),
        Err(error) => broken("api", error.to_string()),
    }
}
