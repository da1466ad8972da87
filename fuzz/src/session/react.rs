//! An application that answers whatever comes.

use valkyrie_frame::{Correlation, MessageType, v2};
use valkyrie_session::{End, Event, Session};

/// Does what an application would do, so that later states are reached.
pub(super) fn react(session: &mut Session, event: Event<'_>) {
    match event {
        Event::Call { call, body, .. } => {
            // The first byte chooses between an answer, a failure and silence.
            let _ = match body.first() {
                Some(0) => Ok(()),
                Some(1) => session.reply_error(call, valkyrie_frame::ErrorCode::REJECTED, "no"),
                _ => session.reply(call, &body),
            };
        }
        Event::CallCanceled { call } => drop(session.reply(call, b"late")),
        Event::Opened { stream, open, .. } => {
            session.accept(stream, u64::from(open.window));
            let _ = session.data(stream, open.method.as_bytes(), End::No);
        }
        Event::Data { stream, bytes, .. } => {
            session.consume(stream, bytes.len());
            let _ = session.data(stream, &bytes, End::No);
        }
        Event::Log {
            stream,
            offset,
            records,
        } => {
            session.log_durable(stream, offset + records.len() as u64);
        }
        Event::FileStart { stream, size, .. } => session.file_verified(stream, size / 2),
        Event::FileChunk {
            stream,
            offset,
            bytes,
        } => {
            session.file_verified(stream, offset + bytes.len() as u64);
        }
        Event::FileComplete { stream, .. } => {
            let kind = MessageType::FILE_TRANSFER_COMPLETE;
            let _ = session.ack(stream, kind, Correlation::NONE, End::Yes);
        }
        Event::Job {
            stream,
            kind: MessageType::JOB_REQUEST,
            ..
        } => {
            let accept = v2::JobAccept::default();
            let _ = session.job(stream, MessageType::JOB_ACCEPT, &accept, End::No);
        }
        Event::Job {
            stream,
            kind,
            correlation,
            end: End::Yes,
            ..
        } => {
            let _ = session.ack(stream, kind, correlation, End::Yes);
        }
        Event::Finished { stream, .. } => session.finish(stream),
        _ => {}
    }
}
