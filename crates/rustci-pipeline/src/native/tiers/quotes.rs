//! `${NAME}` in single quotes, which a shell leaves as it is.

use std::ops::Range;
use std::rc::Rc;

use super::names::Names;
use crate::diagnostic::Code;
use crate::report::Report;
use crate::yaml::Node;

/// Warns of names that the older program would have replaced before the shell saw the script.
///
/// Here the shell does it, so that a value can never become a command.
pub(super) fn check(report: &mut Report<'_>, script: &Rc<Node>, names: &Names) {
    let text = script.text().unwrap_or_default();
    for (name, part) in quoted_names(text) {
        if !names.knows(name) || report.is_full() {
            continue;
        }
        let at = report.source().within(script, part);
        report
            .warning(
                Code::QUOTED_NAME,
                at,
                format!("`${{{name}}}` is not replaced in single quotes"),
            )
            .help("use double quotes; names are replaced by the shell, not before it");
    }
}

/// The names in braces that stand between single quotes.
fn quoted_names(text: &str) -> Vec<(&str, Range<usize>)> {
    let mut found = Vec::new();
    for quoted in quoted(text) {
        let inner = text.get(quoted.clone()).unwrap_or_default();
        let mut from = 0;
        while let Some(open) = inner.get(from..).and_then(|rest| rest.find("${")) {
            let begin = from + open;
            let rest = inner.get(begin + 2..).unwrap_or_default();
            from = begin + 2;
            let Some((name, _)) = rest.split_once('}') else {
                break;
            };
            let at = quoted.start + begin;
            found.push((name, at..at + name.len() + 3));
        }
    }
    found
}

/// What stands between single quotes. Nothing of a script in which a quote stays open: a text in
/// it (a here-document) is no shell.
fn quoted(script: &str) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut open: Option<(char, usize)> = None;
    let mut escaped = false;
    let mut comment = false;
    let mut before = '\n';
    for (index, c) in script.char_indices() {
        match (open, c) {
            (_, '\n') if comment => comment = false,
            _ if comment => {}
            _ if escaped => escaped = false,
            (None, '#') if before.is_whitespace() => comment = true,
            (None | Some(('"', _)), '\\') => escaped = true,
            (None, '\'' | '"') => open = Some((c, index + 1)),
            (Some((quote, start)), _) if c == quote => {
                if quote == '\'' {
                    parts.push(start..index);
                }
                open = None;
            }
            _ => {}
        }
        before = c;
    }
    if open.is_some() { Vec::new() } else { parts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_in_single_quotes_are_found() {
        let cases: [(&str, &[&str]); 8] = [
            ("echo '${A} ${B}' ${C}", &["A", "B"]),
            ("echo \"it's ${A}\"", &[]),
            ("echo \\'${A}\\'", &[]),
            ("echo \"${A}\" # don't\necho '${B}'", &["B"]),
            ("ssh h \"x \\\n -e A='${A}'\"", &[]),
            ("cat <<E\ndon't '${A}'\nE", &[]),
            ("echo '$A' '${' ''", &[]),
            ("x\necho \"${A}\" 'é${B}'", &["B"]),
        ];
        for (text, expected) in cases {
            let found = quoted_names(text);
            let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, expected, "{text}");
            for (name, at) in found {
                assert_eq!(&text[at], format!("${{{name}}}"));
            }
        }
    }
}
