//! A service from a `.proto` file: `proto/greeter.proto`, made into code by `build.rs`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use valkyrie::{
    Endpoint, ErrorCode, LocalClient, Receiver, Request, Response, Router, Server, Status,
    Streaming, channel, iter,
};
use valkyrie_examples::greeter::{Greeter, GreeterClient, Greeting, Person, greeter_service};

struct Polite;

fn greeting(words: &str, name: &str) -> Greeting {
    let text = format!("{words} {name}");
    Greeting { text }
}

impl Greeter for Polite {
    async fn greet(&self, request: Request<Person>) -> Result<Response<Greeting>, Status> {
        let name = request.into_inner().name;
        if name.is_empty() {
            return Err(Status::new(ErrorCode(450), "whom?"));
        }
        Ok(Response::new(greeting("Hello", &name)))
    }

    async fn greet_all(
        &self,
        request: Request<Streaming<Person>>,
    ) -> Result<Response<Greeting>, Status> {
        let (mut people, mut names) = (request.into_inner(), Vec::new());
        while let Some(person) = people.message().await? {
            names.push(person.name);
        }
        Ok(Response::new(greeting("Hello", &names.join(" and "))))
    }

    type GreetInTonguesStream = valkyrie::Iter<std::vec::IntoIter<Greeting>>;

    async fn greet_in_tongues(
        &self,
        request: Request<Person>,
    ) -> Result<Response<Self::GreetInTonguesStream>, Status> {
        let name = request.into_inner().name;
        let greetings = ["Hello", "Bonjour", "Hallo"].map(|words| greeting(words, &name));
        Ok(Response::new(iter(greetings.to_vec())))
    }

    type ConverseStream = Receiver<Greeting>;

    async fn converse(
        &self,
        request: Request<Streaming<Person>>,
    ) -> Result<Response<Self::ConverseStream>, Status> {
        let (sender, receiver) = channel(1);
        tokio::task::spawn_local(async move {
            let mut people = request.into_inner();
            while let Ok(Some(person)) = people.message().await {
                if sender
                    .send(greeting("How are you,", &person.name))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        });
        Ok(Response::new(receiver))
    }

    async fn leave(&self, request: Request<Person>) {
        println!("{} has left", request.get_ref().name);
    }
}

fn person(name: &str) -> Person {
    let name = name.to_owned();
    Person { name }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let endpoint: Endpoint = "valkyrie+mem://typed".parse()?;
    let router = Router::new().with(greeter_service(Polite));
    let server = Server::builder().listen(&endpoint, router).await?;
    let greeter = GreeterClient::new(LocalClient::connect(&endpoint).await?);

    println!("{}", greeter.greet(person("Ann")).await?.get_ref().text);
    let refused = greeter.greet(person("")).await;
    println!(
        "without a name: {}",
        refused.err().ok_or("it has to be refused")?
    );
    let both = iter([person("Ann"), person("Ben")]);
    println!("{}", greeter.greet_all(both).await?.get_ref().text);
    let mut tongues = greeter.greet_in_tongues(person("Ann")).await?.into_inner();
    while let Some(greeting) = tongues.message().await? {
        println!("{}", greeting.text);
    }
    let both = iter([person("Ann"), person("Ben")]);
    let mut answers = greeter.converse(both).await?.into_inner();
    while let Some(greeting) = answers.message().await? {
        println!("{}", greeting.text);
    }
    greeter.leave(person("Ben")).await?;
    drop(greeter);
    server.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    valkyrie::block_on(run())?
}
