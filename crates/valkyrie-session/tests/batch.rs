//! Small messages taken many at a time, and long frames taken as they come.

mod pair;

use pair::{NOW, Pair, frame, leak, take};
use valkyrie_frame::{Flags, MessageType, StreamClass, StreamId};
use valkyrie_session::{End, Event, SendError, SessionConfig};

const DATA: MessageType = MessageType::STREAM_DATA;

#[test]
fn messages_of_one_stream_are_taken_at_once_and_others_end_the_batch() {
    let mut pair = Pair::new();
    let (first, second) = (pair.open(StreamClass::Data), pair.open(StreamClass::Data));
    let messages: [&[u8]; 3] = [b"a", b"bb", b"ccc"];
    assert_eq!(pair.client.send_batch(first, messages), Ok(3));
    assert_eq!(pair.client.send_batch(second, [b"x".as_slice()]), Ok(1));
    assert_eq!(
        pair.client.send_batch(first, [b"d".as_slice(), b"e"]),
        Ok(2)
    );
    let mut input = take(&mut pair.client, NOW);

    let batch = pair.server.read_batch(NOW, &mut input).unwrap();
    assert_eq!((batch.stream(), batch.len(), batch.bytes()), (first, 3, 6));
    assert!(batch.into_iter().eq(messages));
    assert_eq!(pair.server.read_batch(NOW, &mut input), None);
    let single = pair.server.read(NOW, &mut input).unwrap();
    assert!(matches!(single, Some(Event::Data { stream, .. }) if stream == second));
    let batch = pair.server.read_batch(NOW, &mut input).unwrap();
    assert!(batch.into_iter().eq([b"d", b"e"]));
    assert!(input.is_empty());
    assert_eq!(pair.server.counters().received_of(DATA), 6);
}

#[test]
fn a_batch_is_cut_where_credit_ends_and_goes_on_when_there_is_some() {
    let mut pair = Pair::small_windows();
    let stream = pair.open(StreamClass::Data);
    let message = [7; 1000];
    let all = [message.as_slice(); 10];
    assert_eq!(pair.client.send_batch(stream, all), Ok(4));
    let mut input = take(&mut pair.client, NOW);
    let batch = pair.server.read_batch(NOW, &mut input).unwrap();
    assert_eq!(batch.len(), 4);
    assert_eq!(pair.client.send_batch(stream, all), Ok(0));
    pair.server.consume(stream, batch.bytes());
    assert_eq!(pair.reach_client(), [Event::Writable { stream }]);
    assert_eq!(pair.client.send_batch(stream, all), Ok(4));

    let long = vec![0; 4000];
    let error = pair.client.send_batch(stream, [long.as_slice()]);
    assert!(matches!(error, Err(SendError::TooLarge { max: 3072, .. })));
}

#[test]
fn a_batch_over_the_window_is_judged_frame_by_frame() {
    let mut pair = Pair::small_windows();
    let stream = pair.open(StreamClass::Data);
    let bytes: Vec<u8> = (0..5)
        .flat_map(|_| frame(DATA, stream.0, Flags::NONE, &[0; 1000]))
        .collect();
    let mut input = leak(bytes);
    assert_eq!(pair.server.read_batch(NOW, &mut input), None);
    for _ in 0..4 {
        let event = pair.server.read(NOW, &mut input).unwrap();
        assert!(matches!(event, Some(Event::Data { .. })));
    }
    let event = pair.server.read(NOW, &mut input).unwrap();
    assert!(matches!(event, Some(Event::Reset { .. })));
}

#[test]
fn streams_that_do_not_take_bytes_make_no_batch() {
    let mut pair = Pair::new();
    let stream = pair.open(StreamClass::Data);
    let two = |stream: u32| {
        leak(
            [
                frame(DATA, stream, Flags::NONE, b"x"),
                frame(DATA, stream, Flags::NONE, b"y"),
            ]
            .concat(),
        )
    };
    for (stream, what) in [
        (stream.0 + 2, "not open"),
        (1001 - 1, "a channel"),
        (0, "control"),
    ] {
        assert_eq!(
            pair.server.read_batch(NOW, &mut two(stream)),
            None,
            "{what}"
        );
    }
    pair.server.reset(stream, valkyrie_frame::ErrorCode::NONE);
    assert_eq!(
        pair.server.read_batch(NOW, &mut two(stream.0)),
        None,
        "reset"
    );
}

#[test]
fn bytes_of_a_long_frame_are_given_as_they_come() {
    let mut pair = Pair::new();
    let stream = pair.open(StreamClass::Data);
    let body: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    let wire = leak(frame(DATA, stream.0, Flags::END_OF_STREAM, &body));
    let mut got = Vec::new();
    let (mut start, mut ended) = (0, false);
    for end in [10, 24, 25, 5000, 5000, 99_000, wire.len()] {
        let mut input = &wire[start..end];
        while let Some(event) = pair.server.read(NOW, &mut input).unwrap() {
            match event {
                Event::Data { bytes, .. } => got.extend_from_slice(&bytes),
                Event::Finished { .. } => ended = true,
                other => panic!("{other:?}"),
            }
        }
        start = end - input.len();
        assert_eq!(
            pair.server.expected_bytes() > 0,
            (24..wire.len()).contains(&start)
        );
        assert_eq!(ended, start == wire.len());
    }
    assert_eq!(got, body);
}

#[test]
fn the_rest_of_a_long_frame_on_a_stream_that_was_reset_is_dropped() {
    let mut pair = Pair::new();
    let stream = pair.open(StreamClass::Data);
    let wire = leak(frame(DATA, stream.0, Flags::NONE, &[1; 50_000]));
    let mut input = &wire[..1000];
    assert!(pair.server.read(NOW, &mut input).unwrap().is_some());
    pair.server.reset(stream, valkyrie_frame::ErrorCode::NONE);
    let mut input = leak(
        [
            &wire[1000..],
            &frame(MessageType::PING, 0, Flags::NONE, &[0; 8]),
        ]
        .concat(),
    );
    assert_eq!(pair.server.read(NOW, &mut input).unwrap(), None);
    assert!(input.is_empty());
    assert_eq!(pair.server.counters().received_of(MessageType::PING), 1);
}

#[test]
fn a_long_frame_has_to_be_whole_in_its_time() {
    let config = SessionConfig {
        keepalive: None,
        ..SessionConfig::default()
    };
    let mut pair = Pair::with(config.clone(), config);
    let stream = pair.open(StreamClass::Data);
    let wire = leak(frame(DATA, stream.0, Flags::NONE, &[1; 50_000]));
    let mut input = &wire[..1000];
    assert!(pair.server.read(NOW, &mut input).unwrap().is_some());
    let late = pair::seconds(34);
    pair.server.handle_timeout(late);
    let error = pair.server.read(late, &mut [].as_slice()).unwrap_err();
    assert!(error.to_string().contains("R-14.5"), "{error}");
}

#[test]
fn shared_bytes_arrive_as_copied_ones_do() {
    let mut pair = Pair::new();
    let stream = pair.open(StreamClass::Data);
    let body: Vec<u8> = (0..90_000u32).map(|n| n as u8).collect();
    let mut shared = bytes::Bytes::from(body.clone());
    assert_eq!(
        pair.client.data_shared(stream, &mut shared, End::Yes),
        Ok(90_000)
    );
    let mut got = Vec::new();
    for event in pair.reach_server() {
        if let Event::Data { bytes, .. } = event {
            got.extend_from_slice(&bytes);
        }
    }
    assert_eq!(got, body);
    assert_eq!(stream, StreamId(1001));
}
