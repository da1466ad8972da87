//! Spans on both ends of calls and streams.

use telemetry::otlp::{Span, SpanKind, SpanQueue, SpanReceiver, SpanStatus, Value};
use valkyrie::{
    Bytes, LocalClient, Raw, Request, Response, Server, Stub, TraceContext, Traced, TracedService,
    iter,
};

use crate::{on_every_transport, service};

const ROOT: TraceContext = TraceContext {
    trace_id: [0xA1; 16],
    parent_id: [0xB2; 8],
    flags: 1,
};

/// A traced server, a traced client of it that begins one trace in `roots` requests, and the
/// spans of both.
async fn traced(
    endpoint: &valkyrie::Endpoint,
    roots: u32,
) -> (Server, Stub<TracedService<LocalClient>, Raw>, SpanReceiver) {
    let (queue, spans) = SpanQueue::new();
    let router = service::router(&service::Probe::default());
    let router = router.layer(Traced::server(queue.clone()));
    let server = Server::builder().listen(endpoint, router).await.unwrap();
    let client = LocalClient::connect(server.endpoint()).await.unwrap();
    let layer = Traced::client(queue).roots(roots);
    (server, Stub::new(client, Raw).layer(layer), spans)
}

/// The next two spans: the client's and the server's.
async fn both(spans: &mut SpanReceiver) -> (Span, Span) {
    let mut found = Vec::new();
    while found.len() < 2 {
        found.extend(spans.take().await.unwrap());
    }
    found.sort_by_key(|span| span.kind == SpanKind::Server);
    assert_eq!(found.len(), 2, "{found:?}");
    let server = found.pop().unwrap();
    let client = found.pop().unwrap();
    assert_eq!(
        (client.kind, server.kind),
        (SpanKind::Client, SpanKind::Server)
    );
    (client, server)
}

fn attribute<'s>(span: &'s Span, name: &str) -> Option<&'s Value> {
    let found = span.attributes.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value)
}

#[test]
fn a_call_of_a_trace_has_a_span_on_each_end_and_each_is_the_parent_of_the_next() {
    on_every_transport("traced-call", |endpoint| async move {
        let (_server, stub, mut spans) = traced(&endpoint, 0).await;
        let request = Request::new(Bytes::from("x")).with_trace(ROOT);
        let _: Response<Bytes> = stub.unary("test.Probe/Echo", request).await.unwrap();
        let (client, server) = both(&mut spans).await;
        assert_eq!(
            (client.trace_id, server.trace_id),
            (ROOT.trace_id, ROOT.trace_id)
        );
        assert_eq!(client.parent_id, Some(ROOT.parent_id));
        assert_eq!(server.parent_id, Some(client.span_id));
        assert_ne!(server.span_id, client.span_id);
        assert!(client.start_ns <= client.end_ns && server.start_ns <= server.end_ns);
        for span in [client, server] {
            assert_eq!(span.name, "test.Probe/Echo");
            assert_eq!(span.status, SpanStatus::Unset);
            for (name, value) in [
                ("rpc.system", "valkyrie"),
                ("rpc.service", "test.Probe"),
                ("rpc.method", "Echo"),
            ] {
                assert_eq!(attribute(&span, name), Some(&Value::from(value)));
            }
        }
    });
}

#[test]
fn a_failure_is_the_status_of_both_spans() {
    on_every_transport("traced-fail", |endpoint| async move {
        let (_server, stub, mut spans) = traced(&endpoint, 1).await;
        let request = Request::new(Bytes::new());
        let answer = stub.unary::<_, Bytes>("test.Probe/Nothing", request).await;
        answer.unwrap_err();
        let (client, server) = both(&mut spans).await;
        assert_eq!(client.parent_id, None, "it began the trace");
        for span in [client, server] {
            let kind = Value::from("unexpected");
            assert_eq!(attribute(&span, "error.type"), Some(&kind));
            assert!(matches!(span.status, SpanStatus::Error(_)), "{span:?}");
        }
    });
}

#[test]
fn a_stream_carries_its_trace_too() {
    on_every_transport("traced-stream", |endpoint| async move {
        let (_server, stub, mut spans) = traced(&endpoint, 0).await;
        let messages = iter([Bytes::from("a"), Bytes::from("b")]);
        let request = Request::new(messages).with_trace(ROOT);
        let answer = stub
            .client_stream::<_, Bytes, _>("test.Probe/Total", request)
            .await;
        answer.unwrap();
        let (client, server) = both(&mut spans).await;
        assert_eq!(client.parent_id, Some(ROOT.parent_id));
        assert_eq!(server.parent_id, Some(client.span_id));
    });
}

#[test]
fn what_is_not_sampled_makes_no_span() {
    on_every_transport("traced-not", |endpoint| async move {
        let (_server, stub, mut spans) = traced(&endpoint, 3).await;
        let unsampled = TraceContext { flags: 0, ..ROOT };
        for _ in 0..10 {
            let request = Request::new(Bytes::new()).with_trace(unsampled);
            let _: Response<Bytes> = stub.unary("test.Probe/Echo", request).await.unwrap();
        }
        for _ in 0..7 {
            let request = Request::new(Bytes::new());
            let _: Response<Bytes> = stub.unary("test.Probe/Echo", request).await.unwrap();
        }
        // The first, fourth and seventh of those without a trace began one.
        let mut found = Vec::new();
        while found.len() < 6 {
            found.extend(spans.take().await.unwrap());
        }
        assert_eq!(found.len(), 6);
    });
}
