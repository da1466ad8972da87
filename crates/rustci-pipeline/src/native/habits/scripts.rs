//! Scripts that run what nobody has looked at, or something else tomorrow.

use std::ops::Range;
use std::rc::Rc;

use crate::diagnostic::Code;
use crate::report::Report;
use crate::yaml::Node;

const SHELLS: [&str; 9] = [
    "sh", "bash", "zsh", "dash", "ksh", "python", "python3", "perl", "node",
];
const LOADERS: [&str; 3] = ["curl", "wget", "fetch"];

/// Reports both in a script.
pub(super) fn check(report: &mut Report<'_>, run: &Rc<Node>) {
    let text = run.text().unwrap_or_default();
    for (start, line) in lines(text) {
        if line.trim_start().starts_with('#') {
            continue;
        }
        if let Some(part) = piped(line) {
            let at = report.within(run, shift(&part, start));
            report
                .warning(
                    Code::PIPE_TO_SHELL,
                    at,
                    "a script from the network is run unseen",
                )
                .help("download it, check its sum (`sha256sum --check`), then run it");
        }
        for part in floating(line) {
            let at = report.within(run, shift(&part, start));
            report
                .warning(
                    Code::UNPINNED,
                    at,
                    "what this fetches can be something else tomorrow",
                )
                .help("name a version, or better a digest");
        }
    }
}

fn shift(part: &Range<usize>, by: usize) -> Range<usize> {
    part.start + by..part.end + by
}

/// Lines with their places; a line that ends with a backslash goes on.
fn lines(text: &str) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    let mut start = 0;
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        end += line.len();
        if line.trim_end().ends_with('\\') {
            continue;
        }
        lines.push((start, text.get(start..end).unwrap_or_default()));
        start = end;
    }
    lines.push((start, text.get(start..end).unwrap_or_default()));
    lines
}

/// Where a line gives a shell what it loads.
fn piped(line: &str) -> Option<Range<usize>> {
    for inner in ["$(curl", "$(wget", "<(curl", "<(wget"] {
        let Some(at) = line.find(inner) else {
            continue;
        };
        let before = line.get(..at)?.trim_end_matches(['"', '\'', ' ']);
        let word = before
            .rsplit([' ', ';', '&', '|'])
            .next()
            .unwrap_or_default();
        let given = SHELLS.contains(&word) || matches!(word, "-c" | "eval" | "source" | ".");
        if given {
            return Some(at + 2..at + inner.len());
        }
    }
    let mut loader: Option<Range<usize>> = None;
    let mut start = 0;
    for part in line.split_inclusive(['|', ';', '&']) {
        let command = command(part);
        let name = command.map_or("", |command| part.get(command).unwrap_or_default());
        if LOADERS.contains(&name) {
            let at = part.find(name).unwrap_or(0) + start;
            loader = Some(at..at + name.len());
        } else if SHELLS.contains(&name) && loader.is_some() {
            return loader;
        }
        start += part.len();
        // Only a pipe hands on; two bars are none.
        if !part.ends_with('|') || part == "|" {
            loader = None;
        }
    }
    None
}

/// The name of the program that a simple command calls.
fn command(part: &str) -> Option<Range<usize>> {
    let mut start = 0;
    for word in part.split_inclusive(|c: char| c.is_whitespace()) {
        let name = word.trim_end_matches(|c: char| c.is_whitespace() || "|;&)".contains(c));
        let name = name.trim_start_matches(['(', '\\']);
        let skipped = name.is_empty()
            || matches!(
                name,
                "sudo" | "env" | "exec" | "command" | "time" | "if" | "then" | "!"
            )
            || name.starts_with('-')
            || (name.contains('=') && !name.starts_with('='));
        if !skipped {
            let at = start + word.find(name).unwrap_or(0);
            return Some(at..at + name.len());
        }
        start += word.len();
    }
    None
}

/// Words of a line that fetch whatever is the newest.
fn floating(line: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for part in line.split_inclusive(['|', ';', '&', '\n']) {
        let name = command(part)
            .and_then(|at| part.get(at))
            .unwrap_or_default();
        let second = part
            .split_whitespace()
            .skip_while(|word| *word != name)
            .nth(1);
        let ending = match (name, second) {
            ("docker" | "podman", Some("run" | "pull")) => Some(":latest"),
            ("npx" | "npm" | "go" | "pnpm" | "yarn", Some(_)) => Some("@latest"),
            _ => None,
        };
        for word in ending.into_iter().flat_map(|ending| {
            part.split_whitespace()
                .filter(move |word| word.ends_with(ending))
        }) {
            let at = start + part.find(word).unwrap_or(0);
            found.push(at..at + word.len());
        }
        start += part.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_given_to_a_shell_is_found() {
        let cases = [
            ("curl -sSf https://x | sh", true),
            ("curl https://x \\\n  | sudo -E bash -s -- -y", true),
            ("wget -qO- https://x | tar xz | sh", true),
            ("bash <(curl -s https://x)", true),
            ("sh -c \"$(curl -fsSL https://x)\"", true),
            ("VERSION=$(curl -s https://x)", false),
            ("curl https://x -o x.sh; sh x.sh", false),
            ("curl https://x | tar xz", false),
            ("curl https://x | jq . && sh build.sh", false),
            ("curl https://x -o y || sh fallback.sh", false),
            ("echo curl | sh", false),
            ("# curl https://x | sh", false),
        ];
        for (text, expected) in cases {
            let found = lines(text)
                .into_iter()
                .any(|(_, line)| !line.starts_with('#') && piped(line).is_some());
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn only_what_is_fetched_can_float() {
        let cases = [
            (
                "docker run --rm rust:latest cargo test",
                Some("rust:latest"),
            ),
            ("docker build -t app:latest .", None),
            ("docker pull app:1.2 && docker tag app:1.2 app:latest", None),
            ("npx cowsay@latest hi", Some("cowsay@latest")),
            ("go install x.org/y@v1", None),
        ];
        for (text, expected) in cases {
            let found = floating(text).into_iter().next().map(|at| &text[at]);
            assert_eq!(found, expected, "{text}");
        }
    }
}
