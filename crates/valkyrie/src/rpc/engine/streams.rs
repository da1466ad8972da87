//! Streams of both sides.

use std::pin::Pin;
use std::rc::Weak;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use valkyrie_frame::{ErrorCode, Metadata, StreamClass, StreamId, Time, v2};
use valkyrie_session::{Batch, Envelope, More};

use super::Engine;
use crate::clock;
use crate::link::Link;
use crate::rpc::body::Body;
use crate::rpc::inbox::Inbox;
use crate::rpc::pump::Pump;
use crate::rpc::request::{MethodName, Parts, Request, Response};
use crate::rpc::router::no_method;
use crate::rpc::status::Status;
use crate::rpc::streaming::Streaming;
use crate::rpc::tasks::Key;
use crate::rpc::work::{OfStream, Peer, Permit, Role, Work};

impl Engine {
    pub(super) fn of_stream<T>(
        &self,
        stream: StreamId,
        look: impl FnOnce(&mut OfStream) -> T,
    ) -> Option<T> {
        let look = |work: &mut Work| work.stream.as_mut().map(look);
        self.works.with(Key::Stream(stream), look).flatten()
    }

    pub(super) fn inbox_of(&self, link: &Link, stream: StreamId) -> Arc<Inbox> {
        let window = link.driver_session().window(stream.class());
        Arc::new(Inbox::new(
            stream,
            Arc::clone(&self.bell),
            Arc::clone(&self.joining),
            window,
            self.shared.message_max,
        ))
    }

    pub(super) fn on_opened(
        &self,
        link: &Link,
        stream: StreamId,
        open: v2::StreamOpen,
        envelope: &Envelope<'_>,
    ) {
        let now = link.driver_session().now();
        let parts = match self.opened_parts(open, now, envelope) {
            Ok(parts) => parts,
            Err(status) => {
                link.session().fail_stream(stream, &status.as_failure());
                return;
            }
        };
        link.session().accept(stream, 0);
        let inbox = self.inbox_of(link, stream);
        let messages = Streaming::of_wire(Arc::clone(&inbox));
        let deadline = parts.deadline;
        let request = Request::from_parts(parts, Body::Stream(messages));
        let router = self.shared.router.clone();
        let answer_on = link.clone();
        let job = async move {
            // The router is asked here, inside the guard against panics.
            let sent = match router.answer(request).await {
                Ok(response) => send_answer(&answer_on, stream, response).await,
                Err(status) => Err(status),
            };
            let mut session = answer_on.session();
            match sent {
                Ok(metadata) => session.finish_with(stream, metadata.view()),
                Err(status) => session.fail_stream(stream, &status.as_failure()),
            }
        };
        let permit = Some(self.permit());
        self.begin_stream(
            stream,
            Role::Service,
            inbox,
            deadline,
            permit,
            Box::pin(job),
        );
    }

    /// Checks what the peer opens a stream for.
    pub(super) fn opened_parts(
        &self,
        open: v2::StreamOpen,
        now: Time,
        envelope: &Envelope<'_>,
    ) -> Result<Parts, Status> {
        if self.shared.router.find(&open.method).is_none() {
            return Err(no_method(&open.method));
        }
        if !self.has_room() {
            return Err(Status::overloaded("too many requests at once"));
        }
        let mut metadata = Metadata::new();
        for (name, value) in &open.metadata {
            let inserted = metadata.insert(name, value);
            inserted.map_err(|error| Status::malformed(format!("{error} (R-10.14)")))?;
        }
        let mut parts = Parts::received(MethodName::from(open.method), now, envelope);
        parts.metadata = metadata;
        Ok(parts)
    }

    pub(super) fn begin_stream(
        &self,
        stream: StreamId,
        role: Role,
        inbox: Arc<Inbox>,
        deadline: Option<Time>,
        permit: Option<Permit>,
        job: Pin<Box<dyn Future<Output = ()>>>,
    ) {
        let key = Key::Stream(stream);
        let task = Some(self.tasks.insert(key, job));
        let (told, peer) = (None, Peer::Sends);
        let of = OfStream {
            role,
            inbox,
            told,
            peer,
        };
        let work = Work {
            task,
            deadline,
            stream: Some(of),
            permit,
        };
        self.works.insert(key, work);
    }

    /// Opens a stream of this side and sends its messages.
    pub(crate) fn open(
        &self,
        link: &Link,
        parts: &Parts,
        class: StreamClass,
        timeout: Option<Duration>,
        messages: Streaming<Bytes>,
    ) -> Result<Streaming<Bytes>, Status> {
        let open = v2::StreamOpen {
            method: parts.method.to_string(),
            metadata: parts
                .metadata
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_vec()))
                .collect(),
            window: 0,
        };
        let mut session = link.session();
        let now = session.now();
        let options = parts.options(now, timeout);
        let stream = session.open_with(class, &open, &options)?;
        drop(session);
        let inbox = self.inbox_of(link, stream);
        let answers = Streaming::of_wire(Arc::clone(&inbox));
        let (send_on, own, failing) = (link.clone(), Weak::clone(&self.own), Arc::clone(&inbox));
        let job = async move {
            match Pump::new(send_on.clone(), stream, None, messages).await {
                Ok(_) => send_on.session().finish(stream),
                Err(status) => {
                    if let Some(engine) = own.upgrade() {
                        engine.works.remove(Key::Stream(stream));
                        engine.give_up(&send_on, stream, ErrorCode::NONE);
                    }
                    failing.end(Err(status));
                }
            }
        };
        let deadline = options.deadline.map(|left| now + left);
        self.begin_stream(stream, Role::Caller, inbox, deadline, None, Box::pin(job));
        Ok(answers)
    }

    pub(super) fn on_data(
        &self,
        link: &Link,
        stream: StreamId,
        bytes: &[u8],
        more: More,
        envelope: Option<Box<Envelope<'_>>>,
    ) {
        let credit = match self.works.inbox(stream) {
            Some(inbox) => inbox.push(bytes, more, metadata_of(envelope)),
            // Given up, and still on its way.
            None => bytes.len().max(1),
        };
        if credit > 0 {
            link.session().consume(stream, credit);
        }
    }

    pub(super) fn on_batch(&self, link: &Link, batch: Batch<'_>) {
        let credit = match self.works.inbox(batch.stream()) {
            Some(inbox) => inbox.push_batch(batch),
            None => batch.bytes(),
        };
        if credit > 0 {
            link.session().consume(batch.stream(), credit);
        }
    }

    pub(super) fn on_finished(
        &self,
        link: &Link,
        stream: StreamId,
        code: ErrorCode,
        envelope: Option<Box<Envelope<'_>>>,
    ) {
        self.give_ups.borrow_mut().forget(stream);
        let Some((role, inbox, told)) = self.of_stream(stream, |of| {
            of.peer = Peer::Ended;
            (of.role, Arc::clone(&of.inbox), of.told.take())
        }) else {
            link.session().finish(stream);
            return;
        };
        inbox.end(match code {
            ErrorCode::NONE => Ok(metadata_of(envelope)),
            code => Err(told.unwrap_or_else(|| Status::new(code, "the stream failed"))),
        });
        match role {
            // The answer is complete, so nobody wants the rest of the requests.
            Role::Caller => {
                self.drop_work(Key::Stream(stream));
                link.session().finish(stream);
            }
            Role::Service => self.forget_if_done(stream),
        }
    }

    /// Forgets a stream of the peer on which nothing comes or goes any more.
    pub(super) fn forget_if_done(&self, stream: StreamId) {
        let key = Key::Stream(stream);
        let done = self.works.with(key, |work| {
            let peer = work.stream.as_ref().map(|of| of.peer);
            work.task.is_none() && peer == Some(Peer::Ended)
        });
        if done == Some(true) {
            self.works.remove(key);
        }
    }

    pub(super) fn on_reset(&self, stream: StreamId, code: ErrorCode) {
        self.give_ups.borrow_mut().forget(stream);
        let told = self.of_stream(stream, |of| (Arc::clone(&of.inbox), of.told.take()));
        if let Some((inbox, told)) = told {
            let reset = || match code {
                ErrorCode::NONE => Status::canceled(),
                code => Status::new(code, "the stream was reset"),
            };
            inbox.end(Err(told.unwrap_or_else(reset)));
        }
        self.drop_work(Key::Stream(stream));
    }

    /// Resets a stream of this side, now or as soon as the peer allows.
    pub(super) fn give_up(&self, link: &Link, stream: StreamId, code: ErrorCode) {
        self.give_ups.borrow_mut().push(stream, code);
        self.reset_given_up(link);
        // Of a stream whose reset has to wait, at least this direction ends.
        link.session().finish(stream);
    }

    pub(super) fn reset_given_up(&self, link: &Link) {
        let now = clock::now();
        loop {
            let next = self.give_ups.borrow_mut().next(now);
            let Some((stream, code)) = next else { return };
            link.session().reset(stream, code);
        }
    }

    pub(super) fn return_credit(&self, link: &Link, stream: StreamId) {
        let taken = self.works.inbox(stream).map(|inbox| inbox.take_credit());
        if let Some(taken) = taken.filter(|taken| *taken > 0) {
            link.session().consume(stream, taken);
        }
    }

    /// Nobody reads a stream any more: a caller gives it up, a service just wants no more requests.
    pub(super) fn on_dropped(&self, link: &Link, stream: StreamId) {
        self.return_credit(link, stream);
        let role = self.of_stream(stream, |of| of.role);
        if role == Some(Role::Caller) {
            self.drop_work(Key::Stream(stream));
            self.give_up(link, stream, ErrorCode::NONE);
        }
    }
}

fn metadata_of(envelope: Option<Box<Envelope<'_>>>) -> Option<Metadata> {
    let metadata = envelope?.metadata().to_metadata();
    (!metadata.is_empty()).then_some(metadata)
}

/// Sends an answer on a stream; what is left to say at its end.
async fn send_answer(
    link: &Link,
    stream: StreamId,
    response: Response<Body>,
) -> Result<Metadata, Status> {
    let (head, body) = response.split();
    let pump = Pump::new(link.clone(), stream, Some(head), body.into_stream());
    let unsaid = pump.await?;
    Ok(unsaid
        .map(|head| head.metadata().clone())
        .unwrap_or_default())
}
