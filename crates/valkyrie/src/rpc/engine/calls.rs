//! Calls and messages of the peer.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::BytesMut;
use valkyrie_frame::{Correlation, Time};
use valkyrie_session::{Envelope, Payload};

use super::{Engine, panicked};
use crate::link::Link;
use crate::rpc::body::Body;
use crate::rpc::method::{Answering, Started};
use crate::rpc::request::{MethodName, Parts, Request, Response};
use crate::rpc::router::{Target, no_method};
use crate::rpc::status::Status;
use crate::rpc::tasks::Key;
use crate::rpc::work::Work;

impl Engine {
    /// Begins to handle a request of one message.
    pub(super) fn start(
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

    pub(super) fn on_call(
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

    pub(super) fn answer_later(
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
    pub(super) fn on_canceled(&self, link: &Link, call: Correlation) {
        if self.drop_work(Key::Call(call)) {
            fail(link, call, &Status::canceled());
        }
    }

    pub(super) fn on_message(
        &self,
        link: &Link,
        method: &str,
        body: Payload<'_>,
        envelope: &Envelope<'_>,
    ) {
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
}

fn reply(link: &Link, call: Correlation, message: &[u8], head: &Response<()>) {
    let replied = link.session().reply_with(call, message, &head.options());
    if let Err(error) = replied {
        tracing::debug!(conn = link.id(), %call, %error, "answer not sent");
        fail(link, call, &error.into());
    }
}

/// Ends a call of the peer without an answer; nothing happens if it has ended.
pub(super) fn fail(link: &Link, call: Correlation, status: &Status) {
    let failed = link.session().reply_failure(call, &status.as_failure());
    if let Err(error) = failed {
        tracing::debug!(conn = link.id(), %call, %error, "failure not sent");
    }
}
