//! The four ways of calling, and messages that want no answer.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use valkyrie::{
    Bytes, Endpoint, LocalClient, Raw, Request, Response, Router, Server, Service, Status,
    Streaming, Stub, channel, iter,
};

/// One request, one answer.
async fn upper(request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
    let text = request.get_ref().to_ascii_uppercase();
    Ok(Response::new(text.into()))
}

/// Many requests, one answer.
async fn count(request: Request<Streaming<Bytes>>) -> Result<Response<Bytes>, Status> {
    let (mut words, mut letters) = (0, 0);
    let mut messages = request.into_inner();
    while let Some(word) = messages.message().await? {
        words += 1;
        letters += word.len();
    }
    Ok(Response::new(
        format!("{words} words, {letters} letters").into(),
    ))
}

/// One request, many answers.
async fn letters(request: Request<Bytes>) -> Result<Response<valkyrie::Receiver<Bytes>>, Status> {
    let word = request.into_inner();
    let (sender, receiver) = channel(4);
    tokio::task::spawn_local(async move {
        for at in 0..word.len() {
            if sender.send(word.slice(at..=at)).await.is_err() {
                return;
            }
        }
    });
    Ok(Response::new(receiver))
}

/// Many of both.
async fn echo(request: Request<Streaming<Bytes>>) -> Result<Response<Streaming<Bytes>>, Status> {
    Ok(Response::new(request.into_inner()))
}

/// No answer.
async fn note(request: Request<Bytes>) {
    println!("noted: {}", String::from_utf8_lossy(request.get_ref()));
}

async fn run() -> Result<(), Box<dyn Error>> {
    let service = Service::new("demo.Words", Raw)
        .unary("Upper", upper)
        .client_stream("Count", count)
        .server_stream("Letters", letters)
        .bidirectional("Echo", echo)
        .one_way("Note", note);
    let endpoint: Endpoint = "valkyrie+mem://ways".parse()?;
    let server = Server::builder()
        .listen(&endpoint, Router::new().with(service))
        .await?;
    let words = Stub::new(LocalClient::connect(&endpoint).await?, Raw);
    let text = |text: &'static str| Request::new(Bytes::from(text));

    let answer: Response<Bytes> = words.unary("demo.Words/Upper", text("hello")).await?;
    println!("upper: {}", String::from_utf8_lossy(answer.get_ref()));

    let some = Request::new(iter(["some", "words"].map(Bytes::from)));
    let answer: Response<Bytes> = words.client_stream("demo.Words/Count", some).await?;
    println!("count: {}", String::from_utf8_lossy(answer.get_ref()));

    let answers = words
        .server_stream("demo.Words/Letters", text("abc"))
        .await?;
    let mut answers: Streaming<Bytes> = answers.into_inner();
    while let Some(letter) = answers.message().await? {
        println!("letter: {}", String::from_utf8_lossy(&letter));
    }

    let (sender, receiver) = channel(4);
    let answers = words
        .bidirectional("demo.Words/Echo", Request::new(receiver))
        .await?;
    let mut answers: Streaming<Bytes> = answers.into_inner();
    for word in ["to", "and", "fro"] {
        sender.send(Bytes::from(word)).await?;
        let back = answers.message().await?.unwrap_or_default();
        println!("echo: {}", String::from_utf8_lossy(&back));
    }
    drop(sender);

    words
        .one_way("demo.Words/Note", text("no answer needed"))
        .await?;
    drop(words);
    server.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    valkyrie::block_on(run())?
}
