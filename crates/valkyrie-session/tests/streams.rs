//! Streams, credit, jobs, logs, files.

#![allow(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

mod pair;

use std::time::Duration;

use valkyrie_frame::{
    Correlation, ErrorCode, FileStart, Flags, LogChannel, LogRecord, MessageType, StreamAck,
    StreamClass, StreamId, v2,
};
use valkyrie_session::{End, Event, SendError};

use pair::*;

#[test]
fn stream_data_stops_at_the_credit_and_goes_on_when_it_comes_back() {
    let mut pair = Pair::small_windows();
    let stream = pair.open(StreamClass::Data);
    assert_eq!(
        pair.client.data(stream, &[1; 10_000], End::Yes).unwrap(),
        4096
    );
    assert_eq!(pair.client.data(stream, &[1; 100], End::No).unwrap(), 0);
    let got: usize = pair.reach_server().iter().map(data_len).sum();
    assert_eq!(got, 4096);
    assert_eq!(
        pair.reach_client(),
        [],
        "nothing is given back before the application took it"
    );
    pair.server.consume(stream, 1023);
    assert_eq!(pair.reach_client(), []);
    pair.server.consume(stream, 1);
    assert_eq!(pair.reach_client(), [Event::Writable { stream }]);
    assert_eq!(pair.client.data(stream, &[2; 500], End::Yes).unwrap(), 500);
    let status = ErrorCode::NONE;
    let events = pair.reach_server();
    assert_eq!(data_len(&events[0]), 500);
    assert_eq!(
        events[1],
        Event::Finished {
            stream,
            status,
            envelope: None
        }
    );
    pair.server.finish(stream);
    assert_eq!(
        pair.reach_client(),
        [Event::Finished {
            stream,
            status,
            envelope: None
        }]
    );
    assert_eq!(
        (pair.client.streams_open(), pair.server.streams_open()),
        (0, 0)
    );
    assert_eq!(
        pair.client.data(stream, b"x", End::No),
        Err(SendError::UnknownStream { stream })
    );
}

#[test]
fn an_unread_stream_does_not_hold_up_the_others() {
    let mut pair = Pair::small_windows();
    let streams: Vec<_> = (0..32).map(|_| pair.open(StreamClass::Data)).collect();
    // 32 times the stream window is twice the connection window; nothing is ever consumed.
    let mut sent = 0;
    for _ in 0..4 {
        for stream in &streams {
            let count = pair.client.data(*stream, &[0; 4096], End::No).unwrap();
            sent += count;
        }
        pair.reach_server();
        pair.reach_client();
    }
    assert_eq!(sent, 32 * 4096);
}

#[test]
fn a_reset_crosses_data_and_the_id_is_free_only_when_both_ends_came() {
    let mut pair = Pair::new();
    let stream = pair.open(StreamClass::Data);
    pair.client.data(stream, b"under way", End::No).unwrap();
    pair.server.reset(stream, ErrorCode::OVERLOADED);
    assert_eq!(
        pair.server.streams_open(),
        1,
        "late frames must find their stream"
    );
    let reset = take(&mut pair.server, NOW);
    assert_eq!(
        pair.reach_server(),
        [],
        "the application hears nothing of a stream it has reset"
    );
    let code = ErrorCode::OVERLOADED;
    assert_eq!(
        give(&mut pair.client, NOW, reset),
        [Event::Reset { stream, code }]
    );
    assert_eq!(pair.client.streams_open(), 0);
    assert_eq!(pair.reach_server(), []);
    assert_eq!(pair.server.streams_open(), 0);
    assert!(pair.server.is_ready() && pair.client.is_ready());
}

#[test]
fn a_job_request_longer_than_its_window_opens_a_stream() {
    let mut pair = Pair::new();
    let attempt = Some(ATTEMPT);
    let spec = vec![5; 200_000];
    let request = v2::JobRequest {
        attempt,
        spec,
        ..Default::default()
    };
    let stream = pair.server.job_request(&request).unwrap();
    assert_eq!(stream, StreamId(102));
    let mut events = Vec::new();
    for _ in 0..8 {
        events.extend(pair.reach_client());
        pair.reach_server();
    }
    let [
        Event::Job {
            kind: MessageType::JOB_REQUEST,
            body,
            end: End::No,
            ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(
        <v2::JobRequest as prost::Message>::decode(&body[..]).unwrap(),
        request
    );
}

const ATTEMPT: v2::Attempt = v2::Attempt {
    job: 7,
    number: 1,
    fence: 3,
};

#[test]
fn a_job_runs_from_request_to_acknowledged_completion() {
    let mut pair = Pair::new();
    let attempt = Some(ATTEMPT);
    let request = v2::JobRequest {
        attempt,
        ..Default::default()
    };
    let stream = pair.server.job_request(&request).unwrap();
    pair.reach_client();
    let kind = MessageType::JOB_ACCEPT;
    pair.client
        .job(stream, kind, &v2::JobAccept { attempt }, End::No)
        .unwrap();
    assert!(matches!(
        pair.reach_server()[..],
        [Event::Job {
            kind: MessageType::JOB_ACCEPT,
            ..
        }]
    ));
    let kind = MessageType::JOB_COMPLETE;
    let complete = v2::JobComplete {
        attempt,
        log_bytes: 12,
        ..Default::default()
    };
    pair.client.job(stream, kind, &complete, End::Yes).unwrap();
    let said = take(&mut pair.client, NOW);
    assert!(
        frames(said)[0]
            .header
            .flags
            .contains(Flags::ACK_REQUESTED | Flags::END_OF_STREAM)
    );
    let events = give(&mut pair.server, NOW, said);
    let [
        Event::Job {
            correlation,
            end: End::Yes,
            ..
        },
    ] = events[..]
    else {
        panic!("{events:?}")
    };
    pair.server
        .ack(stream, kind, correlation, End::Yes)
        .unwrap();
    assert_eq!(pair.reach_client(), [Event::JobAcked { stream, kind }]);
    assert_eq!(
        (pair.client.streams_open(), pair.server.streams_open()),
        (0, 0)
    );
}

#[test]
fn a_stale_fence_is_refused_on_the_stream() {
    let mut pair = Pair::new();
    let stream = pair.server.job_request(&v2::JobRequest::default()).unwrap();
    pair.reach_client();
    let progress = v2::JobProgress::default();
    pair.client
        .job(stream, MessageType::JOB_PROGRESS, &progress, End::No)
        .unwrap();
    pair.reach_server();
    pair.server.error(
        stream,
        Correlation::NONE,
        ErrorCode::STALE_FENCE,
        "fence 3, newest is 4",
    );
    pair.server.reset(stream, ErrorCode::STALE_FENCE);
    let events = pair.reach_client();
    assert!(matches!(
        &events[..],
        [
            Event::PeerError {
                code: ErrorCode::STALE_FENCE,
                ..
            },
            Event::Reset {
                code: ErrorCode::STALE_FENCE,
                ..
            },
        ]
    ));
}

#[test]
fn a_log_resumes_at_the_durable_offset() {
    let mut pair = Pair::new();
    let open = v2::StreamOpen {
        method: "rustci.v1.Log/Append".into(),
        ..Default::default()
    };
    let stream = pair.client.open(StreamClass::Logs, &open).unwrap();
    assert_eq!(stream, StreamId(10001));
    let batch = records(1000, 80);
    let early = pair.client.log(stream, 0, &batch);
    assert_eq!(early, Err(SendError::NoCredit { stream }));
    assert!(matches!(pair.reach_server()[..], [Event::Opened { .. }]));
    pair.server.accept(stream, 5000);
    let events = pair.reach_client();
    assert_eq!(
        events[0],
        Event::Accepted {
            stream,
            consumed: 5000
        }
    );
    assert_eq!(events[1], Event::Writable { stream });
    let gap = pair.client.log(stream, 0, &batch);
    assert_eq!(
        gap,
        Err(SendError::Offset {
            stream,
            found: 0,
            expected: 5000
        })
    );
    assert_eq!(
        pair.client.log(stream, 5000, &batch[1..]),
        Err(SendError::NotRecords)
    );
}

#[test]
fn a_log_arrives_in_order_and_what_is_durable_is_told_even_with_the_end() {
    let mut pair = Pair::new();
    let stream = pair.open(StreamClass::Logs);
    let batch = records(1000, 80);
    pair.client.log(stream, 0, &batch).unwrap();
    let mut next = 0;
    for event in pair.reach_server() {
        let Event::Log {
            offset, records, ..
        } = event
        else {
            panic!("{event:?}")
        };
        assert_eq!(offset, next);
        next += records.len() as u64;
    }
    assert_eq!(next, batch.len() as u64);
    pair.server.log_durable(stream, next - 95);
    let limit = next - 95 + 1024 * 1024;
    assert_eq!(
        pair.reach_client(),
        [Event::LogDurable {
            stream,
            offset: next - 95,
            limit
        }]
    );
    pair.client.finish(stream);
    assert_eq!(
        pair.reach_server(),
        [Event::Finished {
            stream,
            status: ErrorCode::NONE,
            envelope: None,
        }]
    );
    pair.server.log_durable(stream, next);
    pair.server.finish(stream);
    let last = pair.reach_client();
    assert!(
        matches!(last[..], [Event::LogDurable { offset, .. }, Event::Finished { .. }] if offset == next)
    );
}

#[test]
fn a_log_never_passes_its_credit_and_a_gap_is_refused() {
    let mut pair = Pair::small_windows();
    let stream = pair
        .client
        .open(StreamClass::Logs, &v2::StreamOpen::default())
        .unwrap();
    pair.reach_server();
    pair.server.accept(stream, 0);
    pair.reach_client();
    let limit = pair.client.log_credit(stream);
    assert!(limit <= 65_536 && limit > 60_000, "{limit}");
    let batch = records(600, 85);
    pair.client.log(stream, 0, &batch).unwrap();
    let more = pair.client.log(stream, batch.len() as u64, &batch);
    assert_eq!(more, Err(SendError::NoCredit { stream }));
    pair.reach_server();
    pair.server.log_durable(stream, batch.len() as u64);
    let events = pair.reach_client();
    assert!(events.contains(&Event::Writable { stream }), "{events:?}");
    pair.client
        .log(stream, batch.len() as u64, &batch[..1000])
        .unwrap();

    let mut body = 99u64.to_be_bytes().to_vec();
    body.extend(records(1, 1));
    let wrong = frame(MessageType::LOG_ENTRY, stream.0, Flags::NONE, &body);
    let events = give(&mut pair.server, NOW, leak(wrong));
    assert_eq!(
        events,
        [Event::Reset {
            stream,
            code: ErrorCode::MALFORMED
        }]
    );
}

#[test]
fn a_file_resumes_where_it_was_verified_and_is_acknowledged_when_stored() {
    let mut pair = Pair::small_windows();
    let stream = pair.open(StreamClass::Data);
    let file: Vec<u8> = (0..50_000u32).map(|i| (i % 251) as u8).collect();
    let start = FileStart {
        id: [1; 16],
        size: 50_000,
        digest: [2; 32],
        name: "src.tar",
    };
    // The side that did not open the stream sends.
    pair.server.file_start(stream, &start).unwrap();
    assert_eq!(
        pair.server.file_chunk(stream, 0, &file),
        Err(SendError::NoCredit { stream })
    );
    let events = pair.reach_client();
    assert!(
        matches!(&events[..], [Event::FileStart { size: 50_000, name, .. }] if name == "src.tar")
    );
    let begin = 12_345;
    pair.client.file_verified(stream, begin);
    let events = pair.reach_server();
    assert!(events.contains(&Event::FileVerified {
        stream,
        offset: begin
    }));
    let (mut at, mut got) = (begin as usize, begin as usize);
    while at < file.len() || got < file.len() {
        at += pair
            .server
            .file_chunk(stream, at as u64, &file[at..])
            .unwrap();
        for event in pair.reach_client() {
            let Event::FileChunk { offset, bytes, .. } = event else {
                panic!("{event:?}")
            };
            assert_eq!((offset, bytes), (got as u64, &file[got..got + bytes.len()]));
            got += bytes.len();
        }
        pair.client.file_verified(stream, got as u64);
        pair.reach_server();
    }
    pair.server
        .file_complete(stream, [2; 32], End::Yes)
        .unwrap();
    let digest = [2; 32];
    assert_eq!(
        pair.reach_client(),
        [Event::FileComplete { stream, digest }]
    );
    let kind = MessageType::FILE_TRANSFER_COMPLETE;
    pair.client
        .ack(stream, kind, Correlation::NONE, End::Yes)
        .unwrap();
    assert_eq!(pair.reach_server(), [Event::FileAcked { stream }]);
    assert_eq!(
        (pair.client.streams_open(), pair.server.streams_open()),
        (0, 0)
    );
}

#[test]
fn an_honest_heavy_load_trips_no_guard() {
    let mut pair = Pair::new();
    for round in 0..20u64 {
        pair.now = NOW + Duration::from_millis(50 * round);
        for _ in 0..400 {
            let stream = pair.server.job_request(&v2::JobRequest::default()).unwrap();
            pair.reach_client();
            let complete = v2::JobComplete::default();
            let kind = MessageType::JOB_COMPLETE;
            pair.client.job(stream, kind, &complete, End::Yes).unwrap();
            pair.reach_server();
            pair.server
                .ack(stream, kind, Correlation::NONE, End::Yes)
                .unwrap();
            assert!(matches!(pair.reach_client()[..], [Event::JobAcked { .. }]));
        }
    }
    assert!(pair.client.is_ready() && pair.server.is_ready());
    assert_eq!(
        pair.client.counters().errors_total + pair.server.counters().errors_total,
        0
    );
}

#[test]
fn credit_for_the_connection_is_one_frame_per_batch() {
    let mut pair = Pair::new();
    let stream = pair.open(StreamClass::Data);
    for _ in 0..5 {
        let mut sent = 0;
        while sent < 1_000_000 {
            let count = pair
                .client
                .data(stream, &vec![0; 200_000], End::No)
                .unwrap();
            sent += count;
            pair.reach_server();
            pair.server.consume(stream, count);
            pair.reach_client();
        }
    }
    let acks = pair.client.counters().received_of(MessageType::STREAM_ACK);
    assert!(acks <= 35, "{acks} acknowledgements for 25 batches");
    let ack = StreamAck {
        consumed: 1,
        limit: 2,
    };
    let mut body = Vec::new();
    ack.append(&mut body);
    let stale = frame(MessageType::STREAM_ACK, 0, Flags::NONE, &body);
    assert_eq!(give(&mut pair.client, NOW, leak(stale)), []);
}

fn data_len(event: &Event<'_>) -> usize {
    match event {
        Event::Data { bytes, .. } => bytes.len(),
        _ => 0,
    }
}

fn records(count: usize, bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..count {
        let line = vec![b'x'; bytes];
        let record = LogRecord {
            unix_ns: 1,
            step: 0,
            channel: LogChannel::STDOUT,
            bytes: &line,
        };
        record.append(&mut out).unwrap();
    }
    out
}

#[test]
fn a_last_message_that_waits_for_credit_still_ends_its_stream() {
    let mut pair = Pair::small_windows();
    let stream = pair.server.job_request(&v2::JobRequest::default()).unwrap();
    pair.reach_client();
    let result = vec![1; 50_000];
    let complete = v2::JobComplete {
        result,
        ..Default::default()
    };
    let kind = MessageType::JOB_COMPLETE;
    pair.client
        .job(stream, MessageType::JOB_PROGRESS, &complete, End::No)
        .unwrap();
    pair.client.job(stream, kind, &complete, End::Yes).unwrap();
    let mut events = Vec::new();
    for _ in 0..60 {
        events.extend(pair.reach_server());
        pair.reach_client();
    }
    let [
        Event::Job { end: End::No, .. },
        Event::Job { end: End::Yes, .. },
    ] = events[..]
    else {
        panic!("{}", events.len());
    };
    assert_eq!(pair.client.streams_open(), 1);
    pair.server
        .ack(stream, kind, Correlation::NONE, End::Yes)
        .unwrap();
    pair.reach_client();
    assert_eq!(pair.client.streams_open(), 0);
    assert!(pair.client.is_idle() && pair.server.is_idle());
}

#[test]
fn a_file_or_log_that_ends_before_its_beginning_is_known_ends_well() {
    let mut pair = Pair::new();
    let data = pair.open(StreamClass::Data);
    let start = FileStart {
        id: [1; 16],
        size: 100,
        digest: [2; 32],
        name: "f",
    };
    pair.client.file_start(data, &start).unwrap();
    let log = pair
        .client
        .open(StreamClass::Logs, &v2::StreamOpen::default())
        .unwrap();
    pair.client.finish(data);
    pair.client.finish(log);
    let bytes = take(&mut pair.client, NOW);
    let mut rest = bytes;
    let mut ended = Vec::new();
    while let Some(event) = pair.server.read(NOW, &mut rest).unwrap() {
        match event {
            Event::FileStart { stream, .. } => pair.server.file_verified(stream, 50),
            Event::Opened { stream, .. } => pair.server.accept(stream, 1000),
            Event::Finished { stream, status, .. } => ended.push((stream, status)),
            other => panic!("{other:?}"),
        }
    }
    ended.sort();
    assert_eq!(ended, [(data, ErrorCode::NONE), (log, ErrorCode::NONE)]);
}

#[test]
fn streams_that_cross_a_close_are_refused_and_nothing_else() {
    let mut pair = Pair::new();
    pair.server.close(ErrorCode::NONE, Duration::from_secs(60));
    // The client has not seen the CLOSE; three hundred at once is honest haste.
    let open = v2::StreamOpen::default();
    for _ in 0..300 {
        pair.client.open(StreamClass::Data, &open).unwrap();
    }
    assert_eq!(pair.reach_server(), []);
    let refused = Event::Reset {
        stream: StreamId(1001),
        code: ErrorCode::DRAINING,
    };
    let events = pair.reach_client();
    assert!(events.contains(&refused), "{events:?}");
    pair.reach_server();
    for session in [&pair.client, &pair.server] {
        assert_eq!((session.streams_open(), session.failure()), (0, None));
    }
}

#[test]
fn a_job_that_is_taken_back_before_it_could_be_sent_leaves_nothing_behind() {
    let mut pair = Pair::small_windows();
    // The connection's credit is used up, and the server says nothing yet.
    for _ in 0..32 {
        pair.client
            .message(StreamClass::Jobs, "a/M", &[0; 4096])
            .unwrap();
        let stream = pair
            .client
            .open(StreamClass::Data, &v2::StreamOpen::default())
            .unwrap();
        pair.client.data(stream, &[0; 4096], End::No).unwrap();
    }
    let request = v2::JobRequest {
        spec: vec![1; 100],
        ..Default::default()
    };
    let before = pair.client.streams_open();
    let job = pair.client.job_request(&request).unwrap();
    pair.client.reset(job, ErrorCode::NONE);
    assert_eq!(pair.client.streams_open(), before);
    for _ in 0..64 {
        let jobs = |event: &Event<'_>| matches!(event, Event::Job { .. } | Event::Reset { .. });
        assert!(!pair.reach_server().iter().any(jobs));
        pair.reach_client();
    }
    // Its place in the class was never given away, so the next job has it.
    pair.client.job_request(&request).unwrap();
    let jobs = |event: &Event<'_>| matches!(event, Event::Job { .. });
    assert!(pair.reach_server().iter().any(jobs));
}
