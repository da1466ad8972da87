//! A chat room: everyone has a bidirectional stream, and what one says reaches all.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Barrier;
use valkyrie::{
    Bytes, Endpoint, LocalClient, Raw, Receiver, Request, Response, Router, Sender, Server,
    Service, Status, Streaming, Stub, channel,
};

/// Messages that wait for one member; one who reads more slowly holds the room back.
const WAITING_MAX: usize = 64;

/// The members of the room.
#[derive(Clone, Default)]
struct Room {
    members: Rc<RefCell<Vec<Sender<Bytes>>>>,
}

impl Room {
    async fn say(&self, text: Bytes) {
        let members = self.members.borrow().clone();
        for member in members {
            // Who has left is forgotten below.
            let _ = member.send(text.clone()).await;
        }
    }

    async fn join(
        &self,
        request: Request<Streaming<Bytes>>,
    ) -> Result<Response<Receiver<Bytes>>, Status> {
        let name = request.metadata().get_str("name").map(str::to_owned);
        let name = name.ok_or_else(|| Status::malformed("say your name in the metadata"))?;
        let (sender, receiver) = channel(WAITING_MAX);
        self.members.borrow_mut().push(sender.clone());
        let room = self.clone();
        tokio::task::spawn_local(async move {
            room.say(format!("{name} joins").into()).await;
            let mut said = request.into_inner();
            while let Ok(Some(text)) = said.message().await {
                let text = String::from_utf8_lossy(&text).into_owned();
                room.say(format!("{name}: {text}").into()).await;
            }
            room.members
                .borrow_mut()
                .retain(|member| !member.is_same(&sender));
            room.say(format!("{name} leaves").into()).await;
        });
        Ok(Response::new(receiver))
    }
}

/// One person: says something when all are there, and shows what is heard.
async fn person(at: Endpoint, name: &'static str, all: Rc<Barrier>) -> Result<(), Status> {
    let room = Stub::new(LocalClient::connect(&at).await?, Raw);
    let (say, said) = channel(1);
    let mut request = Request::new(said);
    let named = request.metadata_mut().insert("name", name.as_bytes());
    named.map_err(|error| Status::internal(error.to_string()))?;
    let heard = room.bidirectional("demo.Chat/Join", request).await?;
    let mut heard: Streaming<Bytes> = heard.into_inner();
    let own = format!("{name} joins");
    while heard.message().await?.is_some_and(|text| text != own) {}
    all.wait().await;
    let text = format!("hello from {name}");
    let _ = say.send(text.clone().into()).await;
    let own = format!("{name}: {text}");
    while let Some(text) = heard.message().await? {
        println!("{name} hears: {}", String::from_utf8_lossy(&text));
        if text == own {
            break;
        }
    }
    all.wait().await;
    Ok(())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let room = Room::default();
    let service = Service::new("demo.Chat", Raw).bidirectional("Join", move |request| {
        let room = room.clone();
        async move { room.join(request).await }
    });
    let endpoint: Endpoint = "valkyrie+mem://chat".parse()?;
    let server = Server::builder()
        .listen(&endpoint, Router::new().with(service))
        .await?;
    let names = ["ann", "ben", "cem"];
    let all = Rc::new(Barrier::new(names.len()));
    let people = names.map(|name| person(endpoint.clone(), name, Rc::clone(&all)));
    for result in futures_util::future::join_all(people).await {
        result?;
    }
    server.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    valkyrie::block_on(run())?
}
