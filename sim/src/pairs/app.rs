//! What an application makes of events, and what it does by itself.

use std::time::Duration;

use valkyrie_frame::{Correlation, ErrorCode, StreamClass, StreamId};
use valkyrie_session::{Event, SendError};

use super::{
    peer::{Asked, CLASSES, Deadline, Draining, Peer, Scene, Serving},
    truth::{CallTruth, Step, body_of, broken, holds, key_of},
};

impl Peer {
    pub(crate) fn on_event(&mut self, event: Event<'_>, scene: &mut Scene<'_>) -> Step {
        let now = scene.now;
        match event {
            Event::Ready(_) => self.ready(scene.options.plant),
            Event::Rtt { .. } | Event::Writable { .. } => {}
            Event::Closing { .. } => self.draining = Draining::Yes,
            event => {
                scene.truth.progress(now);
                return self.on_delivery(event, scene);
            }
        }
        Ok(())
    }

    fn on_delivery(&mut self, event: Event<'_>, scene: &mut Scene<'_>) -> Step {
        match event {
            Event::Call { call, body, .. } => self.on_call(call, &body, scene),
            Event::Reply { call, body, .. } => self.on_reply(call, &body, scene),
            Event::CallFailed { call, code, .. } => self.on_call_failed(call, code, scene),
            Event::CallCanceled { call } => self.on_canceled(call),
            Event::Message { body, .. } => on_message(&body, scene),
            Event::Opened { stream, open, .. } => self.on_opened(stream, &open.method, scene),
            Event::Accepted { stream, consumed } => self.on_accepted(stream, consumed),
            Event::Data { stream, bytes, .. } => self.on_data(stream, &bytes, scene),
            Event::Finished { stream, status, .. } => self.on_finished(stream, status, scene),
            Event::Reset { stream, .. } => self.on_reset(stream, scene),
            Event::Job {
                stream,
                kind,
                body,
                correlation,
                end,
            } => self.on_job(stream, (kind, correlation, end), &body, scene),
            Event::JobAcked { stream, .. } => self.on_job_acked(stream, scene),
            Event::Log {
                stream,
                offset,
                records,
            } => self.on_log(stream, offset, records, scene),
            Event::LogDurable { stream, offset, .. } => self.on_durable(stream, offset),
            Event::FileStart { stream, size, .. } => self.on_file_start(stream, size, scene),
            Event::FileChunk {
                stream,
                offset,
                bytes,
            } => self.on_file_chunk(stream, offset, bytes),
            Event::FileComplete { stream, .. } => self.on_file_complete(stream, scene),
            Event::FileAcked { stream } => self.on_file_acked(stream, scene),
            Event::FileVerified { stream, offset } => self.on_file_verified(stream, offset),
            Event::PeerError { code, text, .. } => {
                // What was opened while the other side began to close, or over its limits.
                let expected = matches!(code, ErrorCode::DRAINING | ErrorCode::LIMIT);
                holds("peer", expected, || format!("{code}: {text}"))
            }
            other => broken("peer", format!("an event without meaning: {other:?}")),
        }
    }

    fn on_call(&mut self, call: Correlation, body: &[u8], scene: &mut Scene<'_>) -> Step {
        let key = key_or_broken(body)?;
        let truth = scene.truth.calls.get_mut(&key);
        match truth {
            Some(truth @ CallTruth::Asked { .. }) => {
                let bytes = body.len();
                let asked = *truth == CallTruth::Asked { bytes };
                *truth = CallTruth::Served;
                holds("once", asked, || format!("call {key:x} has another length"))?;
            }
            Some(CallTruth::GivenUp) => {}
            other => return broken("once", format!("call {key:x} comes, and is {other:?}")),
        }
        self.serving.push(Serving { call, key });
        if scene.rng.chance(60) {
            self.answer(self.serving.len() - 1, scene)?;
        }
        Ok(())
    }

    fn on_reply(&mut self, call: Correlation, body: &[u8], scene: &mut Scene<'_>) -> Step {
        let Some(asked) = self.calls.remove(&call) else {
            return broken("once", format!("an answer to {call:?}, which is not open"));
        };
        let bytes = body.len();
        let truth = scene.truth.calls.remove(&asked.key);
        holds("once", truth == Some(CallTruth::Answered { bytes }), || {
            format!("call {:x} was answered, and is {truth:?}", asked.key)
        })?;
        let same = key_of(body) == Some(!asked.key);
        holds("once", same, || "another answer than was sent".to_owned())
    }

    fn on_call_failed(
        &mut self,
        call: Correlation,
        code: ErrorCode,
        scene: &mut Scene<'_>,
    ) -> Step {
        let Some(asked) = self.calls.remove(&call) else {
            return broken("once", format!("{call:?} failed, which is not open"));
        };
        let truth = scene.truth.calls.insert(asked.key, CallTruth::GivenUp);
        let expected = match code {
            ErrorCode::TIMEOUT => asked.deadline == Deadline::Set,
            ErrorCode::DRAINING | ErrorCode::LIMIT => true,
            _ => truth == Some(CallTruth::Refused),
        };
        holds("peer", expected, || {
            format!("call {:x} failed with {code}, and is {truth:?}", asked.key)
        })
    }

    /// The call still has to be ended, which answers nobody.
    fn on_canceled(&mut self, call: Correlation) -> Step {
        let place = self.serving.iter().position(|serving| serving.call == call);
        let Some(place) = place else {
            return broken("once", format!("{call:?} is canceled and not open"));
        };
        self.serving.swap_remove(place);
        match self.session.reply(call, &[]) {
            Ok(()) => Ok(()),
            Err(error) => broken("api", error.to_string()),
        }
    }

    /// Answers a call of the other side.
    pub(crate) fn answer(&mut self, place: usize, scene: &mut Scene<'_>) -> Step {
        let Some(&Serving { call, key }) = self.serving.get(place) else {
            return Ok(());
        };
        let refused = scene.rng.chance(10);
        let bytes = size(scene).max(8);
        let sent = if refused {
            self.session.reply_error(call, ErrorCode::REJECTED, "no")
        } else {
            self.session.reply(call, &body_of(!key, bytes))
        };
        match sent {
            Ok(()) => {}
            Err(SendError::Full) => return Ok(()),
            Err(error) => return broken("api", error.to_string()),
        }
        self.serving.swap_remove(place);
        if let Some(truth) = scene.truth.calls.get_mut(&key)
            && *truth != CallTruth::GivenUp
        {
            *truth = match refused {
                true => CallTruth::Refused,
                false => CallTruth::Answered { bytes },
            };
        }
        Ok(())
    }

    /// Does something at random.
    pub(crate) fn act(&mut self, scene: &mut Scene<'_>) -> Step {
        if !self.session.is_ready() {
            return Ok(());
        }
        if self.draining == Draining::Yes {
            return self.wind_up(scene);
        }
        match scene.rng.below(100) {
            0..=9 => self.open_something(scene)?,
            10..=39 => self.send_something(scene)?,
            40..=52 => self.call_something(scene)?,
            53..=54 => self.cancel_something(scene),
            55..=67 => self.message_something(scene)?,
            68..=86 => self.read_something(scene)?,
            87..=90 => {
                let place = scene.rng.place(self.serving.len());
                self.answer(place, scene)?;
            }
            91..=95 => self.end_something(scene)?,
            96 => {
                if scene.rng.chance(scene.options.faults.reset) {
                    self.reset_something(scene)?;
                }
            }
            _ => self.read_all(scene)?,
        }
        self.poll(scene)
    }

    /// Brings to an end what was begun, a part of it at a time.
    fn wind_up(&mut self, scene: &mut Scene<'_>) -> Step {
        self.read_all(scene)?;
        while !self.serving.is_empty() {
            let before = self.serving.len();
            self.answer(before - 1, scene)?;
            if self.serving.len() == before {
                break;
            }
        }
        let streams: Vec<StreamId> = self.streams.keys().copied().collect();
        for stream in streams {
            self.wind_up_stream(stream, scene)?;
        }
        self.poll(scene)
    }

    fn call_something(&mut self, scene: &mut Scene<'_>) -> Step {
        let Some(class) = scene.rng.pick(&CLASSES) else {
            return Ok(());
        };
        let (key, bytes) = (scene.key(), size(scene).max(8));
        let patience = Duration::from_millis(scene.rng.between(1, 5_000));
        let (deadline, limit) = match scene.rng.chance(20) {
            true => (Deadline::Set, Some(patience)),
            false => (Deadline::None, None),
        };
        match self.session.call(class, "a/C", &body_of(key, bytes), limit) {
            Ok(call) => {
                let asked = Asked {
                    call,
                    key,
                    deadline,
                };
                self.calls.insert(call, asked);
                scene.truth.calls.insert(key, CallTruth::Asked { bytes });
                Ok(())
            }
            Err(SendError::CallsExhausted | SendError::Full | SendError::Draining) => Ok(()),
            Err(error) => broken("api", error.to_string()),
        }
    }

    fn cancel_something(&mut self, scene: &mut Scene<'_>) {
        let place = scene.rng.place(self.calls.len());
        let Some(asked) = self.calls.values().nth(place).copied() else {
            return;
        };
        self.session.cancel(asked.call);
        self.calls.remove(&asked.call);
        scene.truth.calls.insert(asked.key, CallTruth::GivenUp);
    }

    fn message_something(&mut self, scene: &mut Scene<'_>) -> Step {
        let class = scene.rng.pick(&CLASSES).unwrap_or(StreamClass::System);
        let (key, bytes) = (scene.key(), size(scene).max(8));
        let body = body_of(key, bytes);
        let sent = match scene.rng.chance(20) {
            true => self.session.urgent_message(class, "a/M", &body),
            false => self.session.message(class, "a/M", &body),
        };
        match sent {
            Ok(()) => {
                scene.truth.messages.insert(key, bytes);
                Ok(())
            }
            Err(SendError::Full | SendError::Draining) => Ok(()),
            Err(error) => broken("api", error.to_string()),
        }
    }
}

fn on_message(body: &[u8], scene: &mut Scene<'_>) -> Step {
    let key = key_or_broken(body)?;
    let sent = scene.truth.messages.remove(&key);
    holds("once", sent == Some(body.len()), || {
        format!(
            "message {key:x} of {} bytes comes, sent: {sent:?}",
            body.len()
        )
    })
}

fn key_or_broken(body: &[u8]) -> Step<u64> {
    match key_of(body) {
        Some(key) => Ok(key),
        None => broken("once", format!("{} bytes that nobody sent", body.len())),
    }
}

/// Most things are small, some are larger than any window.
pub(crate) fn size(scene: &mut Scene<'_>) -> usize {
    let bytes = match scene.rng.below(100) {
        0..=69 => scene.rng.below(200),
        70..=94 => scene.rng.below(6_000),
        95..=98 => scene.rng.below(50_000),
        _ => scene.rng.below(400_000),
    };
    usize::try_from(bytes * scene.options.scale / 1000).unwrap_or(0)
}
