//! How connections end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use valkyrie::{
    CloseReason, End, ErrorCode, Event, Handler, Link, LinkConfig, Meter, SendError, StreamClass,
    connect,
};

use crate::service::{CLASS, Recorder, Seen, Service};
use crate::{on_every_transport, start};

#[test]
fn closing_waits_for_what_runs_and_both_sides_end_in_order() {
    on_every_transport("drain", |endpoint| async move {
        let config = LinkConfig::default();
        let (server, mut on_server) = Recorder::new();
        let at = start(&endpoint, config.clone(), move |_| server.clone()).await;
        let (handler, mut events) = Recorder::new();
        let link = connect(&at, config, handler).await.unwrap();
        let stream = link.session().open(CLASS, &Default::default()).unwrap();
        link.close(ErrorCode::NONE, Duration::from_secs(10));
        while on_server.recv().await.unwrap() != Seen::Closing {}
        assert!(
            link.close_reason().is_none(),
            "a stream is open: {:?}",
            link.close_reason()
        );
        link.session().reset(stream, ErrorCode::NONE);
        assert!(matches!(link.closed().await, CloseReason::Closed));
        while events.recv().await.unwrap() != Seen::Closed("closed") {}
        while on_server.recv().await.unwrap() != Seen::Closed("closed") {}
    });
}

#[test]
fn a_drain_that_takes_too_long_is_cut() {
    on_every_transport("cut", |endpoint| async move {
        let config = LinkConfig::default();
        let at = start(&endpoint, config.clone(), |_| Service::default()).await;
        let (handler, _events) = Recorder::new();
        let link = connect(&at, config, handler).await.unwrap();
        link.session().open(CLASS, &Default::default()).unwrap();
        link.close(ErrorCode::NONE, Duration::from_millis(30));
        assert!(matches!(link.closed().await, CloseReason::Closed));
    });
}

#[test]
fn open_calls_fail_when_the_connection_is_lost() {
    on_every_transport("lost", |endpoint| async move {
        let mut listener = valkyrie::listen(&endpoint).await.unwrap();
        let at = listener.endpoint().clone();
        let silent = tokio::task::spawn_local(async move { listener.accept().await.unwrap() });
        let (handler, _events) = Recorder::new();
        let connecting = tokio::task::spawn_local({
            let at = at.clone();
            async move { connect(&at, LinkConfig::default(), handler).await }
        });
        drop(silent.await.unwrap());
        let error = connecting.await.unwrap().unwrap_err();
        assert!(error.to_string().contains("connection lost"), "{error}");
    });
}

#[test]
fn a_link_that_is_over_refuses_calls_and_keeps_its_reason() {
    on_every_transport("over", |endpoint| async move {
        let config = LinkConfig::default();
        let at = start(&endpoint, config.clone(), |_| Service::default()).await;
        let (handler, _events) = Recorder::new();
        let link = connect(&at, config, handler).await.unwrap();
        let call = tokio::task::spawn_local({
            let link = link.clone();
            let wait = Duration::from_secs(10);
            async move {
                link.call(StreamClass::Jobs, "test.Slow/Never", b"", wait)
                    .await
            }
        });
        tokio::task::yield_now().await;
        link.close(ErrorCode::NONE, Duration::ZERO);
        link.closed().await;
        assert!(call.await.unwrap().is_err());
        let again = link
            .call(CLASS, "test.Echo/Say", b"", Duration::from_secs(1))
            .await;
        assert!(again.is_err());
        assert!(link.is_closed());
        // Nor does it take what would wait for ever.
        let message = link.session().message(CLASS, "test.Echo/Say", b"");
        assert_eq!(message, Err(SendError::Closed));
    });
}

#[test]
fn a_peer_that_goes_without_a_close_is_lost_also_when_it_was_told_one() {
    on_every_transport("gone", |endpoint| async move {
        let config = LinkConfig::default();
        let (server, mut on_server) = Recorder::new();
        let links = Rc::new(RefCell::new(Vec::new()));
        let made = Rc::clone(&links);
        let at = start(&endpoint, config.clone(), move |link| {
            made.borrow_mut().push(link.clone());
            server.clone()
        })
        .await;
        let (handler, mut events) = Recorder::new();
        let link = connect(&at, config, handler).await.unwrap();
        let stream = link.session().open(CLASS, &Default::default()).unwrap();
        link.session().data(stream, b"x", End::No).unwrap();
        while !matches!(on_server.recv().await.unwrap(), Seen::Data(_)) {}
        let other = links.borrow().first().cloned().unwrap();
        other.close(ErrorCode::NONE, Duration::from_secs(10));
        while events.recv().await.unwrap() != Seen::Closing {}
        link.abort();
        let reason = other.closed().await;
        assert!(
            matches!(reason, CloseReason::Lost | CloseReason::Io(_)),
            "{reason}"
        );
    });
}

/// Aborts its link at the first message.
struct Leaver(Rc<Cell<u32>>);

impl Handler for Leaver {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        if matches!(event, Event::Message { .. }) {
            self.0.set(self.0.get() + 1);
            link.abort();
        }
    }
}

#[test]
fn nothing_is_heard_after_an_abort_not_even_what_came_with_it() {
    on_every_transport("leave", |endpoint| async move {
        let config = LinkConfig::default();
        let heard = Rc::new(Cell::new(0));
        let counter = Rc::clone(&heard);
        let at = start(&endpoint, config.clone(), move |_| {
            Leaver(Rc::clone(&counter))
        })
        .await;
        let (handler, _events) = Recorder::new();
        let link = connect(&at, config, handler).await.unwrap();
        for _ in 0..10 {
            link.session()
                .message(CLASS, "test.Some/Thing", b"")
                .unwrap();
        }
        link.closed().await;
        assert_eq!(heard.get(), 1);
    });
}

#[test]
fn metrics_follow_connections_and_streams_to_their_end() {
    on_every_transport("metrics", |endpoint| async move {
        let metrics = telemetry::Metrics::new();
        let meter = Some(Meter::new(&metrics.valkyrie));
        let at = start(&endpoint, LinkConfig::default(), |_| Service::default()).await;
        let config = LinkConfig {
            meter,
            ..LinkConfig::default()
        };
        let (handler, mut events) = Recorder::new();
        let link = connect(&at, config, handler).await.unwrap();
        let stream = link.session().open(CLASS, &Default::default()).unwrap();
        link.session().data(stream, &[1; 1000], End::No).unwrap();
        while !matches!(events.recv().await.unwrap(), Seen::Data(_)) {}
        tokio::task::yield_now().await;
        let text = metrics.encode();
        assert!(
            text.contains("valkyrie_streams_active{type=\"data\"} 1"),
            "{text}"
        );
        link.close(ErrorCode::NONE, Duration::ZERO);
        link.closed().await;
        let text = metrics.encode();
        assert!(
            text.contains("valkyrie_streams_active{type=\"data\"} 0"),
            "{text}"
        );
        assert!(
            text.contains("valkyrie_disconnections_total{reason=\"closed\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("valkyrie_handshake_duration_seconds"),
            "{text}"
        );
    });
}

#[test]
fn an_aborted_link_is_lost_for_the_peer() {
    on_every_transport("abort", |endpoint| async move {
        let config = LinkConfig::default();
        let (server, mut on_server) = Recorder::new();
        let at = start(&endpoint, config.clone(), move |_| server.clone()).await;
        let (handler, _events) = Recorder::new();
        let link = connect(&at, config, handler).await.unwrap();
        link.abort();
        assert!(matches!(link.closed().await, CloseReason::Aborted));
        while on_server.recv().await.unwrap() != Seen::Closed("lost") {}
    });
}
