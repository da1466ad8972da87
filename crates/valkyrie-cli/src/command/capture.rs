//! `valkyrie capture`.

use std::future::pending;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::task::spawn_local;
use tokio::time::{MissedTickBehavior, interval, sleep};
use valkyrie::listen;

use crate::args::CaptureArgs;
use crate::capture::{Proxy, Recorder, Summary, run};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output, complain};
use crate::signals::Signals;
use crate::style;

/// How long recorded packets may stay in memory: others read the file while it is written.
const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// Records until a signal, `--for` or an error ends it.
///
/// # Errors
/// The file cannot be written, or nobody can connect.
pub(crate) async fn capture(args: &CaptureArgs, out: &mut Output) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let listener = listen(&args.listen).await?;
    let at = listener.endpoint().to_string();
    let comment = format!("{at} > {}", args.to);
    let recorder = Recorder::create(&args.write, &comment, args.max_size)
        .map_err(|cause| writing(&args.write, cause))?;
    announce(args, &at, out)?;
    let proxy = Proxy {
        listener,
        to: args.to.clone(),
        recorder: recorder.clone(),
    };
    let flusher = spawn_local(flush_often(recorder.clone()));
    let result = tokio::select! {
        result = run(proxy) => result.map_err(|error| Failure::io("accept")(io::Error::other(error))),
        error = recorder.failure() => Err(writing(&args.write, error)),
        () = signals.next() => Ok(()),
        () = end_of(args.time) => Ok(()),
    };
    flusher.abort();
    recorder.flush();
    result?;
    tell(recorder.summary(), args, out)?;
    Ok(Exit::Success)
}

async fn flush_often(recorder: Recorder) {
    let mut ticks = interval(FLUSH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        recorder.flush();
    }
}

async fn end_of(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => pending().await,
    }
}

fn writing(file: &Path, cause: io::Error) -> Failure {
    if file == Path::new("-") && cause.kind() == io::ErrorKind::BrokenPipe {
        return Failure::OutputClosed;
    }
    Failure::io(format!("write {}", file.display()))(cause)
}

/// Says where to connect. On standard error when standard output is the capture.
fn announce(args: &CaptureArgs, at: &str, out: &mut Output) -> Result<(), Failure> {
    let to_stdout = args.write == Path::new("-");
    if out.format() == Format::Json && !to_stdout {
        return out.json(&json!({ "listen": at, "to": args.to.to_string(), "file": args.write }));
    }
    let text = format!(
        "recording {at}\n  passed on to {}\n  written to   {}\n  end it with Ctrl-C\n",
        args.to,
        match to_stdout {
            true => "standard output".into(),
            false => args.write.to_string_lossy(),
        },
    );
    match to_stdout {
        true => {
            complain(&text);
            Ok(())
        }
        false => out.text(&text),
    }
}

fn tell(summary: Summary, args: &CaptureArgs, out: &mut Output) -> Result<(), Failure> {
    let Summary {
        connections,
        passed,
        written,
        cut,
    } = summary;
    let to_stdout = args.write == Path::new("-");
    if out.format() == Format::Json && !to_stdout {
        return out.json(&json!({
            "connections": connections, "passed_bytes": passed, "file_bytes": written,
            "complete": !cut,
        }));
    }
    let mut text = format!(
        "{connections} {}, {} passed on, {} recorded\n",
        if connections == 1 {
            "connection"
        } else {
            "connections"
        },
        style::size(passed as f64),
        style::size(written as f64),
    );
    if cut {
        text.push_str("the end is missing: the file has reached --max-size\n");
    }
    match to_stdout {
        true => {
            complain(&text);
            Ok(())
        }
        false => out.text(&text),
    }
}
