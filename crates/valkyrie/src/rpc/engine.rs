//! Services and calls on one connection.

use std::cell::{Cell, RefCell};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Context;

use bytes::{Bytes, BytesMut};
use valkyrie_frame::{Correlation, ErrorCode, Metadata, MetadataError, StreamId, Time, v2};
use valkyrie_session::{Envelope, Event, More, Payload, ReplyOptions};

use super::bell::{Bell, Note};
use super::body::Body;
use super::give_up::GiveUps;
use super::inbox::Inbox;
use super::method::{Answering, Started};
use super::pump::Pump;
use super::request::{MethodName, Parts, Request, Response};
use super::router::{Router, Target, no_method};
use super::status::Status;
use super::streaming::Streaming;
use super::tasks::{Key, Tasks, Turn};
use super::work::{OfStream, Peer, Permit, Role, Work, Works};
use crate::clock;
use crate::error::CloseReason;
use crate::link::{Handler, Link};

/// What the connections of one server or client have in common.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) router: Router,
    /// Longest message on a stream.
    pub(crate) message_max: usize,
    /// Requests that are handled at once, and how many are.
    pub(crate) running_max: usize,
    pub(crate) running: Rc<Cell<usize>>,
}

/// One connection with its services and calls.
pub(crate) struct Engine {
    shared: Shared,
    bell: Arc<Bell>,
    joining: Arc<AtomicUsize>,
    tasks: Tasks,
    works: Works,
    give_ups: RefCell<GiveUps>,
    messages: Cell<u32>,
    /// Kept between turns for their capacity.
    scratch: RefCell<BytesMut>,
    notes: RefCell<Vec<Note>>,
    /// For the futures of its own tasks.
    own: Weak<Self>,
}

/// Hands the events of a connection to its engine.
pub(crate) struct Service(pub(crate) Rc<Engine>);

impl Handler for Service {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        self.0.bell.begin();
        self.0.event(link, event);
    }

    fn poll(&mut self, link: &Link, cx: &mut Context<'_>) -> Option<Time> {
        self.0.poll(link, cx)
    }

    fn closed(&mut self, _link: &Link, reason: &CloseReason) {
        self.0.closed(reason);
    }
}

impl Engine {
    pub(crate) fn new(shared: Shared) -> Rc<Self> {
        let bell = Arc::new(Bell::default());
        Rc::new_cyclic(|own| Self {
            shared,
            tasks: Tasks::new(Arc::clone(&bell)),
            bell,
            joining: Arc::default(),
            works: Works::default(),
            give_ups: RefCell::default(),
            messages: Cell::new(0),
            scratch: RefCell::default(),
            notes: RefCell::default(),
            own: Weak::clone(own),
        })
    }

    fn event(&self, link: &Link, event: Event<'_>) {
        match event {
            Event::Call {
                call,
                method,
                body,
                envelope,
                ..
            } => self.on_call(link, call, &method, body, &envelope),
            Event::CallCanceled { call } => self.on_canceled(link, call),
            Event::Message {
                method,
                body,
                envelope,
                ..
            } => self.on_message(link, &method, body, &envelope),
            Event::Opened {
                stream,
                open,
                envelope,
            } => self.on_opened(link, stream, open, &envelope),
            Event::Data {
                stream,
                bytes,
                more,
                envelope,
            } => self.on_data(link, stream, &bytes, more, envelope),
            Event::Finished {
                stream,
                status,
                envelope,
            } => self.on_finished(link, stream, status, envelope),
            Event::PeerError {
                stream,
                code,
                retry,
                text,
                envelope,
                ..
            } => {
                let told = Status::received(code, retry, text.into_owned(), &envelope);
                tracing::debug!(conn = link.id(), %stream, status = %told, "peer reports an error");
                self.of_stream(stream, |of| of.told = Some(told));
            }
            Event::Reset { stream, code } => self.on_reset(stream, code),
            Event::Writable { stream } => {
                let task = self.works.with(Key::Stream(stream), |work| work.task);
                if let Some(task) = task.flatten() {
                    self.tasks.wake(task);
                }
            }
            // Nothing else belongs to calls.
            _ => {}
        }
    }

    fn of_stream<T>(&self, stream: StreamId, look: impl FnOnce(&mut OfStream) -> T) -> Option<T> {
        let look = |work: &mut Work| work.stream.as_mut().map(look);
        self.works.with(Key::Stream(stream), look).flatten()
    }

    /// Whether one more request may run.
    fn has_room(&self) -> bool {
        self.shared.running.get() < self.shared.running_max
    }

    fn permit(&self) -> Permit {
        Permit::new(&self.shared.running)
    }

    /// Begins to handle a request of one message.
    fn start(
        &self,
        method: &str,
        body: Payload<'_>,
        now: Time,
        envelope: &Envelope<'_>,
        out: &mut BytesMut,
    ) -> Started {
        let router = &self.shared.router;
        let Some(target) = router.find(method) else {
            return Started::Done(Err(no_method(method)));
        };
        if !self.has_room() {
            return Started::Done(Err(Status::overloaded("too many requests at once")));
        }
        let begin = || match target {
            Target::Method(handler, name) => {
                let parts = Parts::received(name.clone(), now, envelope);
                handler.start(parts, &body, out)
            }
            Target::Any(service) => {
                let name = MethodName::from(method.to_owned());
                let parts = Parts::received(name, now, envelope);
                let body = Body::Message(body.into_bytes());
                Started::Later(service.call(Request::from_parts(parts, body)))
            }
        };
        // One handler's bug must not take the other connections of the shard along.
        catch_unwind(AssertUnwindSafe(begin)).unwrap_or_else(|_| Started::Done(Err(panicked())))
    }

    fn on_call(
        &self,
        link: &Link,
        call: Correlation,
        method: &str,
        body: Payload<'_>,
        envelope: &Envelope<'_>,
    ) {
        let now = link.driver_session().now();
        let mut out = mem::take(&mut *self.scratch.borrow_mut());
        out.clear();
        match self.start(method, body, now, envelope, &mut out) {
            Started::Done(Ok(head)) => reply(link, call, &out, &head),
            Started::Done(Err(status)) => fail(link, call, &status),
            Started::Later(answering) => {
                let deadline = envelope.deadline().map(|left| now + left);
                self.answer_later(link, call, deadline, answering);
            }
        }
        *self.scratch.borrow_mut() = out;
    }

    fn answer_later(
        &self,
        link: &Link,
        call: Correlation,
        deadline: Option<Time>,
        answering: Answering,
    ) {
        let answer_on = link.clone();
        let job = async move {
            match answering.await {
                Ok(response) => {
                    let (head, body) = response.split();
                    match body.into_message().await {
                        Ok(message) => reply(&answer_on, call, &message, &head),
                        Err(status) => fail(&answer_on, call, &status),
                    }
                }
                Err(status) => fail(&answer_on, call, &status),
            }
        };
        let key = Key::Call(call);
        let task = Some(self.tasks.insert(key, Box::pin(job)));
        let permit = Some(self.permit());
        let work = Work {
            task,
            deadline,
            stream: None,
            permit,
        };
        self.works.insert(key, work);
    }

    /// The caller gave up: its handler ends here.
    fn on_canceled(&self, link: &Link, call: Correlation) {
        if self.drop_work(Key::Call(call)) {
            fail(link, call, &Status::canceled());
        }
    }

    fn on_message(&self, link: &Link, method: &str, body: Payload<'_>, envelope: &Envelope<'_>) {
        let now = link.driver_session().now();
        let mut out = BytesMut::new();
        match self.start(method, body, now, envelope, &mut out) {
            Started::Done(Ok(_)) => {}
            Started::Done(Err(status)) => {
                tracing::debug!(conn = link.id(), method, %status, "message not handled");
            }
            Started::Later(answering) => {
                let number = self.messages.get().wrapping_add(1);
                self.messages.set(number);
                let key = Key::Message(number);
                let job = async move {
                    if let Err(status) = answering.await {
                        tracing::debug!(%status, "message not handled");
                    }
                };
                let task = Some(self.tasks.insert(key, Box::pin(job)));
                let work = Work {
                    task,
                    deadline: envelope.deadline().map(|left| now + left),
                    stream: None,
                    permit: Some(self.permit()),
                };
                self.works.insert(key, work);
            }
        }
    }

    fn inbox_of(&self, link: &Link, stream: StreamId) -> Arc<Inbox> {
        let window = link.driver_session().window(stream.class());
        Arc::new(Inbox::new(
            stream,
            Arc::clone(&self.bell),
            Arc::clone(&self.joining),
            window,
            self.shared.message_max,
        ))
    }

    fn on_opened(
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
    fn opened_parts(
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
            inserted
                .map_err(|error: MetadataError| Status::malformed(format!("{error} (R-10.14)")))?;
        }
        let mut parts = Parts::received(MethodName::from(open.method), now, envelope);
        parts.metadata = metadata;
        Ok(parts)
    }

    fn begin_stream(
        &self,
        stream: StreamId,
        role: Role,
        inbox: Arc<Inbox>,
        deadline: Option<Time>,
        permit: Option<Permit>,
        job: std::pin::Pin<Box<dyn Future<Output = ()>>>,
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
        class: valkyrie_frame::StreamClass,
        timeout: Option<std::time::Duration>,
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

    fn on_data(
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

    fn on_finished(
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
    fn forget_if_done(&self, stream: StreamId) {
        let key = Key::Stream(stream);
        let done = self.works.with(key, |work| {
            let peer = work.stream.as_ref().map(|of| of.peer);
            work.task.is_none() && peer == Some(Peer::Ended)
        });
        if done == Some(true) {
            self.works.remove(key);
        }
    }

    fn on_reset(&self, stream: StreamId, code: ErrorCode) {
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

    /// Ends a work here and drops its future; whether there was one.
    fn drop_work(&self, key: Key) -> bool {
        let Some(work) = self.works.remove(key) else {
            return false;
        };
        if let Some(task) = work.task {
            self.tasks.cancel(task);
        }
        true
    }

    /// Resets a stream of this side, now or as soon as the peer allows.
    fn give_up(&self, link: &Link, stream: StreamId, code: ErrorCode) {
        self.give_ups.borrow_mut().push(stream, code);
        self.reset_given_up(link);
        // Of a stream whose reset has to wait, at least this direction ends.
        link.session().finish(stream);
    }

    fn reset_given_up(&self, link: &Link) {
        let now = clock::now();
        loop {
            let next = self.give_ups.borrow_mut().next(now);
            let Some((stream, code)) = next else { return };
            link.session().reset(stream, code);
        }
    }

    /// The turn of this connection's own work.
    fn poll(&self, link: &Link, cx: &mut Context<'_>) -> Option<Time> {
        let now = link.driver_session().now();
        for key in self.works.expired(now) {
            self.expire(link, key);
        }
        self.reset_given_up(link);
        let mut notes = mem::take(&mut *self.notes.borrow_mut());
        while self.bell.take(&mut notes, cx.waker()) {
            for note in notes.drain(..) {
                self.on_note(link, note);
            }
        }
        *self.notes.borrow_mut() = notes;
        let reset = self.give_ups.borrow().due();
        [self.works.earliest(), reset].into_iter().flatten().min()
    }

    fn on_note(&self, link: &Link, note: Note) {
        match note {
            Note::Task(slot) => match self.tasks.turn(slot) {
                Turn::Waits => {}
                Turn::Ended(key) => self.on_ended(key),
                Turn::Panicked(key) => self.on_panicked(link, key),
            },
            Note::Taken(stream) => self.return_credit(link, stream),
            Note::Dropped(stream) => self.on_dropped(link, stream),
        }
    }

    fn return_credit(&self, link: &Link, stream: StreamId) {
        let taken = self.works.inbox(stream).map(|inbox| inbox.take_credit());
        if let Some(taken) = taken.filter(|taken| *taken > 0) {
            link.session().consume(stream, taken);
        }
    }

    /// Nobody reads a stream any more: a caller gives it up, a service just wants no more requests.
    fn on_dropped(&self, link: &Link, stream: StreamId) {
        self.return_credit(link, stream);
        let role = self.of_stream(stream, |of| of.role);
        if role == Some(Role::Caller) {
            self.drop_work(Key::Stream(stream));
            self.give_up(link, stream, ErrorCode::NONE);
        }
    }

    fn on_ended(&self, key: Key) {
        match key {
            Key::Call(_) | Key::Message(_) => drop(self.works.remove(key)),
            Key::Stream(stream) => {
                self.works.with(key, |work| {
                    work.task = None;
                    work.permit = None;
                    if work
                        .stream
                        .as_ref()
                        .is_some_and(|of| of.role == Role::Service)
                    {
                        work.deadline = None;
                    }
                });
                self.forget_if_done(stream);
            }
        }
    }

    fn on_panicked(&self, link: &Link, key: Key) {
        tracing::error!(conn = link.id(), ?key, "a handler panicked");
        match key {
            Key::Call(call) => fail(link, call, &panicked()),
            Key::Message(_) => {}
            Key::Stream(stream) => {
                link.session().fail_stream(stream, &panicked().as_failure());
            }
        }
        self.on_ended(key);
    }

    /// The time of a work is over.
    fn expire(&self, link: &Link, key: Key) {
        let status = Status::timeout("the deadline of the call has passed");
        match key {
            Key::Call(call) => {
                self.drop_work(key);
                fail(link, call, &status);
            }
            Key::Message(_) => drop(self.drop_work(key)),
            Key::Stream(stream) => {
                let found = self.of_stream(stream, |of| (of.role, Arc::clone(&of.inbox)));
                let Some((role, inbox)) = found else { return };
                inbox.end(Err(status.clone()));
                match role {
                    Role::Caller => {
                        self.drop_work(key);
                        self.give_up(link, stream, ErrorCode::TIMEOUT);
                    }
                    Role::Service => {
                        let task = self.works.with(key, |work| work.task.take()).flatten();
                        if let Some(task) = task {
                            self.tasks.cancel(task);
                        }
                        link.session().fail_stream(stream, &status.as_failure());
                        self.on_ended(key);
                    }
                }
            }
        }
    }

    fn closed(&self, reason: &CloseReason) {
        for (_, work) in self.works.take_all() {
            if let Some(of) = work.stream {
                of.inbox.end(Err(reason.clone().into()));
            }
        }
        self.tasks.clear();
    }
}

fn panicked() -> Status {
    Status::internal("the handler failed")
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

fn reply(link: &Link, call: Correlation, message: &[u8], head: &Response<()>) {
    let options: ReplyOptions<'_> = head.options();
    let replied = link.session().reply_with(call, message, &options);
    if let Err(error) = replied {
        tracing::debug!(conn = link.id(), %call, %error, "answer not sent");
        fail(link, call, &error.into());
    }
}

/// Ends a call of the peer without an answer; nothing happens if it has ended.
fn fail(link: &Link, call: Correlation, status: &Status) {
    let failed = link.session().reply_failure(call, &status.as_failure());
    if let Err(error) = failed {
        tracing::debug!(conn = link.id(), %call, %error, "failure not sent");
    }
}
