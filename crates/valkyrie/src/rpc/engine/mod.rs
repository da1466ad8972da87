//! Services and calls on one connection.

mod calls;
mod streams;

use std::cell::{Cell, RefCell};
use std::mem;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Context;

use bytes::BytesMut;
use valkyrie_frame::{ErrorCode, Time};
use valkyrie_session::{Batch, Event};

use super::bell::{Bell, Note};
use super::give_up::GiveUps;
use super::router::Router;
use super::status::Status;
use super::tasks::{Key, Tasks, Turn};
use super::work::{Permit, Role, Works};
use crate::error::CloseReason;
use crate::link::{Handler, Link};
use calls::fail;

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

    fn batch(&mut self, link: &Link, batch: Batch<'_>) {
        self.0.bell.begin();
        self.0.on_batch(link, batch);
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

    /// Whether one more request may run.
    fn has_room(&self) -> bool {
        self.shared.running.get() < self.shared.running_max
    }

    fn permit(&self) -> Permit {
        Permit::new(&self.shared.running)
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
