//! PINGs that ask for more answers than a connection is worth, and silence.

use std::time::Duration;

use valkyrie_frame::ErrorCode;
use valkyrie_session::Side;

use crate::case::{Case, Given, given, ready};
use crate::wire::{join, ping};

const RULE: &str = "R-14.3";
const LIMIT: ErrorCode = ErrorCode::LIMIT;
const SECOND: Duration = Duration::from_secs(1);

pub fn cases() -> Vec<Case> {
    let pings = |count: usize| join(vec![ping(); count]);
    let mut cases = vec![
        ready("pings/60 at once").bytes(pings(60)).keeps(RULE),
        ready("pings/61 at once")
            .bytes(pings(61))
            .ends_connection(RULE, LIMIT),
        ready("pings/10 a second for ten minutes")
            .flood(6000, Duration::from_millis(100), |_| ping().bytes())
            .keeps(RULE),
        ready("pings/20 a second for ten seconds")
            .flood(200, Duration::from_millis(50), |_| ping().bytes())
            .ends_connection(RULE, LIMIT),
        ready("pings/60 and another 60 after three seconds")
            .bytes(pings(60))
            .wait(SECOND * 3)
            .bytes(pings(60))
            .ends_connection(RULE, LIMIT),
    ];
    for side in [Side::Acceptor, Side::Initiator] {
        let silent = |what: &str| {
            let name = format!("pings/{what} to the {side:?}");
            given(Given::Ready(side), name).keepalive(SECOND)
        };
        // A second until it is asked, and seven timeouts of a second each before the first answer.
        cases.push(
            silent("eight seconds of silence")
                .wait(SECOND * 8)
                .ends_connection("R-14.2", ErrorCode::TIMEOUT),
        );
        cases.push(
            silent("a moment less than eight seconds of silence")
                .wait(Duration::from_millis(7999))
                .keeps("R-14.2"),
        );
        let half = ping().bytes();
        cases.push(
            silent("a frame that comes a byte an interval")
                .flood(9, SECOND, move |n| vec![half[n as usize]])
                .ends_connection("R-14.2", ErrorCode::TIMEOUT),
        );
    }
    cases
}
