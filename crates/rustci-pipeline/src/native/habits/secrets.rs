//! Secrets in clear text: tokens by their form, values by their names, and what looks random.

use std::ops::Range;
use std::rc::Rc;

use super::entropy::is_random;
use crate::diagnostic::Code;
use crate::native::draft::Draft;
use crate::report::Report;
use crate::shape::Binding;
use crate::yaml::Node;

/// A kind of token that is known by its beginning.
struct Token {
    begins: &'static str,
    /// Characters behind that, at least.
    length: usize,
    what: &'static str,
}

const fn token(begins: &'static str, length: usize, what: &'static str) -> Token {
    Token {
        begins,
        length,
        what,
    }
}

const TOKENS: &[Token] = &[
    token("AKIA", 16, "an AWS access key"),
    token("ASIA", 16, "an AWS access key"),
    token("ghp_", 36, "a GitHub token"),
    token("gho_", 36, "a GitHub token"),
    token("ghu_", 36, "a GitHub token"),
    token("ghs_", 36, "a GitHub token"),
    token("ghr_", 36, "a GitHub token"),
    token("github_pat_", 40, "a GitHub token"),
    token("glpat-", 20, "a GitLab token"),
    token("xoxb-", 20, "a Slack token"),
    token("xoxp-", 20, "a Slack token"),
    token("xoxa-", 20, "a Slack token"),
    token("AIza", 35, "a Google key"),
    token("sk_live_", 20, "a Stripe key"),
    token("rk_live_", 20, "a Stripe key"),
    token("npm_", 36, "an npm token"),
    token("pypi-AgEI", 40, "a PyPI token"),
    token("dckr_pat_", 20, "a Docker token"),
    token("vlk_", 60, "a RustCI token"),
];

/// Ends of names whose values are secrets.
const SECRET_NAMES: [&str; 12] = [
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SECRET",
    "TOKEN",
    "API_KEY",
    "APIKEY",
    "ACCESS_KEY",
    "SECRET_KEY",
    "PRIVATE_KEY",
    "CREDENTIALS",
    "AUTH_KEY",
];
/// Values that nobody has to hide.
const HARMLESS: [&str; 14] = [
    "test",
    "testing",
    "dummy",
    "example",
    "placeholder",
    "none",
    "null",
    "true",
    "false",
    "unused",
    "ci",
    "postgres",
    "root",
    "guest",
];
/// Parts of names whose values look random and are none.
const SUMS: [&str; 8] = [
    "SHA",
    "DIGEST",
    "CHECKSUM",
    "HASH",
    "COMMIT",
    "INTEGRITY",
    "VERSION",
    "REVISION",
];

/// Reports what looks like a secret.
pub(super) fn check(report: &mut Report<'_>, draft: &Draft) {
    variables(report, &draft.env);
    for job in &draft.jobs {
        variables(report, &job.env);
        for step in &job.steps {
            variables(report, &step.env);
            script(report, &step.run);
        }
    }
}

fn variables(report: &mut Report<'_>, bindings: &[Binding]) {
    for Binding { name, value } in bindings {
        let text = value.text().unwrap_or_default();
        // What comes from elsewhere is not in the file.
        if text.contains("${{") || text.starts_with('$') {
            continue;
        }
        let what = known(text).map(|(what, _)| format!("the value of `{name}` is {what}"));
        let what = what.or_else(|| {
            names_a_secret(name, text)
                .then(|| format!("the value of `{name}` looks like a secret in clear text"))
        });
        let random =
            || !SUMS.iter().any(|sum| name.to_uppercase().contains(sum)) && is_random(text);
        let what = what
            .or_else(|| random().then(|| format!("the value of `{name}` looks like a random key")));
        if let Some(message) = what {
            tell(report, value.at.clone(), message);
        }
    }
}

fn script(report: &mut Report<'_>, run: &Rc<Node>) {
    let text = run.text().unwrap_or_default();
    if let Some((what, part)) = known(text) {
        let at = report.within(run, part);
        tell(report, at, format!("{what} stands in this script"));
    }
}

fn tell(report: &mut Report<'_>, at: Range<usize>, message: String) {
    report.warning(Code::SECRET_IN_CLEAR, at, message).help(
        "store it with `rustci secrets set NAME`, name it in the job's `secrets`, and replace it \
         where it is valid: whoever can read the file has it",
    );
}

/// A token of a known form, and where it is.
fn known(text: &str) -> Option<(&'static str, Range<usize>)> {
    if let Some(start) = text.find("-----BEGIN ") {
        let end = text.len().min(start + 11);
        let rest = text.get(end..).unwrap_or_default();
        let line = rest.lines().next().unwrap_or_default();
        if line.contains("PRIVATE KEY-----") {
            return Some(("a private key", start..end + line.len()));
        }
    }
    TOKENS
        .iter()
        .find_map(|token| Some((token.what, of_form(text, token)?)))
        .or_else(|| Some(("a password in an address", password(text)?)))
}

/// Where a token of this kind stands.
fn of_form(text: &str, token: &Token) -> Option<Range<usize>> {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    for (start, _) in text.match_indices(token.begins) {
        let before = text.get(..start)?.chars().next_back();
        let rest = text.get(start + token.begins.len()..)?;
        let length = rest.find(|c| !inner(c)).unwrap_or(rest.len());
        let body = rest.get(..length)?;
        let made = length >= token.length && !body.to_uppercase().contains("EXAMPLE");
        let same = body.chars().all(|c| body.starts_with(c));
        if made && !same && !before.is_some_and(inner) {
            return Some(start..start + token.begins.len() + length);
        }
    }
    None
}

/// The password of an address on another machine: `scheme://user:password@host`.
fn password(text: &str) -> Option<Range<usize>> {
    for (scheme, _) in text.match_indices("://") {
        let start = scheme + 3;
        let rest = text.get(start..)?;
        let end = rest
            .find(|c: char| c.is_whitespace() || "/?#'\"".contains(c))
            .unwrap_or(rest.len());
        let authority = rest.get(..end)?;
        let Some((user, host)) = authority.rsplit_once('@') else {
            continue;
        };
        let Some((name, secret)) = user.split_once(':') else {
            continue;
        };
        let far = host.contains('.') && !host.starts_with("127.") && !host.contains("example");
        let own = !secret.is_empty() && secret != name && !secret.contains(['$', '<', '*', '{']);
        if far && own && !is_harmless(secret) {
            let at = start + name.len() + 1;
            return Some(at..at + secret.len());
        }
    }
    None
}

/// Whether a name says that its value is a secret, and the value can be one.
fn names_a_secret(name: &str, value: &str) -> bool {
    let name = name.to_uppercase();
    let named = SECRET_NAMES.iter().any(|end| name.ends_with(end));
    let number = value.len() < 4 && value.chars().all(|c| c.is_ascii_digit());
    let path = value.starts_with(['/', '~', '.']) || value.contains("://");
    let shown = value.chars().all(|c| "*xX.-<>".contains(c)) || value.contains(['<', '$']);
    named && !value.is_empty() && !number && !path && !shown && !is_harmless(value)
}

fn is_harmless(value: &str) -> bool {
    let value = value.to_lowercase();
    HARMLESS.contains(&value.as_str()) || value.contains("example") || value.contains("changeme")
}
