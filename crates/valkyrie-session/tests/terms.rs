//! NEGOTIATE: other terms for a connection that is ready.

#![allow(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

mod pair;

use std::time::Duration;

use prost::Message;
use valkyrie_frame::{ErrorCode, Flags, MessageType, StreamClass, features, v2};
use valkyrie_session::{End, Event, Proposal, SendError};

use pair::*;

/// One proposal through acceptance; both sides hear of it.
fn settle(pair: &mut Pair, proposal: Proposal) {
    pair.client.negotiate(proposal).unwrap();
    assert!(matches!(pair.reach_server()[..], [Event::Renegotiated(_)]));
    assert!(matches!(pair.reach_client()[..], [Event::Renegotiated(_)]));
}

fn negotiate(wire: &v2::Negotiate) -> &'static [u8] {
    let body = wire.encode_to_vec();
    leak(frame(MessageType::NEGOTIATE, 0, Flags::NONE, &body))
}

#[test]
fn a_feature_is_switched_off_and_on_again_at_both_ends() {
    let mut pair = Pair::new();
    let status = v2::StatusUpdate::default();
    for (bits, works) in [(0, false), (features::OBSERVE, true)] {
        let proposal = Proposal {
            features: Some(bits),
            ..Proposal::default()
        };
        settle(&mut pair, proposal);
        for session in [&mut pair.client, &mut pair.server] {
            assert_eq!(session.has_feature(features::OBSERVE), works);
            assert_eq!(session.update_status(&status).is_ok(), works);
        }
        let expected = usize::from(works);
        assert_eq!(
            (pair.reach_server().len(), pair.reach_client().len()),
            (expected, expected)
        );
    }
}

#[test]
fn what_is_to_be_off_is_not_used_from_the_proposal_on() {
    let mut pair = Pair::new();
    let off = Proposal {
        features: Some(0),
        ..Proposal::default()
    };
    pair.client.negotiate(off).unwrap();
    let kind = MessageType::STATUS_UPDATE;
    let sent = pair.client.update_status(&v2::StatusUpdate::default());
    assert_eq!(sent, Err(SendError::NotAgreed { kind }));
    // The server does not know yet; what it says is skipped, and the credit still adds up.
    pair.server
        .update_status(&v2::StatusUpdate::default())
        .unwrap();
    assert_eq!(pair.reach_client(), []);
    pair.reach_server();
    assert!(matches!(pair.reach_client()[..], [Event::Renegotiated(_)]));
}

#[test]
fn limits_grow_and_an_interval_changes() {
    let mut pair = Pair::new();
    let proposal = Proposal {
        keepalive: Some(Duration::from_secs(3)),
        frame_max: Some(65_536),
        streams_max: Some(5_000),
        ..Proposal::default()
    };
    settle(&mut pair, proposal);
    let limits = pair.server.agreement().unwrap().limits;
    assert_eq!((limits.frame_max(), limits.streams_max()), (65_536, 5_000));
    assert_eq!(pair.client.poll_timeout(), Some(seconds(3)));
    assert_eq!(pair.server.poll_timeout(), Some(seconds(3)));
    let long = frame(MessageType::PING, 0, Flags::NONE, &[0; 8]);
    assert_eq!(give(&mut pair.client, NOW, leak(long)), []);
    let long = frame(MessageType(0x90), 1001, Flags::NONE, &vec![0; 65_537]);
    let error = read_to_error(&mut pair.client, leak(long));
    assert_eq!(error.code(), ErrorCode::TOO_LARGE);
}

#[test]
fn an_acceptance_stands_behind_everything_sent_before_it_and_nothing_waits_for_it() {
    let mut pair = Pair::new();
    let stream = pair.open(StreamClass::Data);
    pair.client.data(stream, &[1; 100_000], End::No).unwrap();
    let proposal = Proposal {
        frame_max: Some(65_536),
        ..Proposal::default()
    };
    pair.server.negotiate(proposal).unwrap();
    pair.reach_client();
    pair.client.data(stream, &[2; 100_000], End::No).unwrap();
    let said = frames(take(&mut pair.client, NOW));
    let at = said
        .iter()
        .position(|frame| frame.header.kind == MessageType::NEGOTIATE);
    let (before, behind) = said.split_at(at.unwrap());
    let bytes = |frames: &[valkyrie_frame::Frame<'_>], value: u8| {
        let bodies = frames.iter().map(|frame| frame.body);
        bodies.flatten().filter(|byte| **byte == value).count()
    };
    assert_eq!((bytes(before, 1), bytes(before, 2)), (100_000, 0));
    assert_eq!(bytes(behind, 2), 100_000);
}

#[test]
fn what_may_not_change_is_refused_and_nothing_changes() {
    let limits = |limits: v2::Limits| v2::Negotiate {
        limits: Some(limits),
        ..Default::default()
    };
    let default = v2::Limits::default();
    let cases = [
        v2::Negotiate {
            features: Some(features::UPGRADE | features::OBSERVE),
            ..Default::default()
        },
        v2::Negotiate {
            keepalive_ms: Some(999),
            ..Default::default()
        },
        limits(v2::Limits {
            connection_window: 8 << 20,
            ..default.clone()
        }),
        limits(v2::Limits {
            class_window: vec![1 << 20; 4],
            ..default.clone()
        }),
        limits(v2::Limits {
            frame_max: 65_535,
            ..default.clone()
        }),
        limits(v2::Limits {
            frame_max: 262_145,
            ..default.clone()
        }),
        limits(v2::Limits {
            message_max: 1 << 20,
            ..default.clone()
        }),
        limits(v2::Limits {
            streams_max: 1,
            ..default.clone()
        }),
        limits(v2::Limits {
            calls_max: 1,
            ..default
        }),
    ];
    let mut pair = Pair::new();
    let before = pair.server.agreement().cloned();
    for (number, mut wire) in (1..).zip(cases) {
        wire.number = number;
        assert_eq!(give(&mut pair.server, NOW, negotiate(&wire)), []);
        let said = frames(take(&mut pair.server, NOW));
        let answer = v2::Negotiate::decode(said[0].body).unwrap();
        assert_eq!((answer.number, answer.answer), (number, 2));
        assert!(!answer.text.is_empty());
        assert_eq!(pair.server.agreement().cloned(), before);
    }
}

#[test]
fn of_two_proposals_that_cross_the_initiators_holds() {
    let mut pair = Pair::new();
    let off = Proposal {
        features: Some(0),
        ..Proposal::default()
    };
    let on = Proposal {
        features: Some(features::OBSERVE),
        ..Proposal::default()
    };
    pair.client.negotiate(off).unwrap();
    pair.server.negotiate(on).unwrap();
    let to_server = take(&mut pair.client, NOW);
    assert_eq!(pair.reach_client(), []);
    assert!(matches!(
        give(&mut pair.server, NOW, to_server)[..],
        [Event::Renegotiated(_)]
    ));
    assert!(matches!(pair.reach_client()[..], [Event::Renegotiated(_)]));
    assert!(matches!(
        pair.reach_server()[..],
        [Event::ProposalRefused { .. }]
    ));
    assert!(!pair.client.has_feature(features::OBSERVE));
    assert!(!pair.server.has_feature(features::OBSERVE));
}

#[test]
fn a_second_proposal_waits_for_the_answer_to_the_first() {
    let mut pair = Pair::new();
    let proposal = Proposal {
        calls_max: Some(4096),
        ..Proposal::default()
    };
    pair.client.negotiate(proposal).unwrap();
    assert_eq!(pair.client.negotiate(proposal), Err(SendError::Full));
    pair.reach_server();
    pair.reach_client();
    assert_eq!(pair.client.negotiate(proposal), Ok(()));
}

#[test]
fn proposals_and_answers_out_of_their_turn_end_the_connection() {
    let wire = |number, answer| v2::Negotiate {
        number,
        answer,
        ..Default::default()
    };
    for (wire, rule, code) in [
        (wire(2, 0), "R-7.14", ErrorCode::UNEXPECTED),
        (wire(0, 0), "R-7.14", ErrorCode::UNEXPECTED),
        (wire(1, 1), "R-7.14", ErrorCode::UNEXPECTED),
        (wire(1, 2), "R-7.14", ErrorCode::UNEXPECTED),
        (wire(1, 3), "R-7.14", ErrorCode::MALFORMED),
    ] {
        let error = read_to_error(&mut Pair::new().server, negotiate(&wire));
        assert_eq!(error.code(), code);
        assert!(error.to_string().contains(rule), "{error}");
    }
    let misplaced = frame(MessageType::NEGOTIATE, 1, Flags::NONE, b"");
    let error = read_to_error(&mut Pair::new().server, leak(misplaced));
    assert_eq!(error.code(), ErrorCode::WRONG_RANGE);
    let garbage = frame(MessageType::NEGOTIATE, 0, Flags::NONE, b"\xFF");
    let error = read_to_error(&mut Pair::new().server, leak(garbage));
    assert_eq!(error.code(), ErrorCode::MALFORMED);
}

#[test]
fn a_flood_of_proposals_ends_the_connection() {
    let mut flood = Vec::new();
    for number in 1..=21 {
        let wire = v2::Negotiate {
            number,
            ..Default::default()
        };
        flood.extend_from_slice(negotiate(&wire));
    }
    let error = read_to_error(&mut Pair::new().server, leak(flood));
    assert_eq!(error.code(), ErrorCode::LIMIT);
    assert!(error.to_string().contains("R-7.17"), "{error}");
}
