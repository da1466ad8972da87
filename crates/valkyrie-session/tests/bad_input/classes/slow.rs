//! Peers that send too slowly to ever finish.

use std::time::Duration;

use valkyrie_frame::{ErrorCode, MessageType};

use crate::case::{Case, ready};
use crate::wire::{data, f, join, open, ping};

const RULE: &str = "R-14.5";
const TIMEOUT: ErrorCode = ErrorCode::TIMEOUT;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // 30 s, and a second for each 16,384 bytes of payload.
    for (payload, seconds) in [(0, 30), (8, 30), (16_383, 30), (16_384, 31), (262_144, 46)] {
        let whole = data(1001, payload).bytes();
        for part in [1, 12, 23, 24] {
            let name = format!("slow/{part} bytes of a frame of {payload}");
            // Before its length is there a frame is as short as can be.
            let seconds = if part < 16 { 30 } else { seconds };
            if part == whole.len() {
                continue;
            }
            let begun = |name: String| {
                let case = ready(name).send(open(1001));
                case.bytes(whole[..part].to_vec())
            };
            let just_before = Duration::from_millis(seconds * 1000 - 1);
            let case = begun(format!("{name} for {seconds} s"));
            let case = case.wait(Duration::from_secs(seconds));
            cases.push(case.ends_connection(RULE, TIMEOUT));
            let case = begun(format!("{name} for a moment less")).wait(just_before);
            cases.push(case.bytes(whole[part..].to_vec()).keeps(RULE));
        }
    }
    let long = join([f(MessageType::STREAM_DATA, 1001).zeros(1000)]);
    let case = ready("slow/a byte every second").send(open(1001));
    let case = case.flood(40, Duration::from_secs(1), move |n| vec![long[n as usize]]);
    cases.push(case.ends_connection(RULE, TIMEOUT));
    let whole = ping().bytes();
    let case = ready("slow/whole frames, a byte every 900 ms");
    let case = case.flood(320, Duration::from_millis(900), move |n| {
        vec![whole[n as usize % whole.len()]]
    });
    cases.push(case.keeps(RULE));
    cases
}
