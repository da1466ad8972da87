//! Ordinary `tower` middleware around servers and clients.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Ready, join, ready};
use tower::limit::ConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower::timeout::TimeoutLayer;
use tower::util::{MapRequestLayer, ServiceExt};
use tower::{Service as TowerService, ServiceBuilder, service_fn};
use valkyrie::{
    Body, Bytes, ErrorCode, LocalClient, Raw, Request, Response, Retry, Router, Server, Status,
    Streaming, Stub,
};

use crate::{on_every_transport, service};

const SOON: Duration = Duration::from_millis(30);

/// Notes every request and how it ended, as a tracing middleware does.
#[derive(Clone)]
struct Noting<S> {
    inner: S,
    notes: Rc<RefCell<Vec<String>>>,
}

impl<S> TowerService<Request<Body>> for Noting<S>
where
    S: TowerService<Request<Body>, Response = Response<Body>>,
    S::Future: 'static,
    S::Error: 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (method, notes) = (request.method().to_owned(), Rc::clone(&self.notes));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let end = if answer.is_ok() { "ok" } else { "failed" };
            notes.borrow_mut().push(format!("{method} {end}"));
            answer
        })
    }
}

async fn serve(endpoint: &valkyrie::Endpoint, router: Router) -> (Server, LocalClient) {
    let server = Server::builder().listen(endpoint, router).await.unwrap();
    let client = LocalClient::connect(server.endpoint()).await.unwrap();
    (server, client)
}

fn one(text: &'static str) -> Request<Bytes> {
    Request::new(Bytes::from(text))
}

#[test]
fn middleware_around_a_server_sees_calls_and_streams() {
    on_every_transport("around-server", |endpoint| async move {
        let probe = service::Probe::default();
        let notes = Rc::new(RefCell::new(Vec::new()));
        let noting = Rc::clone(&notes);
        let layers = ServiceBuilder::new()
            .layer_fn(move |inner| Noting {
                inner,
                notes: Rc::clone(&noting),
            })
            .layer(TimeoutLayer::new(SOON));
        let router = service::router(&probe).layer(layers);
        let (_server, client) = serve(&endpoint, router).await;
        let stub = Stub::new(client, Raw);
        stub.unary::<_, Bytes>("test.Probe/Echo", one("a"))
            .await
            .unwrap();
        let answers = stub
            .server_stream("test.Probe/Repeat", one("3 10"))
            .await
            .unwrap();
        let mut answers: Streaming<Bytes> = answers.into_inner();
        while answers.message().await.unwrap().is_some() {}
        let status = stub
            .unary::<_, Bytes>("test.Probe/Never", one(""))
            .await
            .unwrap_err();
        assert_eq!(status.code(), ErrorCode::TIMEOUT);
        probe.dropped(1).await;
        let status = stub
            .unary::<_, Bytes>("test.Probe/Nothing", one(""))
            .await
            .unwrap_err();
        assert_eq!(status.code(), ErrorCode::UNEXPECTED);
        assert_eq!(
            *notes.borrow(),
            [
                "test.Probe/Echo ok",
                "test.Probe/Repeat ok",
                "test.Probe/Never failed",
                "test.Probe/Nothing failed",
            ]
        );
    });
}

#[test]
fn load_over_a_limit_is_shed_and_to_be_tried_again() {
    on_every_transport("shed", |endpoint| async move {
        let probe = service::Probe::default();
        let layers = ServiceBuilder::new()
            .layer(LoadShedLayer::new())
            .layer(ConcurrencyLimitLayer::new(1));
        let router = service::router(&probe).layer(layers);
        let (_server, client) = serve(&endpoint, router).await;
        let never = client.call("test.Probe/Never", one(""));
        probe.running(1).await;
        let status = client.call("test.Probe/Echo", one("")).await.unwrap_err();
        assert_eq!(status.code(), ErrorCode::OVERLOADED);
        assert!(matches!(status.retry(), Retry::After(_)));
        drop(never);
        probe.dropped(1).await;
        client.call("test.Probe/Echo", one("")).await.unwrap();
    });
}

#[test]
fn middleware_around_a_client_changes_requests_and_gives_up() {
    on_every_transport("around-client", |endpoint| async move {
        let probe = service::Probe::default();
        let (_server, client) = serve(&endpoint, service::router(&probe)).await;
        let stub = Stub::new(client, Raw)
            .layer(MapRequestLayer::new(|mut request: Request<Body>| {
                request.metadata_mut().insert("tenant", b"blue").unwrap();
                request
            }))
            .layer(TimeoutLayer::new(Duration::from_millis(200)));
        let answer: Response<Bytes> = stub.unary("test.Probe/Echo", one("a")).await.unwrap();
        assert_eq!(answer.metadata().get_str("tenant"), Some("blue"));
        let status = stub
            .unary::<_, Bytes>("test.Probe/Never", one(""))
            .await
            .unwrap_err();
        assert_eq!(status.code(), ErrorCode::TIMEOUT);
        probe.dropped(1).await;
    });
}

#[test]
fn a_client_waits_for_room_as_a_tower_service_does() {
    on_every_transport("client-room", |endpoint| async move {
        let probe = service::Probe::default();
        let (_server, client) = serve(&endpoint, service::router(&probe)).await;
        let limited = ServiceBuilder::new()
            .layer(ConcurrencyLimitLayer::new(1))
            .service(client);
        let call = |text| {
            let request = Request::new(Body::Message(Bytes::from(text)));
            let mut limited = limited.clone();
            async move {
                let service = limited.ready().await.unwrap();
                let answer = service.call(request).await;
                answer.map(|_| ())
            }
        };
        let (first, second): (Result<(), Status>, _) = join(call("a"), call("b")).await;
        assert_eq!(
            first.unwrap_err().code(),
            ErrorCode::MALFORMED,
            "there is no method"
        );
        assert!(second.is_err());
    });
}

#[test]
fn any_tower_service_serves_what_a_router_has_not() {
    on_every_transport("any", |endpoint| async move {
        let probe = service::Probe::default();
        let upper = service_fn(|request: Request<Body>| -> Ready<Result<_, Status>> {
            let (_, body) = request.into_parts();
            ready(match body {
                Body::Message(text) => {
                    let text = text.to_ascii_uppercase();
                    Ok(Response::new(Body::Message(Bytes::from(text))))
                }
                Body::Stream(messages) => Ok(Response::new(Body::Stream(messages))),
            })
        });
        let router = service::router(&probe).with_tower("test.Upper", upper);
        let (_server, client) = serve(&endpoint, router).await;
        let stub = Stub::new(client, Raw);
        let answer: Response<Bytes> = stub.unary("test.Upper/Any", one("loud")).await.unwrap();
        assert_eq!(answer.get_ref(), "LOUD");
        let messages = valkyrie::iter([Bytes::from("one"), Bytes::from("two")]);
        let answers = stub
            .bidirectional("test.Upper/All", Request::new(messages))
            .await
            .unwrap();
        let mut answers: Streaming<Bytes> = answers.into_inner();
        assert_eq!(answers.message().await.unwrap(), Some(Bytes::from("one")));
        assert_eq!(answers.message().await.unwrap(), Some(Bytes::from("two")));
        assert_eq!(answers.message().await.unwrap(), None);
        stub.unary::<_, Bytes>("test.Probe/Echo", one("a"))
            .await
            .unwrap();
    });
}
