//! `valkyrie top`.

use std::time::Duration;

use prost::Message;
use tokio::time::{MissedTickBehavior, interval};
use valkyrie::{CallError, Diagnostics, ErrorCode, Event, Handler, Link, StreamClass, v2};

use crate::args::TopArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::peer;
use crate::screen::Screen;
use crate::signals::Signals;
use crate::style::Sink;
use crate::watch::{Moment, picture};

/// How long a snapshot may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Nothing but answers is expected.
struct Quiet;

impl Handler for Quiet {
    fn event(&mut self, _link: &Link, _event: Event<'_>) {}
}

/// Shows the connections of a server until a signal ends it, or once.
///
/// # Errors
/// Nobody is there, or the server does not offer its diagnostics.
pub(crate) async fn top(args: &TopArgs, out: &mut Output) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        result = watch(args, out) => result,
        () = signals.next() => Ok(Exit::Success),
    }
}

async fn watch(args: &TopArgs, out: &mut Output) -> Result<Exit, Failure> {
    let peer = peer::connect(&args.endpoint, args.timeout, Quiet).await?;
    let live = !args.once && out.format() == Format::Text && out.sink() == Sink::Terminal;
    let mut screen = match live {
        true => Some(Screen::open()?),
        false => None,
    };
    let mut ticks = interval(args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: Option<v2::DiagnosticsSnapshot> = None;
    loop {
        ticks.tick().await;
        let snapshot = ask(&peer.link, args).await?;
        let Some(before) = last.replace(snapshot.clone()) else {
            // Rates need two looks; a terminal gets the first one meanwhile.
            if let Some(screen) = &mut screen {
                show(&snapshot, &snapshot, args, screen, out)?;
            }
            continue;
        };
        match (&mut screen, out.format()) {
            (Some(screen), _) => show(&before, &snapshot, args, screen, out)?,
            (None, Format::Json) => out.json(&Moment::new(&before, &snapshot).to_json())?,
            (None, Format::Text) => {
                let moment = Moment::new(&before, &snapshot);
                let endpoint = args.endpoint.to_string();
                let lines = picture(&moment, &endpoint, out.size(), out.colour());
                out.text(&(lines.join("\n") + "\n"))?;
            }
        }
        if args.once || (screen.is_none() && out.format() == Format::Text) {
            drop(screen);
            peer::close(&peer.link).await;
            return Ok(Exit::Success);
        }
    }
}

fn show(
    before: &v2::DiagnosticsSnapshot,
    now: &v2::DiagnosticsSnapshot,
    args: &TopArgs,
    screen: &mut Screen,
    out: &Output,
) -> Result<(), Failure> {
    let moment = Moment::new(before, now);
    let lines = picture(
        &moment,
        &args.endpoint.to_string(),
        out.size(),
        out.colour(),
    );
    screen.draw(&lines)
}

async fn ask(link: &Link, args: &TopArgs) -> Result<v2::DiagnosticsSnapshot, Failure> {
    let request = v2::DiagnosticsRequest {
        connections_max: args.connections,
        streams_max: args.streams,
    };
    let answer = link
        .call(
            StreamClass::System,
            Diagnostics::METHOD,
            &request.encode_to_vec(),
            DEADLINE,
        )
        .await;
    let body = answer.map_err(|error| failed(error, args))?;
    v2::DiagnosticsSnapshot::decode(body).map_err(|error| Failure::Input {
        what: "the answer".to_owned(),
        cause: format!("not a DiagnosticsSnapshot: {error}"),
        hint: Some("compare `valkyrie --version` with the version of the server".to_owned()),
    })
}

fn failed(error: CallError, args: &TopArgs) -> Failure {
    match error {
        CallError::Failed { code, text, .. } => Failure::Refused {
            hint: (code == ErrorCode::UNEXPECTED).then(|| {
                "the server does not offer valkyrie.v2.Diagnostics; `valkyrie serve` does"
                    .to_owned()
            }),
            code,
            text,
        },
        other => Failure::Lost {
            endpoint: args.endpoint.to_string(),
            cause: other.to_string(),
        },
    }
}
