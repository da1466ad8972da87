//! Another transport: offers that are none, tokens of nobody, marks without a way.

use prost::Message;
use sha2::{Digest, Sha256};
use valkyrie_frame::{ErrorCode, Flags, MessageType, features, v2};
use valkyrie_session::Session;

use crate::case::{Case, Given, given, ready};
use crate::victim::{TOKEN, joining_hello};
use crate::wire::{F, f, hello, ping, structured};

const UNEXPECTED: ErrorCode = ErrorCode::UNEXPECTED;
const MALFORMED: ErrorCode = ErrorCode::MALFORMED;

fn offer(endpoint: usize, token: usize) -> F {
    let message = v2::Upgrade {
        endpoint: "e".repeat(endpoint),
        token: vec![1; token],
        valid_ms: 1000,
        ..Default::default()
    };
    f(MessageType::UPGRADE, 0).body(message.encode_to_vec())
}

fn mark() -> F {
    f(MessageType::UPGRADE, 0).flags(Flags::ACK)
}

fn movable(what: &str) -> Case {
    ready(format!("moving/{what}")).features(features::UPGRADE)
}

/// The victim has offered, and somebody came with the token.
fn joined(session: &mut Session) {
    let valid = std::time::Duration::from_secs(9);
    session.offer_upgrade("valkyrie+mem://x", TOKEN, valid).unwrap();
    assert!(session.redeem(&TOKEN));
}

/// The victim takes the offer and leaves.
fn leaves(session: &mut Session) {
    assert!(session.leave());
}

/// An answer to the HELLO of a side that wants to move.
fn answer(change: impl FnOnce(&mut v2::HelloAck)) -> Vec<u8> {
    let mut ack = v2::HelloAck {
        version: 0x0200,
        mode: 1,
        hello_sha256: Sha256::digest(joining_hello()).to_vec(),
        random: vec![2; 32],
        ..Default::default()
    };
    change(&mut ack);
    structured(MessageType::HELLO_ACK, &ack).bytes()
}

pub fn cases() -> Vec<Case> {
    let mut cases = offers();
    cases.extend(tokens());
    cases.extend(marks());
    cases.extend(answers());
    cases
}

fn offers() -> Vec<Case> {
    let rule = "R-20.2";
    let mut cases = Vec::new();
    for (endpoint, token) in [(1, 0), (1, 31), (1, 33), (1025, 32)] {
        let case = movable(&format!("an offer of {endpoint} bytes, its token of {token}"));
        let case = case.send(offer(endpoint, token));
        cases.push(case.ends_connection(rule, MALFORMED));
    }
    cases.push(movable("an offer").send(offer(1024, 32)).keeps(rule));
    let case = movable("an offer while it moves").app(joined).send(offer(1, 32));
    cases.push(case.ends_connection(rule, UNEXPECTED));
    let case = movable("an offer that cannot be read");
    let case = case.send(f(MessageType::UPGRADE, 0).body([0xff]));
    cases.push(case.ends_connection("R-4.5", MALFORMED));
    let case = movable("21 offers").flood(21, std::time::Duration::ZERO, |_| offer(1, 32).bytes());
    cases.push(case.ends_connection("R-7.17", ErrorCode::LIMIT));
    let case = movable("an offer on a channel").send(f(MessageType::UPGRADE, 1));
    cases.push(case.ends_connection("R-4.2", ErrorCode::WRONG_RANGE));
    let case = ready("moving/an offer that was not agreed on").send(offer(1, 32));
    cases.push(case.skips("R-20.1"));
    cases
}

fn tokens() -> Vec<Case> {
    let resuming = |bytes: usize| hello(|hello| hello.resume = vec![7; bytes]);
    let mut cases = Vec::new();
    for bytes in [1, 15, 17, 31, 33] {
        let case = given(Given::Accepted, format!("moving/a token of {bytes} bytes"));
        let case = case.send(resuming(bytes));
        cases.push(case.ends_connection("R-7.8", MALFORMED));
    }
    let case = given(Given::Accepted, "moving/a token of nobody");
    let case = case.send(resuming(32)).app(Session::refuse_resume);
    cases.push(case.ends_connection("R-20.4", ErrorCode::DENIED));
    let case = given(Given::Accepted, "moving/a frame behind a token");
    let case = case.send(resuming(32)).send(hello(|_| {}));
    cases.push(case.ends_connection("R-7.1", UNEXPECTED));
    cases
}

fn marks() -> Vec<Case> {
    let rule = "R-20.6";
    let case = |what: &str| movable(what);
    vec![
        case("a mark without a way")
            .send(mark())
            .ends_connection(rule, UNEXPECTED),
        case("a mark for an offer that was not taken")
            .send(offer(1, 32))
            .send(mark())
            .ends_connection(rule, UNEXPECTED),
        case("a frame behind the mark")
            .app(joined)
            .send(mark())
            .app(Session::sends_on_new)
            .send(ping())
            .ends_connection(rule, UNEXPECTED),
        case("two marks")
            .app(joined)
            .send(mark())
            .app(Session::sends_on_new)
            .send(mark())
            .ends_connection(rule, UNEXPECTED),
        case("a frame behind the answer to a mark")
            .send(offer(1, 32))
            .app(leaves)
            .send(mark())
            .app(Session::sends_on_new)
            .send(ping())
            .ends_connection(rule, UNEXPECTED),
    ]
}

fn answers() -> Vec<Case> {
    let rule = "R-20.5";
    let to = |what: &str| given(Given::Joining, format!("moving/{what} as answer to a token"));
    vec![
        to("a PING")
            .send(ping())
            .ends_connection(rule, UNEXPECTED),
        to("bytes behind HELLO_ACK")
            .bytes([answer(|_| {}), ping().bytes()].concat())
            .ends_connection(rule, MALFORMED),
        to("half a random")
            .bytes(answer(|ack| ack.random.truncate(16)))
            .ends_connection("R-7.8", MALFORMED),
        to("the hash of another HELLO")
            .bytes(answer(|ack| ack.hello_sha256[0] ^= 1))
            .ends_connection("R-7.5", ErrorCode::DOWNGRADE),
        to("HTTP")
            .bytes(b"HTTP/1.1 400".to_vec())
            .ends_connection("R-3.1", ErrorCode::MAGIC),
        to("HELLO_ACK").bytes(answer(|_| {})).keeps(rule),
    ]
}
