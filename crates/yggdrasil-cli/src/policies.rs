//! Policies in a file.

use std::fs;
use std::path::Path;

use yggdrasil::{LimitTextError, Pattern, Policy};

use crate::failure::Failure;

/// Reads a file of lines such as `user:* 100/s:400` or `login 5/m`. Empty lines and those that begin with
/// `#` say nothing. The name of each policy is its pattern.
pub(crate) fn read(path: &Path) -> Result<Vec<(Pattern, Policy)>, Failure> {
    let wrong = |cause| Failure::Policies {
        path: path.to_owned(),
        cause,
    };
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    parse(&text).map_err(wrong)
}

fn parse(text: &str) -> Result<Vec<(Pattern, Policy)>, String> {
    let mut policies: Vec<(Pattern, Policy)> = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (pattern, policy) = policy(line).map_err(|cause| format!("line {number}: {cause}"))?;
        if policies.iter().any(|(other, _)| *other == pattern) {
            return Err(format!(
                "line {number}: '{}' has a limit already",
                policy.name()
            ));
        }
        policies.push((pattern, policy));
    }
    Ok(policies)
}

fn policy(line: &str) -> Result<(Pattern, Policy), String> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [pattern, limit] = words.as_slice() else {
        return Err(format!(
            "'{line}' is no policy; write KEY or PREFIX* and a rate, such as user:* 100/s:400"
        ));
    };
    if *limit == "off" {
        return Err("a policy that is off is none; leave the line out".to_owned());
    }
    let limit = limit
        .parse()
        .map_err(|error: LimitTextError| error.to_string())?;
    let policy = Policy::new(pattern, limit).map_err(|error| error.to_string())?;
    Ok((Pattern::parse(pattern.as_bytes()), policy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_policies() {
        let read = parse("# limits\n\nuser:* 100/s:400\r\n  login\t5/m  \n* 1/h").unwrap();
        let shown: Vec<_> = read
            .iter()
            .map(|(pattern, policy)| {
                let limit = policy.limit();
                assert_eq!(pattern.to_bytes(), policy.name().as_bytes());
                (policy.name(), limit.emission_ns(), limit.burst())
            })
            .collect();
        let expected = [
            ("user:*", 10_000_000, 400),
            ("login", 12_000_000_000, 5),
            ("*", 3_600_000_000_000, 1),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, said) in [
            ("a 1/s\nb", "line 2: 'b' is no policy"),
            ("a 1/s x", "line 1: 'a 1/s x' is no policy"),
            ("\n\na 1/d", "line 3: '1/d' is no rate"),
            ("a 0/s", "line 1: '0/s': "),
            ("a off", "line 1: a policy that is off is none"),
            ("a 1/s\na* 1/s\na 2/s", "line 3: 'a' has a limit already"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
