//! Ordinary `tower` middleware: around a server, and around a client.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use tower::ServiceBuilder;
use valkyrie::{
    Body, Bytes, Endpoint, LocalClient, Raw, Request, Response, Router, Server, Service, Status,
    Stub,
};

async fn slow(request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(Response::new(request.into_inner()))
}

async fn run() -> Result<(), Box<dyn Error>> {
    let service = Service::new("demo.Slow", Raw).unary("Echo", slow);
    // One request at a time; the others are told to try again.
    let busy = ServiceBuilder::new().load_shed().concurrency_limit(1);
    let router = Router::new().with(service).layer(busy);
    let endpoint: Endpoint = "valkyrie+mem://middleware".parse()?;
    let server = Server::builder().listen(&endpoint, router).await?;

    let client = LocalClient::connect(&endpoint).await?;
    let stub = Stub::new(client, Raw).layer(
        ServiceBuilder::new()
            .timeout(Duration::from_millis(200))
            .map_request(|request: Request<Body>| {
                println!("calling {}", request.method());
                request
            }),
    );
    let call = || stub.unary::<_, Bytes>("demo.Slow/Echo", Request::new(Bytes::from("x")));
    let (first, second) = futures_util::future::join(call(), call()).await;
    for answer in [first, second] {
        match answer {
            Ok(_) => println!("answered"),
            Err(status) => println!("refused: {status}, {:?}", status.retry()),
        }
    }
    drop(stub);
    server.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    valkyrie::block_on(run())?
}
