//! The service that shows a server's connections.

use std::time::Duration;

use prost::Message;
use valkyrie::{
    CallError, Diagnostics, Endpoint, ErrorCode, Event, Handler, Link, LinkConfig, StreamClass,
    connect, v2,
};

use crate::{on_every_transport, start};

const SECOND: Duration = Duration::from_secs(1);

/// Takes streams and keeps what comes unread.
struct Server {
    diagnostics: Diagnostics,
}

impl Handler for Server {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        let Some(event) = self.diagnostics.answer(link, event) else {
            return;
        };
        match event {
            Event::Opened { stream, .. } => link.session().accept(stream, 0),
            Event::Call { call, .. } => link.session().reply(call, b"other").unwrap(),
            _ => {}
        }
    }
}

struct Quiet;

impl Handler for Quiet {
    fn event(&mut self, _link: &Link, _event: Event<'_>) {}
}

async fn server(endpoint: &Endpoint) -> Endpoint {
    let diagnostics = Diagnostics::default();
    start(endpoint, LinkConfig::default(), move |link| {
        diagnostics.watch(link);
        Server {
            diagnostics: diagnostics.clone(),
        }
    })
    .await
}

async fn ask(
    link: &Link,
    request: &v2::DiagnosticsRequest,
) -> Result<v2::DiagnosticsSnapshot, CallError> {
    let body = request.encode_to_vec();
    let class = StreamClass::System;
    let answer = link.call(class, Diagnostics::METHOD, &body, SECOND).await?;
    Ok(v2::DiagnosticsSnapshot::decode(answer).unwrap())
}

#[test]
fn a_snapshot_shows_connections_with_their_streams_and_credit() {
    on_every_transport("diagnostics", |endpoint| async move {
        let at = server(&endpoint).await;
        let mut config = LinkConfig::default();
        config.session.node = "busy".to_owned();
        let busy = connect(&at, config, Quiet).await.unwrap();
        let open = v2::StreamOpen::default();
        let stream = busy.session().open(StreamClass::Data, &open).unwrap();
        busy.session()
            .data(stream, &[7; 5000], valkyrie::End::No)
            .unwrap();
        // The answer to a later call says that the stream has arrived.
        let other = busy.call(StreamClass::Data, "a.B/C", b"", SECOND).await;
        assert_eq!(&other.unwrap()[..], b"other");
        let quiet = connect(&at, LinkConfig::default(), Quiet).await.unwrap();

        let snapshot = ask(&quiet, &v2::DiagnosticsRequest::default())
            .await
            .unwrap();
        assert_eq!(
            (snapshot.connections_open, snapshot.connections_total),
            (2, 2)
        );
        let first = &snapshot.connections[0];
        assert_eq!(first.node, "busy");
        assert_eq!((first.streams_open, first.frames_received > 2), (1, true));
        let flow = first.streams[0].flow.unwrap();
        assert_eq!((flow.received, flow.consumed), (5000, 0));
        assert!(flow.receive_limit >= 5000);
        assert_eq!(
            (first.streams[0].id, first.streams[0].state.as_str()),
            (stream.0, "open")
        );
        // The one that asks is among them, with its call.
        assert_eq!(snapshot.connections[1].calls_incoming, 1);

        let one = v2::DiagnosticsRequest {
            connections_max: 1,
            streams_max: 1,
        };
        let snapshot = ask(&quiet, &one).await.unwrap();
        assert_eq!(
            (snapshot.connections.len(), snapshot.connections_open),
            (1, 2)
        );

        busy.close(ErrorCode::NONE, Duration::ZERO);
        busy.closed().await;
        let snapshot = ask(&quiet, &v2::DiagnosticsRequest::default())
            .await
            .unwrap();
        assert_eq!(snapshot.connections_total, 2);
    });
}

#[test]
fn a_request_that_is_none_is_refused_alone() {
    on_every_transport("diagnostics-bad", |endpoint| async move {
        let at = server(&endpoint).await;
        let link = connect(&at, LinkConfig::default(), Quiet).await.unwrap();
        let class = StreamClass::System;
        let answer = link.call(class, Diagnostics::METHOD, &[0xFF], SECOND).await;
        let Err(CallError::Failed { code, .. }) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(code, ErrorCode::MALFORMED);
        ask(&link, &v2::DiagnosticsRequest::default())
            .await
            .unwrap();
    });
}
