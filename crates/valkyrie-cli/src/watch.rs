//! What `valkyrie top` shows.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use valkyrie::{StreamId, v2};

use crate::style::{self, Colour};

/// Streams are shown where so many rows are left.
const ROWS_FOR_STREAMS: usize = 4;

/// Two looks at a server, and what happened between them.
#[derive(Debug)]
pub(crate) struct Moment {
    seconds: f64,
    connections_open: u32,
    connections_total: u64,
    rows: Vec<Row>,
}

/// One connection.
#[derive(Debug)]
struct Row {
    view: v2::ConnectionView,
    rates: Rates,
}

/// Per second.
#[derive(Debug, Clone, Copy, Default)]
struct Rates {
    frames_in: f64,
    frames_out: f64,
    bytes_in: f64,
    bytes_out: f64,
}

impl Moment {
    /// What changed from `before` to `now`.
    pub(crate) fn new(before: &v2::DiagnosticsSnapshot, now: &v2::DiagnosticsSnapshot) -> Self {
        let elapsed = now.time_ns.saturating_sub(before.time_ns);
        let seconds = Duration::from_nanos(elapsed).as_secs_f64();
        let old: HashMap<u64, &v2::ConnectionView> = before
            .connections
            .iter()
            .map(|view| (view.id, view))
            .collect();
        let mut rows: Vec<Row> = now
            .connections
            .iter()
            .map(|view| Row {
                rates: rates(old.get(&view.id).copied(), view, seconds),
                view: view.clone(),
            })
            .collect();
        let busy = |row: &Row| row.rates.bytes_in + row.rates.bytes_out;
        rows.sort_by(|a, b| busy(b).total_cmp(&busy(a)).then(a.view.id.cmp(&b.view.id)));
        Self {
            seconds,
            connections_open: now.connections_open,
            connections_total: now.connections_total,
            rows,
        }
    }

    /// For programs.
    pub(crate) fn to_json(&self) -> Value {
        let connections: Vec<Value> = self.rows.iter().map(Row::to_json).collect();
        json!({
            "seconds": self.seconds,
            "connections_open": self.connections_open,
            "connections_total": self.connections_total,
            "connections": connections,
        })
    }
}

impl Row {
    fn to_json(&self) -> Value {
        let view = &self.view;
        let streams: Vec<Value> = view
            .streams
            .iter()
            .map(|stream| {
                json!({ "id": stream.id, "state": stream.state, "flow": flow(stream.flow) })
            })
            .collect();
        json!({
            "id": view.id, "peer": view.peer, "node": view.node, "role": view.role,
            "age_ms": view.age_ms, "rtt_us": view.rtt_ns as f64 / 1e3, "closing": view.closing,
            "frames_sent": view.frames_sent, "frames_received": view.frames_received,
            "queued_bytes": view.queued_bytes,
            "calls_outgoing": view.calls_outgoing, "calls_incoming": view.calls_incoming,
            "streams_open": view.streams_open, "flow": flow(view.flow),
            "per_second": {
                "frames_in": self.rates.frames_in, "frames_out": self.rates.frames_out,
                "bytes_in": self.rates.bytes_in, "bytes_out": self.rates.bytes_out,
            },
            "streams": streams,
        })
    }
}

fn flow(flow: Option<v2::FlowView>) -> Value {
    let flow = flow.unwrap_or_default();
    json!({
        "sent": flow.sent, "send_limit": flow.send_limit, "received": flow.received,
        "consumed": flow.consumed, "receive_limit": flow.receive_limit,
    })
}

/// A connection that was not there before has no rate yet.
fn rates(before: Option<&v2::ConnectionView>, now: &v2::ConnectionView, seconds: f64) -> Rates {
    let Some(before) = before.filter(|_| seconds > 0.0) else {
        return Rates::default();
    };
    let per_second = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
    let (old, new) = (
        before.flow.unwrap_or_default(),
        now.flow.unwrap_or_default(),
    );
    Rates {
        frames_in: per_second(before.frames_received, now.frames_received),
        frames_out: per_second(before.frames_sent, now.frames_sent),
        bytes_in: per_second(old.received, new.received),
        bytes_out: per_second(old.sent, new.sent),
    }
}

/// The lines of the view, as many and as wide as fit.
pub(crate) fn picture(
    moment: &Moment,
    endpoint: &str,
    (columns, rows): (usize, usize),
    colour: Colour,
) -> Vec<String> {
    let shown = moment.rows.len();
    let mut lines = vec![
        colour.bold(&cut(endpoint, columns)),
        cut(&totals(moment), columns),
        String::new(),
        colour.dim(&heading(columns)),
    ];
    let room = rows.saturating_sub(lines.len()).max(1);
    let streams: usize = moment.rows.iter().map(|row| row.view.streams.len()).sum();
    let for_streams = match streams {
        0 => 0,
        _ if room < shown + ROWS_FOR_STREAMS => 0,
        some => (some + 2).min(room - shown),
    };
    let for_connections = (room - for_streams).min(shown);
    for row in moment.rows.iter().take(for_connections) {
        lines.push(connection_line(row, columns));
    }
    if for_streams > 2 {
        lines.push(String::new());
        lines.push(colour.dim(&stream_heading(columns)));
        let streams = moment.rows.iter().flat_map(|row| {
            let streams = row.view.streams.iter();
            streams.map(move |stream| stream_line(row.view.id, stream, columns))
        });
        lines.extend(
            streams
                .take(for_streams - 2)
                .map(|line| cut(&line, columns)),
        );
    }
    lines
}

fn totals(moment: &Moment) -> String {
    let sum = |of: fn(&Rates) -> f64| moment.rows.iter().map(|row| of(&row.rates)).sum::<f64>();
    let mut text = format!(
        "{} open, {} in all   in {}/s, {} fr/s   out {}/s, {} fr/s",
        moment.connections_open,
        moment.connections_total,
        style::size(sum(|rates| rates.bytes_in)),
        style::number(sum(|rates| rates.frames_in)),
        style::size(sum(|rates| rates.bytes_out)),
        style::number(sum(|rates| rates.frames_out)),
    );
    let left_out = (moment.connections_open as usize).saturating_sub(moment.rows.len());
    if left_out > 0 {
        text.push_str(&format!("   {left_out} not shown"));
    }
    text
}

/// A table's line: as many of its cells as fit, the first ones first.
fn line(cells: &[String], columns: usize) -> String {
    let mut line = String::new();
    for cell in cells {
        let space = usize::from(!line.is_empty());
        if line.chars().count() + space + cell.chars().count() > columns {
            break;
        }
        line.push_str(if space == 1 { " " } else { "" });
        line.push_str(cell);
    }
    line
}

fn heading(columns: usize) -> String {
    let peer = peer_columns(columns);
    let cells = [
        format!("{:>5}", "CONN"),
        format!("{:<peer$}", "PEER"),
        format!("{:>4}", "STRM"),
        format!("{:>4}", "CALL"),
        format!("{:>8}", "IN/S"),
        format!("{:>6}", "FR/S"),
        format!("{:>8}", "OUT/S"),
        format!("{:>6}", "FR/S"),
        format!("{:>8}", "QUEUED"),
    ];
    line(&cells, columns)
}

fn peer_columns(columns: usize) -> usize {
    // The other cells take 57 columns with the spaces between them.
    columns.saturating_sub(57).clamp(14, 40)
}

fn connection_line(row: &Row, columns: usize) -> String {
    let view = &row.view;
    let peer = peer_columns(columns);
    let name = match view.node.as_str() {
        "" => printable(&view.peer),
        node => printable(node),
    };
    let cells = [
        format!("{:>5}", view.id),
        format!("{:<peer$}", cut(&name, peer)),
        format!("{:>4}", view.streams_open),
        format!("{:>4}", view.calls_incoming + view.calls_outgoing),
        format!("{:>8}", style::size(row.rates.bytes_in)),
        format!("{:>6}", style::number(row.rates.frames_in)),
        format!("{:>8}", style::size(row.rates.bytes_out)),
        format!("{:>6}", style::number(row.rates.frames_out)),
        format!("{:>8}", style::size(view.queued_bytes as f64)),
        if view.closing { "closing" } else { "" }.to_owned(),
    ];
    line(&cells, columns)
}

fn stream_heading(columns: usize) -> String {
    let cells = [
        format!("{:>5}", "CONN"),
        format!("{:>6}", "STREAM"),
        format!("{:<6}", "CLASS"),
        format!("{:<12}", "STATE"),
        format!("{:>8}", "SENT"),
        format!("{:>8}", "CREDIT"),
        format!("{:>8}", "RECEIVED"),
        format!("{:>8}", "UNREAD"),
    ];
    line(&cells, columns)
}

fn stream_line(connection: u64, stream: &v2::StreamView, columns: usize) -> String {
    let flow = stream.flow.unwrap_or_default();
    let size = |bytes: u64| format!("{:>8}", style::size(bytes as f64));
    let cells = [
        format!("{connection:>5}"),
        format!("{:>6}", stream.id),
        format!("{:<6}", StreamId(stream.id).class().name()),
        format!("{:<12}", cut(&printable(&stream.state), 12)),
        size(flow.sent),
        size(flow.send_limit.saturating_sub(flow.sent)),
        size(flow.received),
        size(flow.received.saturating_sub(flow.consumed)),
    ];
    line(&cells, columns)
}

/// What a peer says of itself, without what a terminal would obey.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

fn cut(text: &str, columns: usize) -> String {
    match text.char_indices().nth(columns) {
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn look(time_ns: u64, moved: u64) -> v2::DiagnosticsSnapshot {
        let flow = Some(v2::FlowView {
            sent: moved / 2,
            send_limit: moved / 2 + 4096,
            received: moved,
            consumed: moved.saturating_sub(512),
            receive_limit: moved + 65536,
        });
        let connection = |id, node: &str| v2::ConnectionView {
            id,
            node: node.to_owned(),
            peer: "tcp:127.0.0.1:40000".to_owned(),
            frames_sent: moved / 64,
            frames_received: moved / 32,
            streams_open: 1,
            calls_incoming: 3,
            queued_bytes: 1500,
            flow,
            ..v2::ConnectionView::default()
        };
        let mut busy = connection(7, "a runner with quite a long name");
        busy.streams.push(v2::StreamView {
            id: 1001,
            state: "open".to_owned(),
            flow,
        });
        let mut quiet = connection(3, "");
        quiet.flow = None;
        v2::DiagnosticsSnapshot {
            time_ns,
            connections_open: 12,
            connections_total: 40,
            connections: vec![quiet, busy],
        }
    }

    fn check(size: (usize, usize), expected: Expect) {
        let moment = Moment::new(&look(0, 0), &look(2_000_000_000, 20_000_000));
        let lines = picture(&moment, "valkyrie+tcp://127.0.0.1:7443", size, Colour::Off);
        assert!(lines.len() <= size.1, "{lines:?}");
        for line in &lines {
            assert!(line.chars().count() <= size.0, "{line}");
        }
        let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
        expected.assert_eq(&(lines.join("\n") + "\n"));
    }

    #[test]
    fn the_busiest_connection_comes_first_and_streams_follow() {
        check(
            (80, 24),
            expect![[r#"
            valkyrie+tcp://127.0.0.1:7443
            12 open, 40 in all   in 9.54 MiB/s, 625 k fr/s   out 4.77 MiB/s, 312 k fr/s   10

             CONN PEER                    STRM CALL     IN/S   FR/S    OUT/S   FR/S   QUEUED
                7 a runner with quite a l    1    3 9.54 MiB  312 k 4.77 MiB  156 k 1.46 KiB
                3 tcp:127.0.0.1:40000        1    3      0 B  312 k      0 B  156 k 1.46 KiB

             CONN STREAM CLASS  STATE            SENT   CREDIT RECEIVED   UNREAD
                7   1001 data   open         9.54 MiB 4.00 KiB 19.1 MiB    512 B
        "#]],
        );
    }

    #[test]
    fn a_narrow_and_low_terminal_shows_what_fits() {
        check(
            (40, 6),
            expect![[r#"
            valkyrie+tcp://127.0.0.1:7443
            12 open, 40 in all   in 9.54 MiB/s, 625

             CONN PEER           STRM CALL     IN/S
                7 a runner with     1    3 9.54 MiB
                3 tcp:127.0.0.1:    1    3      0 B
        "#]],
        );
    }

    #[test]
    fn names_of_peers_cannot_move_the_cursor() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a?[2Jb?");
    }
}
