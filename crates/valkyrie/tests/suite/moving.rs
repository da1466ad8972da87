//! Links that go on over another transport while they are in use.

use std::time::Duration;

use telemetry::Metrics;
use tokio::sync::mpsc;
use valkyrie::{
    End, Endpoint, ErrorCode, Event, Handler, Link, LinkConfig, Meter, StreamClass, TransportKind,
    Upgrade, connect, v2,
};

use crate::service::{CLASS, Recorder, Seen, Service};
use crate::{on_every_transport, start};

const VALID: Duration = Duration::from_secs(10);

fn config(upgrade: Upgrade) -> LinkConfig {
    LinkConfig {
        upgrade,
        ..LinkConfig::default()
    }
}

/// A service that gives its links to the test.
struct Offering {
    service: Service,
    links: mpsc::UnboundedSender<Link>,
    seen: Recorder,
}

impl Handler for Offering {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        match event {
            Event::Ready(_) => self.links.send(link.clone()).unwrap(),
            event @ (Event::Moved | Event::UpgradeDeclined { .. }) => self.seen.event(link, event),
            event => self.service.event(link, event),
        }
    }
}

struct World {
    /// Of the server, as connections become ready.
    links: mpsc::UnboundedReceiver<Link>,
    /// What the server's side sees of moves.
    seen: mpsc::UnboundedReceiver<Seen>,
    at: Vec<Endpoint>,
}

/// A server at each of the endpoints.
async fn serve_at(endpoints: &[Endpoint], config: &LinkConfig) -> World {
    let (links, ready) = mpsc::unbounded_channel();
    let (seen, events) = Recorder::new();
    let mut at = Vec::new();
    for endpoint in endpoints {
        let (links, seen) = (links.clone(), seen.clone());
        let make = move |_: &Link| Offering {
            service: Service::default(),
            links: links.clone(),
            seen: seen.clone(),
        };
        at.push(start(endpoint, config.clone(), make).await);
    }
    World {
        links: ready,
        seen: events,
        at,
    }
}

fn others(name: &str, dir: &tempfile::TempDir) -> Vec<Endpoint> {
    let unix = format!("valkyrie+unix://{}/{name}-2.sock", dir.path().display());
    let all = [
        format!("valkyrie+mem://{name}-2"),
        unix,
        "valkyrie+tcp://127.0.0.1:0".to_owned(),
    ];
    all.iter().map(|text| text.parse().unwrap()).collect()
}

/// Echoes `count` bytes through a stream that stays open while `meanwhile` happens, and compares.
async fn stream_through(link: &Link, seen: &mut mpsc::UnboundedReceiver<Seen>, count: usize) {
    let sent: Vec<u8> = (0..count).map(|at| (at % 251) as u8).collect();
    let stream = link
        .session()
        .open(CLASS, &v2::StreamOpen::default())
        .unwrap();
    let (mut at, mut got) = (0, Vec::new());
    while got.len() < count {
        if at < count {
            let rest = sent.get(at..).unwrap();
            // Small pieces, so that the move happens between them.
            let piece = rest.get(..rest.len().min(10_000)).unwrap();
            at += link.session().data(stream, piece, End::No).unwrap();
            tokio::task::yield_now().await;
        }
        while let Ok(event) = seen.try_recv() {
            if let Seen::Data(bytes) = event {
                got.extend_from_slice(&bytes);
            }
        }
        if at == count && got.len() < count {
            match seen.recv().await.unwrap() {
                Seen::Data(bytes) => got.extend_from_slice(&bytes),
                Seen::Closed(reason) => panic!("closed: {reason}"),
                _ => {}
            }
        }
    }
    assert!(got == sent, "every byte once and in order");
    link.session().reset(stream, ErrorCode::NONE);
}

#[test]
fn a_stream_and_calls_go_on_while_the_link_moves_from_any_transport_to_any() {
    on_every_transport("move", async |endpoint| {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Metrics::new();
        let server = LinkConfig {
            meter: Some(Meter::new(&metrics.valkyrie)),
            ..config(Upgrade::Offer)
        };
        let mut endpoints = vec![endpoint];
        endpoints.extend(others("move", &dir));
        let mut world = serve_at(&endpoints, &server).await;
        let (recorder, mut seen) = Recorder::new();
        let link = connect(&world.at[0], config(Upgrade::Take), recorder);
        let link = link.await.unwrap();
        let far = world.links.recv().await.unwrap();
        for to in &world.at[1..] {
            let kinds: TransportKind = to.to_string().parse::<Endpoint>().unwrap().kind();
            let calls = async {
                for number in 0..200_u32 {
                    let body = number.to_be_bytes();
                    let call = link.call(StreamClass::System, "test.Echo/Say", &body, VALID);
                    assert_eq!(&call.await.unwrap()[..], body);
                }
            };
            let stream = stream_through(&link, &mut seen, 2_000_000);
            let offer = async {
                tokio::task::yield_now().await;
                far.offer_upgrade(to, VALID).unwrap();
                assert_eq!(world.seen.recv().await, Some(Seen::Moved));
            };
            tokio::join!(calls, stream, offer);
            assert_eq!(
                (far.peer().transport(), link.peer().transport()),
                (kinds, kinds)
            );
            let active = format!(
                "valkyrie_connections_active{{transport=\"{}\",security=\"plaintext\"}} 1",
                kinds.name()
            );
            assert!(metrics.encode().contains(&active), "{active}");
        }
        link.close(ErrorCode::NONE, Duration::ZERO);
        assert_eq!(link.closed().await.label(), "closed");
        assert_eq!(far.closed().await.label(), "closed");
    });
}

#[test]
fn an_offer_that_leads_nowhere_is_declined_and_the_link_stays() {
    on_every_transport("move-nowhere", async |endpoint| {
        let mut world = serve_at(&[endpoint], &config(Upgrade::Offer)).await;
        let (recorder, _seen) = Recorder::new();
        let link = connect(&world.at[0], config(Upgrade::Take), recorder);
        let link = link.await.unwrap();
        let far = world.links.recv().await.unwrap();
        let nobody: Endpoint = "valkyrie+mem://nobody-is-here".parse().unwrap();
        for _ in 0..2 {
            far.offer_upgrade(&nobody, VALID).unwrap();
            let declined = Seen::Declined(ErrorCode::UNREACHABLE);
            assert_eq!(world.seen.recv().await, Some(declined));
        }
        let answer = link.call(StreamClass::System, "test.Echo/Say", b"on", VALID);
        assert_eq!(&answer.await.unwrap()[..], b"on");
    });
}

#[test]
fn who_does_not_want_to_move_is_not_moved() {
    on_every_transport("move-never", async |endpoint| {
        let mut world = serve_at(&[endpoint], &config(Upgrade::Offer)).await;
        for (upgrade, expected) in [(Upgrade::Never, None), (Upgrade::Offer, Some(()))] {
            let (recorder, _seen) = Recorder::new();
            let link = connect(&world.at[0], config(upgrade), recorder);
            let _link = link.await.unwrap();
            let far = world.links.recv().await.unwrap();
            let offered = far.offer_upgrade(&world.at[0], VALID).ok();
            assert_eq!(offered, expected, "{upgrade:?}");
            if offered.is_some() {
                let declined = Seen::Declined(ErrorCode::DENIED);
                assert_eq!(world.seen.recv().await, Some(declined));
            }
        }
    });
}

#[test]
fn a_stranger_with_a_token_is_turned_away_and_the_session_does_not_notice() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use valkyrie::frame::{ErrorPayload, Frame, FrameLimits, MessageType};

    on_every_transport("move-stranger", async |endpoint| {
        let mut world = serve_at(&[endpoint], &config(Upgrade::Offer)).await;
        let (recorder, _seen) = Recorder::new();
        let link = connect(&world.at[0], config(Upgrade::Take), recorder);
        let link = link.await.unwrap();
        let far = world.links.recv().await.unwrap();
        let nowhere: Endpoint = "valkyrie+mem://nobody-is-here".parse().unwrap();
        far.offer_upgrade(&nowhere, VALID).unwrap();
        let guess = link.session().joining(&[0x11; 32], [1; 32]);
        let mut connection = valkyrie_transport::connect(&world.at[0]).await.unwrap();
        connection.write_all(guess.hello()).await.unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await.unwrap();
        let frame = Frame::parse(&mut answer.as_slice(), FrameLimits::DEFAULT);
        let frame = frame.unwrap().unwrap();
        assert_eq!(frame.header.kind, MessageType::ERROR);
        let error = ErrorPayload::parse(frame.body).unwrap();
        assert_eq!(error.code, ErrorCode::DENIED);
        let answer = link.call(StreamClass::System, "test.Echo/Say", b"on", VALID);
        assert_eq!(&answer.await.unwrap()[..], b"on");
    });
}
