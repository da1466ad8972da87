//! Job streams of an application.

use prost::Message;
use valkyrie_frame::{Correlation, MessageType, StreamId, v2};
use valkyrie_session::{End, SendError};

use super::{
    app::size,
    peer::{Half, Local, Peer, Role, Scene, What},
    truth::{Step, body_of, broken, holds, key_of},
};

impl Peer {
    pub(crate) fn open_job(&mut self, scene: &mut Scene<'_>) -> Step {
        let key = scene.key();
        let request = v2::JobRequest {
            spec: body_of(key, size(scene)),
            ..Default::default()
        };
        match self.session.job_request(&request) {
            Ok(stream) => {
                let local = Local::new(key, Role::Opener, What::Job { owes: None });
                self.add(stream, local, scene)?;
                let kind = MessageType::JOB_REQUEST;
                self.note_job(stream, kind, request.encode_to_vec(), scene)
            }
            Err(SendError::StreamsExhausted { .. } | SendError::Full | SendError::Draining) => {
                Ok(())
            }
            Err(error) => broken("api", error.to_string()),
        }
    }

    /// A job message was sent.
    fn note_job(
        &mut self,
        stream: StreamId,
        kind: MessageType,
        body: Vec<u8>,
        scene: &mut Scene<'_>,
    ) -> Step {
        match self.streams.get(&stream) {
            Some(local) => local.outgoing(scene.truth)?.jobs.push_back((kind, body)),
            None => return broken("agreement", format!("{stream} is gone")),
        }
        Ok(())
    }

    pub(crate) fn send_job(&mut self, stream: StreamId, scene: &mut Scene<'_>) -> Step {
        let role = self.streams.get(&stream).map(|local| local.role);
        if role == Some(Role::Acceptor) && scene.rng.chance(10) {
            return self.complete_job(stream, scene);
        }
        let progress = v2::JobProgress {
            detail: vec![7; size(scene)],
            ..Default::default()
        };
        let kind = MessageType::JOB_PROGRESS;
        match self.session.job(stream, kind, &progress, End::No) {
            Ok(()) => self.note_job(stream, kind, progress.encode_to_vec(), scene),
            Err(SendError::Full) => Ok(()),
            Err(error) => broken("api", error.to_string()),
        }
    }

    /// Sends the last message of a job, which asks for an acknowledgement.
    pub(crate) fn complete_job(&mut self, stream: StreamId, scene: &mut Scene<'_>) -> Step {
        let complete = v2::JobComplete {
            result: vec![9; size(scene)],
            ..Default::default()
        };
        let kind = MessageType::JOB_COMPLETE;
        match self.session.job(stream, kind, &complete, End::Yes) {
            Ok(()) => {
                self.note_job(stream, kind, complete.encode_to_vec(), scene)?;
                if let Some(local) = self.streams.get(&stream) {
                    local.outgoing(scene.truth)?.unacked += 1;
                }
                self.ended_here(stream, scene)
            }
            Err(SendError::Full) => Ok(()),
            Err(error) => broken("api", error.to_string()),
        }
    }

    pub(crate) fn on_job(
        &mut self,
        stream: StreamId,
        (kind, correlation, end): (MessageType, Correlation, End),
        body: &[u8],
        scene: &mut Scene<'_>,
    ) -> Step {
        if kind == MessageType::JOB_REQUEST {
            let request = v2::JobRequest::decode(body).unwrap_or_default();
            let Some(key) = key_of(&request.spec) else {
                return broken("once", "a job that nobody sent");
            };
            let local = Local::new(key, Role::Acceptor, What::Job { owes: None });
            let used = self.streams.insert(stream, local).is_some();
            holds("agreement", !used, || {
                format!("{stream} is opened, which is open")
            })?;
        }
        let Some(local) = self.streams.get_mut(&stream) else {
            return broken("once", format!("{kind} on {stream}, which is not open"));
        };
        let sent = local.incoming(scene.truth)?.jobs.pop_front();
        let same = sent
            .as_ref()
            .is_some_and(|(sent, bytes)| *sent == kind && bytes == body);
        holds("once", same, || {
            let sent = sent.map(|(sent, bytes)| (sent, bytes.len()));
            format!("{kind} of {} bytes, sent was {sent:?}", body.len())
        })?;
        if end == End::Yes {
            if let What::Job { owes } = &mut local.what {
                *owes = Some((kind, correlation));
            }
            local.receiving = Half::Ended;
            local.incoming(scene.truth)?.end()?;
            if scene.rng.chance(50) {
                self.pay(stream, scene)?;
            }
        }
        Ok(())
    }

    /// Sends the acknowledgement that is owed.
    pub(crate) fn pay(&mut self, stream: StreamId, scene: &mut Scene<'_>) -> Step {
        let Some(local) = self.streams.get_mut(&stream) else {
            return Ok(());
        };
        let What::Job { owes } = &mut local.what else {
            return Ok(());
        };
        let Some((kind, correlation)) = owes.take() else {
            return Ok(());
        };
        match self.session.ack(stream, kind, correlation, End::Yes) {
            Ok(()) => self.ended_here(stream, scene),
            Err(error) => broken("api", error.to_string()),
        }
    }

    pub(crate) fn on_job_acked(&mut self, stream: StreamId, scene: &mut Scene<'_>) -> Step {
        let Some(local) = self.streams.get(&stream) else {
            return broken("once", format!("{stream} is acknowledged and not open"));
        };
        let way = local.outgoing(scene.truth)?;
        holds("once", way.unacked == 1, || {
            format!("{stream} is acknowledged with {} to come", way.unacked)
        })?;
        way.unacked = 0;
        self.ended_by_peer(stream, scene)
    }
}
