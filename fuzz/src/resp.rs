//! The protocol of Redis, beside another parser of it.

use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;
use resp::{Limits, Parser, Reply};

const LIMITS: Limits = Limits {
    args_max: 1000,
    arg_bytes_max: 4096,
    command_bytes_max: 8192,
};

/// Commands, whole, in pieces and several at once, give the same; what another parser takes for a
/// command is one with the same arguments.
///
/// # Panics
/// Something of that does not hold.
pub(crate) fn commands(data: &[u8]) {
    let Some((first, input)) = data.split_first() else {
        return;
    };
    let piece = usize::from(first & 0x1f) + 1;
    let ahead = usize::from(first >> 5) + 1;
    let whole = parse(input, input.len().max(1), 1);
    assert_eq!(parse(input, piece, ahead), whole);
    let mut rest = input;
    for args in &whole {
        // Only commands with lengths: nobody else has lines with quotes.
        if rest.first() != Some(&b'*') {
            return;
        }
        let Ok(Some((OwnedFrame::Array(frames), used))) = decode(rest) else {
            return;
        };
        let theirs = frames.into_iter().map(|frame| match frame {
            OwnedFrame::BulkString(bytes) => Some(bytes),
            _ => None,
        });
        if let Some(theirs) = theirs.collect::<Option<Vec<_>>>() {
            assert_eq!(&theirs, args);
        }
        rest = rest.get(used..).unwrap_or_default();
    }
}

fn parse(input: &[u8], piece: usize, ahead: usize) -> Vec<Vec<Vec<u8>>> {
    let (mut parser, mut commands, mut from) = (Parser::new(), Vec::new(), 0);
    let mut end = 0;
    while end < input.len() {
        end = (end + piece).min(input.len());
        loop {
            let rest = input.get(from..end).unwrap_or_default();
            let Ok(found) = parser.parse_many(rest, &LIMITS, ahead) else {
                return commands;
            };
            if found == 0 {
                break;
            }
            for number in 0..found {
                let (args, end) = parser.command(rest, number);
                commands.push(args.iter().map(<[u8]>::to_vec).collect());
                assert!(end <= rest.len());
            }
            from += parser.command(rest, found - 1).1;
        }
    }
    commands
}

/// An answer is read the same whatever follows it, and no part of it is one.
///
/// # Panics
/// Something of that does not hold.
pub(crate) fn replies(data: &[u8]) {
    let Ok(Some((reply, used))) = Reply::parse(data, 4096) else {
        return;
    };
    let exact = data.get(..used).unwrap_or_default();
    let again = Reply::parse(exact, 4096);
    let text = |reply: &Reply| format!("{reply:?}");
    assert_eq!(
        again.map(|found| found.map(|(reply, used)| (text(&reply), used))),
        Ok(Some((text(&reply), used)))
    );
    let part = data.get(..used.saturating_sub(1)).unwrap_or_default();
    assert!(matches!(Reply::parse(part, 4096), Ok(None)));
}
