//! `valkyrie bench`.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use valkyrie::{
    CallError, CloseReason, End, Event, Handler, Link, SendError, StreamClass, StreamId, v2,
};

use crate::args::{BenchArgs, Measure};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::peer;
use crate::signals::Signals;
use crate::spread::Spread;
use crate::style;

/// How long one call may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Messages that are sent at once.
const BATCH: usize = 128;
/// Bytes that are sent at once.
const CHUNK: usize = 256 * 1024;

/// Wakes the sender of a stream, and hands it the answer.
struct Stream {
    writable: Rc<Notify>,
    answer: mpsc::Sender<Vec<u8>>,
}

impl Handler for Stream {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        match event {
            Event::Writable { .. } => self.writable.notify_one(),
            Event::Data { stream, bytes, .. } => {
                link.session().consume(stream, bytes.len());
                // A sink answers once, in a few bytes.
                let _ = self.answer.try_send(bytes.to_vec());
            }
            _ => {}
        }
    }

    fn closed(&mut self, _link: &Link, _reason: &CloseReason) {
        self.writable.notify_one();
    }
}

/// A connection with what its handler tells.
struct Bench<'a> {
    args: &'a BenchArgs,
    link: Link,
    writable: Rc<Notify>,
    answers: mpsc::Receiver<Vec<u8>>,
}

/// One line of the result.
struct Figure {
    name: &'static str,
    text: String,
    json: serde_json::Value,
}

/// Measures, one after the other.
///
/// # Errors
/// Nobody is there, or the server is not `valkyrie serve`.
pub(crate) async fn bench(args: &BenchArgs, out: &mut Output) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        result = measure_all(args, out) => result,
        () = signals.next() => Ok(Exit::Interrupted),
    }
}

async fn measure_all(args: &BenchArgs, out: &mut Output) -> Result<Exit, Failure> {
    let all = [
        Measure::Latency,
        Measure::Calls,
        Measure::Messages,
        Measure::Bulk,
    ];
    let wanted = if args.what.is_empty() {
        &all[..]
    } else {
        &args.what
    };
    for what in wanted {
        let writable = Rc::new(Notify::new());
        let (answer, answers) = mpsc::channel(16);
        let handler = Stream {
            writable: Rc::clone(&writable),
            answer,
        };
        let peer = peer::connect(&args.endpoint, args.timeout, handler).await?;
        let mut bench = Bench {
            args,
            link: peer.link,
            writable,
            answers,
        };
        let figure = match what {
            Measure::Latency => bench.latency().await?,
            Measure::Calls => bench.calls().await?,
            Measure::Messages => bench.messages().await?,
            Measure::Bulk => bench.bulk().await?,
        };
        peer::close(&bench.link).await;
        show(&figure, out)?;
    }
    Ok(Exit::Success)
}

fn show(figure: &Figure, out: &mut Output) -> Result<(), Failure> {
    match out.format() {
        Format::Json => {
            let mut line = serde_json::Map::new();
            line.insert("bench".to_owned(), figure.name.into());
            if let serde_json::Value::Object(fields) = &figure.json {
                line.extend(fields.clone());
            }
            out.json(&line)
        }
        Format::Text => out.text(&format!("{:<9} {}\n", figure.name, figure.text)),
    }
}

impl Bench<'_> {
    fn body(&self) -> Vec<u8> {
        vec![b'.'; self.args.size as usize]
    }

    async fn latency(&self) -> Result<Figure, Failure> {
        let body = self.body();
        let (began, mut times) = (Instant::now(), Vec::new());
        while began.elapsed() < self.args.time {
            let sent = Instant::now();
            self.echo(&body).await?;
            times.push(sent.elapsed());
        }
        let spread = Spread::of(&times).ok_or_else(|| self.lost("no call was answered"))?;
        Ok(Figure {
            name: "latency",
            text: spread.to_string(),
            json: json!({ "calls": times.len(), "bytes": body.len(), "us": spread.to_json() }),
        })
    }

    async fn calls(&self) -> Result<Figure, Failure> {
        let answered = Rc::new(Cell::new(0_u64));
        let began = Instant::now();
        let until = began + self.args.time;
        let mut callers = JoinSet::new();
        for _ in 0..self.args.in_flight {
            let (link, answered, body) = (self.link.clone(), Rc::clone(&answered), self.body());
            callers.spawn_local(async move {
                while Instant::now() < until {
                    let answer = call(&link, "demo.Echo/Say", &body).await?;
                    if answer != body {
                        return Ok(Echoed::Otherwise);
                    }
                    answered.set(answered.get() + 1);
                }
                Ok::<_, CallError>(Echoed::AsSent)
            });
        }
        while let Some(ended) = callers.join_next().await {
            match ended {
                Ok(Ok(Echoed::AsSent)) => {}
                Ok(Ok(Echoed::Otherwise)) => return Err(self.lost("an answer is not its call")),
                Ok(Err(error)) => return Err(self.lost(&error.to_string())),
                Err(error) => return Err(self.lost(&error.to_string())),
            }
        }
        let rate = answered.get() as f64 / began.elapsed().as_secs_f64();
        let in_flight = self.args.in_flight;
        Ok(Figure {
            name: "calls",
            text: format!("{}/s, {in_flight} at once", style::number(rate)),
            json: json!({ "per_second": rate, "in_flight": in_flight, "bytes": self.args.size }),
        })
    }

    async fn messages(&mut self) -> Result<Figure, Failure> {
        let body = self.body();
        let stream = self.open_sink()?;
        let began = Instant::now();
        let mut sent = 0_u64;
        while began.elapsed() < self.args.time {
            let batch = std::iter::repeat_n(body.as_slice(), BATCH);
            let count = self.link.session().send_batch(stream, batch);
            let count = count.map_err(|error| self.not_sent(&error))?;
            sent += count as u64;
            self.pause(count, BATCH).await;
        }
        let bytes = self.finish(stream).await?;
        let rate = sent as f64 / began.elapsed().as_secs_f64();
        if bytes != sent * body.len() as u64 {
            return Err(self.lost("the sink did not get what was sent"));
        }
        Ok(Figure {
            name: "messages",
            text: format!("{}/s of {} bytes", style::number(rate), body.len()),
            json: json!({ "per_second": rate, "messages": sent, "bytes": body.len() }),
        })
    }

    async fn bulk(&mut self) -> Result<Figure, Failure> {
        let chunk = bytes::Bytes::from(vec![b'.'; CHUNK]);
        let stream = self.open_sink()?;
        let began = Instant::now();
        let mut sent = 0_u64;
        while began.elapsed() < self.args.time {
            let mut left = chunk.clone();
            let count = self.link.session().data_shared(stream, &mut left, End::No);
            let count = count.map_err(|error| self.not_sent(&error))?;
            sent += count as u64;
            self.pause(count, CHUNK).await;
        }
        let bytes = self.finish(stream).await?;
        let rate = sent as f64 / began.elapsed().as_secs_f64();
        if bytes != sent {
            return Err(self.lost("the sink did not get what was sent"));
        }
        Ok(Figure {
            name: "bulk",
            text: format!("{}/s", style::size(rate)),
            json: json!({ "bytes_per_second": rate, "bytes": sent }),
        })
    }

    /// Waits for credit, or where all was sent lets the connection have its turn.
    async fn pause(&self, sent: usize, wanted: usize) {
        if sent == wanted {
            tokio::task::yield_now().await;
        } else {
            self.writable.notified().await;
        }
    }

    fn open_sink(&self) -> Result<StreamId, Failure> {
        let open = v2::StreamOpen {
            method: "demo.Sink/Put".to_owned(),
            ..v2::StreamOpen::default()
        };
        let opened = self.link.session().open(StreamClass::Data, &open);
        opened.map_err(|error| self.not_sent(&error))
    }

    /// Ends the stream; the sink says how many bytes it took.
    async fn finish(&mut self, stream: StreamId) -> Result<u64, Failure> {
        self.link.session().finish(stream);
        tokio::select! {
            Some(answer) = self.answers.recv() => {
                let number = str::from_utf8(&answer).ok().and_then(|text| text.parse().ok());
                number.ok_or_else(|| self.lost("the sink answers with something else"))
            }
            () = tokio::time::sleep(DEADLINE) => Err(self.lost("the sink does not answer")),
            reason = self.link.closed() => Err(self.lost(&reason.to_string())),
        }
    }

    async fn echo(&self, body: &[u8]) -> Result<(), Failure> {
        match call(&self.link, "demo.Echo/Say", body).await {
            Ok(answer) if answer == body => Ok(()),
            Ok(_) => Err(self.lost("an answer is not its call")),
            Err(error) => Err(self.lost(&error.to_string())),
        }
    }

    fn not_sent(&self, error: &SendError) -> Failure {
        self.lost(&error.to_string())
    }

    fn lost(&self, cause: &str) -> Failure {
        Failure::Lost {
            endpoint: self.args.endpoint.to_string(),
            cause: format!("{cause}; is it `valkyrie serve`?"),
        }
    }
}

/// What came back.
enum Echoed {
    AsSent,
    Otherwise,
}

async fn call(link: &Link, method: &str, body: &[u8]) -> Result<bytes::Bytes, CallError> {
    link.call(StreamClass::Data, method, body, DEADLINE).await
}
