//! Streams of an application: opening, data, ends.

use bytes::Bytes;
use valkyrie_frame::{ErrorCode, Priority, StreamClass, StreamId, v2};
use valkyrie_session::{CallOptions, End, SendError};

use super::{
    app::size,
    peer::{Accepted, CLASSES, Draining, Half, Local, Peer, Role, Scene, Stage, What},
    truth::{Ended, Step, StreamTruth, broken, fill, holds},
};

impl Peer {
    pub(crate) fn open_something(&mut self, scene: &mut Scene<'_>) -> Step {
        if self.streams.len() > 60 {
            return Ok(());
        }
        let what = match scene.rng.below(5) {
            0 => return self.open_job(scene),
            1 => What::Log {
                position: 0,
                durable: 0,
            },
            2 => What::File {
                size: scene.rng.below(300_000),
                position: 0,
                stage: Stage::New,
            },
            _ => What::Data,
        };
        let (class, name) = match what {
            What::Log { .. } => (StreamClass::Logs, "log"),
            What::File { .. } => (StreamClass::Data, "file"),
            _ => (
                scene.rng.pick(&CLASSES).unwrap_or(StreamClass::Data),
                "data",
            ),
        };
        let key = scene.key();
        let open = v2::StreamOpen {
            method: format!("{name}/{key}"),
            window: match scene.rng.chance(80) {
                true => 0,
                false => u32::try_from(scene.rng.between(1, 10_000)).unwrap_or(0),
            },
            ..Default::default()
        };
        let priority = Priority(u8::try_from(scene.rng.below(256)).unwrap_or(0));
        let opened = match scene.rng.chance(50) {
            true => self.session.open(class, &open),
            false => {
                let options = CallOptions {
                    priority,
                    ..CallOptions::default()
                };
                self.session.open_with(class, &open, &options)
            }
        };
        match opened {
            Ok(stream) => self.add(stream, Local::new(key, Role::Opener, what), scene),
            Err(SendError::StreamsExhausted { .. } | SendError::Draining) => Ok(()),
            Err(error) => broken("api", error.to_string()),
        }
    }

    /// Notes a stream of this side.
    pub(crate) fn add(&mut self, stream: StreamId, local: Local, scene: &mut Scene<'_>) -> Step {
        let key = local.key;
        let used = self.streams.insert(stream, local).is_some();
        holds("agreement", !used, || format!("{stream} is opened twice"))?;
        scene.truth.streams.insert(key, StreamTruth::default());
        Ok(())
    }

    pub(crate) fn on_opened(
        &mut self,
        stream: StreamId,
        method: &str,
        scene: &mut Scene<'_>,
    ) -> Step {
        let (name, key) = method.split_once('/').unwrap_or_default();
        let key = key.parse().unwrap_or(0);
        let what = match name {
            "log" => What::Log {
                position: 0,
                durable: 0,
            },
            "file" => What::File {
                size: 0,
                position: 0,
                stage: Stage::New,
            },
            _ => What::Data,
        };
        let local = Local::new(key, Role::Acceptor, what);
        local.truth(scene.truth)?;
        let used = self.streams.insert(stream, local).is_some();
        holds("agreement", !used, || {
            format!("{stream} is opened, which is open")
        })?;
        if scene.rng.chance(70) {
            self.accept(stream, scene);
        }
        Ok(())
    }

    /// Takes a stream of the other side.
    pub(crate) fn accept(&mut self, stream: StreamId, scene: &mut Scene<'_>) {
        let Some(local) = self.streams.get_mut(&stream) else {
            return;
        };
        if local.role == Role::Opener || local.accepted == Accepted::Yes {
            return;
        }
        local.accepted = Accepted::Yes;
        let mut consumed = 0;
        if let What::Log { position, durable } = &mut local.what {
            consumed = scene.rng.below(1_000_000);
            *position = consumed;
            *durable = consumed;
        }
        self.session.accept(stream, consumed);
    }

    pub(crate) fn on_accepted(&mut self, stream: StreamId, consumed: u64) -> Step {
        let Some(local) = self.streams.get_mut(&stream) else {
            return broken("agreement", format!("{stream} is accepted and not open"));
        };
        local.accepted = Accepted::Yes;
        if let What::Log { position, durable } = &mut local.what {
            *position = consumed;
            *durable = consumed;
        }
        Ok(())
    }

    pub(crate) fn on_data(
        &mut self,
        stream: StreamId,
        bytes: &[u8],
        scene: &mut Scene<'_>,
    ) -> Step {
        scene.truth.progress(scene.now);
        let Some(local) = self.streams.get_mut(&stream) else {
            return broken("once", format!("data on {stream}, which is not open"));
        };
        local.incoming(scene.truth)?.deliver(bytes)?;
        local.unread += bytes.len();
        self.check_stream(stream)
    }

    pub(crate) fn on_finished(
        &mut self,
        stream: StreamId,
        status: ErrorCode,
        scene: &mut Scene<'_>,
    ) -> Step {
        holds("peer", status == ErrorCode::NONE, || status.to_string())?;
        self.ended_by_peer(stream, scene)
    }

    /// The other side has ended its direction.
    pub(crate) fn ended_by_peer(&mut self, stream: StreamId, scene: &mut Scene<'_>) -> Step {
        let Some(local) = self.streams.get_mut(&stream) else {
            return broken("once", format!("the end of {stream}, which is not open"));
        };
        local.incoming(scene.truth)?.end()?;
        local.receiving = Half::Ended;
        self.settle_stream(stream, scene.truth);
        Ok(())
    }

    /// This side has ended its direction.
    pub(crate) fn ended_here(&mut self, stream: StreamId, scene: &mut Scene<'_>) -> Step {
        if let Some(local) = self.streams.get_mut(&stream) {
            local.sending = Half::Ended;
            local.outgoing(scene.truth)?.ended = Ended::Sent;
            self.settle_stream(stream, scene.truth);
        }
        Ok(())
    }

    pub(crate) fn on_reset(&mut self, stream: StreamId, scene: &mut Scene<'_>) -> Step {
        let Some(local) = self.streams.remove(&stream) else {
            // Of a job the application may have heard nothing: only fragments of its request came.
            return holds("once", stream.class() == StreamClass::Jobs, || {
                format!("a reset of {stream}, which is not open")
            });
        };
        scene.truth.reset(local.key);
        Ok(())
    }

    pub(crate) fn reset_something(&mut self, scene: &mut Scene<'_>) -> Step {
        if let Some(stream) = self.pick(scene.rng, |_| true) {
            self.session.reset(stream, ErrorCode::OVERLOADED);
            return self.on_reset(stream, scene);
        }
        Ok(())
    }

    pub(crate) fn send_something(&mut self, scene: &mut Scene<'_>) -> Step {
        let Some(stream) = self.pick(scene.rng, |local| local.sending == Half::Open) else {
            return Ok(());
        };
        match self.streams.get(&stream).map(|local| local.what) {
            Some(What::Data) => self.send_data(stream, scene),
            Some(What::Job { .. }) => self.send_job(stream, scene),
            Some(What::Log { .. }) => self.send_log(stream, scene),
            Some(What::File { .. }) => self.send_file(stream, scene),
            None => Ok(()),
        }
    }

    fn send_data(&mut self, stream: StreamId, scene: &mut Scene<'_>) -> Step {
        self.accept(stream, scene);
        let Some(local) = self.streams.get(&stream) else {
            return Ok(());
        };
        let mut bytes = Vec::new();
        fill(&mut bytes, local.key, scene.rng.below(1 << 20), size(scene));
        let end = match scene.rng.chance(3) {
            true => End::Yes,
            false => End::No,
        };
        let way = local.outgoing(scene.truth)?;
        let sent = match scene.rng.below(3) {
            0 => self.session.data(stream, &bytes, end),
            1 => {
                let mut shared = Bytes::copy_from_slice(&bytes);
                self.session.data_shared(stream, &mut shared, end)
            }
            _ => {
                let step = 1 + scene.rng.place(900);
                let sent = self.session.send_batch(stream, bytes.chunks(step));
                let sent = sent.map(|count| (count * step).min(bytes.len()));
                return match sent {
                    Ok(count) => {
                        way.send(bytes.get(..count).unwrap_or_default());
                        Ok(())
                    }
                    Err(error) => broken("api", error.to_string()),
                };
            }
        };
        match sent {
            Ok(count) => {
                way.send(bytes.get(..count).unwrap_or_default());
                if count == bytes.len() && end == End::Yes {
                    return self.ended_here(stream, scene);
                }
                Ok(())
            }
            Err(error) => broken("api", error.to_string()),
        }
    }

    /// Takes a part of what waits on one stream.
    pub(crate) fn read_something(&mut self, scene: &mut Scene<'_>) -> Step {
        let waits = |local: &Local| local.unread > 0 || local.accepted == Accepted::No;
        let Some(stream) = self.pick(scene.rng, waits) else {
            return Ok(());
        };
        self.accept(stream, scene);
        let slow = scene.rng.chance(scene.options.faults.slow_reader);
        self.read_stream(stream, slow.then_some(200), scene)
    }

    /// Takes everything that waits, unless readers are slow.
    pub(crate) fn read_all(&mut self, scene: &mut Scene<'_>) -> Step {
        let winding_up = self.draining == Draining::Yes;
        if !winding_up && scene.rng.chance(scene.options.faults.slow_reader) {
            return Ok(());
        }
        let streams: Vec<StreamId> = self.streams.keys().copied().collect();
        for stream in streams {
            self.accept(stream, scene);
            self.read_stream(stream, None, scene)?;
        }
        Ok(())
    }

    fn read_stream(
        &mut self,
        stream: StreamId,
        most: Option<usize>,
        scene: &mut Scene<'_>,
    ) -> Step {
        let Some(local) = self.streams.get_mut(&stream) else {
            return Ok(());
        };
        let count = local.unread.min(most.unwrap_or(usize::MAX));
        local.unread -= count;
        match local.what {
            What::Data => self.session.consume(stream, count),
            What::Job { .. } => return self.pay(stream, scene),
            What::Log { .. } => self.make_durable(stream, count as u64),
            What::File { .. } => return self.verify(stream, scene),
        }
        Ok(())
    }

    /// Ends this side of a stream.
    pub(crate) fn end_something(&mut self, scene: &mut Scene<'_>) -> Step {
        let may_end = |local: &Local| {
            local.sending == Half::Open && matches!(local.what, What::Data | What::Log { .. })
        };
        match self.pick(scene.rng, may_end) {
            Some(stream) => self.finish(stream, scene),
            None => Ok(()),
        }
    }

    fn finish(&mut self, stream: StreamId, scene: &mut Scene<'_>) -> Step {
        self.accept(stream, scene);
        self.session.finish(stream);
        self.ended_here(stream, scene)
    }

    /// Brings a stream closer to its end.
    pub(crate) fn wind_up_stream(&mut self, stream: StreamId, scene: &mut Scene<'_>) -> Step {
        let Some(local) = self.streams.get(&stream) else {
            return Ok(());
        };
        if local.sending == Half::Ended {
            return Ok(());
        }
        match (local.what, local.role) {
            (What::Data | What::Log { .. }, _) => self.finish(stream, scene),
            (What::Job { .. }, Role::Acceptor) => self.complete_job(stream, scene),
            // The opener of a job ends it with its acknowledgement.
            (What::Job { .. }, Role::Opener) => Ok(()),
            (What::File { .. }, Role::Opener) => self.send_file(stream, scene),
            // The acknowledgement of the file ends this side.
            (What::File { .. }, Role::Acceptor) => Ok(()),
        }
    }
}
