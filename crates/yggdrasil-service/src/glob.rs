//! Patterns of keys.

/// Whether `text` is what `pattern` describes: `*` any bytes, `?` one, `[a-c]` one of those, `[^a]` one
/// of the others, `\x` the byte itself.
///
/// Takes time proportional to the product of both lengths: only the last `*` is ever tried again.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            pattern = rest;
            again = Some((rest, text));
            continue;
        }
        match (one(pattern), text) {
            (None, []) => return true,
            (Some((is_one, rest)), [byte, others @ ..]) if is_one(*byte) => {
                (pattern, text) = (rest, others);
            }
            _ => match again {
                Some((rest, [_, others @ ..])) => {
                    (pattern, text) = (rest, others);
                    again = Some((rest, others));
                }
                _ => return false,
            },
        }
    }
}

/// What the pattern says of one byte, and the rest of it.
fn one(pattern: &[u8]) -> Option<(impl Fn(u8) -> bool, &[u8])> {
    let (kind, rest) = match pattern {
        [] => return None,
        [b'?', rest @ ..] => (Kind::Any, rest),
        [b'[', rest @ ..] => set(rest),
        [b'\\', byte, rest @ ..] | [byte, rest @ ..] => (Kind::Only(*byte), rest),
    };
    Some((move |byte| kind.has(byte), rest))
}

#[derive(Clone, Copy)]
enum Kind<'a> {
    Any,
    Only(u8),
    Set(&'a [u8]),
    NotSet(&'a [u8]),
}

/// A set behind its `[`; one without an end goes to the end of the pattern, as in Redis.
fn set(pattern: &[u8]) -> (Kind<'_>, &[u8]) {
    let (inverted, inside) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut end = 0;
    while let Some(byte) = inside.get(end) {
        match byte {
            b']' => break,
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
    let end = end.min(inside.len());
    let (set, rest) = inside.split_at(end);
    let rest = rest.strip_prefix(b"]").unwrap_or(rest);
    match inverted {
        true => (Kind::NotSet(set), rest),
        false => (Kind::Set(set), rest),
    }
}

impl Kind<'_> {
    fn has(self, byte: u8) -> bool {
        match self {
            Kind::Any => true,
            Kind::Only(only) => only == byte,
            Kind::Set(set) => is_in(set, byte),
            Kind::NotSet(set) => !is_in(set, byte),
        }
    }
}

fn is_in(mut set: &[u8], byte: u8) -> bool {
    loop {
        let (found, rest) = match set {
            [] => return false,
            [b'\\', one, rest @ ..] => (*one == byte, rest),
            [from, b'-', to, rest @ ..] => {
                let (from, to) = (from.min(to), from.max(to));
                ((*from..=*to).contains(&byte), rest)
            }
            [one, rest @ ..] => (*one == byte, rest),
        };
        if found {
            return true;
        }
        set = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "abc", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("a*b*c", "aXbYbZc", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("[\\]]", "]", true),
            ("[a", "a", true),
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("key:*:x", "key:1:2:x", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = "a*".repeat(1000) + "b";
        let text = "a".repeat(10_000);
        assert!(!matches(pattern.as_bytes(), text.as_bytes()));
    }
}
