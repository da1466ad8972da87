//! Expressions and what they come to.

use rustci_pipeline::expr::{self, Contexts, Status};
use rustci_pipeline::template;
use serde_json::json;

fn contexts() -> Contexts {
    let mut contexts = Contexts::new()
        .with_status(Status::FAILURE)
        .with_hash_files(|patterns| {
            if patterns.contains(&"bad".to_owned()) {
                return Err("`bad` is not a pattern".to_owned());
            }
            Ok(patterns.join("+"))
        });
    contexts.set(
        "event",
        &json!({
            "name": "pull_request",
            "Number": 12,
            "labels": [{"name": "bug", "ids": [1, 2]}, {"name": "ui", "ids": [3]}],
            "empty": {},
        }),
    );
    contexts.set(
        "matrix",
        &json!({"os": "Linux", "n": 1.5, "flag": false, "none": null}),
    );
    contexts
}

/// The value as JSON, or the message of the error.
fn run(text: &str) -> String {
    let value = expr::parse(text).and_then(|expr| expr::evaluate(&expr, &contexts()));
    value.map_or_else(
        |error| error.to_string(),
        |value| value.to_json().to_string(),
    )
}

fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(run(text), *expected, "{text}");
    }
}

#[test]
fn literals_and_properties_are_read_as_on_github() {
    check(&[
        ("", "null"),
        ("0x1F", "31"),
        ("0o17", "15"),
        ("-2.5e3", "-2500"),
        (".5", "0.5"),
        ("'it''s'", r#""it's""#),
        ("NaN", "null"),
        ("event.name", r#""pull_request""#),
        ("event['name']", r#""pull_request""#),
        ("EVENT.NUMBER", "12"),
        ("event.missing.deeper", "null"),
        ("event.name.deeper", "null"),
        ("unknown", "null"),
        ("event.labels[0].name", r#""bug""#),
        ("event.labels['1'].name", r#""ui""#),
        ("event.labels[1.9].name", r#""ui""#),
        ("event.labels[-1]", "null"),
        ("event.labels.*.name", r#"["bug","ui"]"#),
        ("event.labels.*.ids.*", "[1,2,3]"),
        ("event.labels.*.missing", "[]"),
        ("event.empty.*", "[]"),
        ("event.name.*", "[]"),
        ("matrix.*", r#"["Linux",1.5,false,null]"#),
        ("fromJSON('{\"a\":[1,{\"b\":2}]}').a[1].b", "2"),
    ]);
}

#[test]
fn operators_return_what_decides() {
    check(&[
        ("!''", "true"),
        ("!!'a'", "true"),
        ("matrix.none || matrix.os", r#""Linux""#),
        ("'' && 1", r#""""#),
        ("1 && 2 && 0 && 3", "0"),
        ("0 || NaN || ''", r#""""#),
        ("false && fromJSON('x')", "false"),
        ("1 || fromJSON('x')", "1"),
        ("1 < 2 == true && !false || false", "true"),
        ("!true == false", "true"),
    ]);
}

#[test]
fn comparisons_convert_to_numbers_and_ignore_case() {
    check(&[
        ("matrix.os == 'linux'", "true"),
        ("'ß' == 'SS'", "true"),
        ("null == 0", "true"),
        ("null == ''", "true"),
        ("'' == 0", "true"),
        ("true == 1", "true"),
        ("'1.0' == 1", "true"),
        ("' 0x10 ' == 16", "true"),
        ("'a' == 0", "false"),
        ("'a' != NaN", "true"),
        ("NaN == NaN", "false"),
        ("NaN != NaN", "true"),
        ("NaN < 1 || NaN >= 1", "false"),
        ("null < 1", "true"),
        ("null <= null", "true"),
        ("'10' < '9'", "true"),
        ("'10' < 9", "false"),
        ("'B' > 'a'", "true"),
        ("event.labels == event.labels", "true"),
        ("event.labels == fromJSON(toJSON(event.labels))", "false"),
        ("event.labels < event.labels", "false"),
        ("event.labels <= event.labels", "true"),
        ("Infinity > 1e308", "true"),
    ]);
}

#[test]
fn functions_answer_as_on_github() {
    check(&[
        ("contains('Hello', 'hELL')", "true"),
        ("contains(event.labels.*.name, 'BUG')", "true"),
        ("contains(fromJSON('[1,2]'), '2')", "true"),
        ("contains(event.empty, 'x')", "false"),
        ("contains('x', event.empty)", "false"),
        ("contains(12, 2)", "true"),
        ("startsWith('Refs/x', 'refs/')", "true"),
        ("endsWith(true, 'UE')", "true"),
        ("startsWith(event.labels, 'a')", "false"),
        ("format('{0}-{1}-{0} {{x}}', 'a', 1.50)", r#""a-1.5-a {x}""#),
        ("format('{0}', event.labels)", r#""Array""#),
        ("format('{0}', event.empty)", r#""Object""#),
        ("join(event.labels.*.name, ' | ')", r#""bug | ui""#),
        ("join(event.labels.*.name)", r#""bug,ui""#),
        ("join('a', 'b')", r#""a""#),
        (
            "toJSON(event.labels[1])",
            r#""{\n  \"name\": \"ui\",\n  \"ids\": [\n    3\n  ]\n}""#,
        ),
        ("toJSON(event.empty)", r#""{}""#),
        ("toJSON('é\u{1}')", r#""\"é\\u0001\"""#),
        ("fromJSON('1e2') + 0", "unexpected `+`"),
        ("case(false, 1, true, 2, 3)", "2"),
        ("case(false, 1, 3)", "3"),
        ("hashFiles('a', 'b')", r#""a+b""#),
    ]);
}

#[test]
fn numbers_have_one_form_as_text() {
    check(&[
        ("format('{0}', 0.1)", r#""0.1""#),
        ("format('{0}', -0)", r#""0""#),
        ("format('{0}', 1e21)", r#""1e+21""#),
        ("format('{0}', 123456789012)", r#""123456789012""#),
        ("format('{0} {1}', NaN, -Infinity)", r#""NaN -Infinity""#),
    ]);
}

#[test]
fn status_functions_tell_how_things_stand() {
    check(&[
        ("success()", "false"),
        ("FAILURE()", "true"),
        ("always() && !cancelled()", "true"),
    ]);
}

#[test]
fn mistakes_say_what_is_wrong() {
    check(&[
        ("1 +", "unexpected `+`"),
        ("(1", "expression ends after `1`"),
        ("1 2", "unexpected `2`"),
        ("'a", "text has no closing `'`"),
        ("a.'b'", "unexpected `'b'`"),
        ("1.2.3", "unexpected `1.2.3`"),
        ("a-", "null"),
        ("a..b", "unexpected `.b`"),
        (
            "contains('a')",
            "too few arguments: `contains` takes at least 2, not 1",
        ),
        (
            "success(1)",
            "too many arguments: `success` takes at most 0, not 1",
        ),
        ("nope()", "unknown function `nope`"),
        (
            "case(1, 2, 3)",
            "`case` needs booleans as conditions, not number",
        ),
        (
            "case(true, 2, 3, 4)",
            "even number of arguments: `case` takes pairs and a last value",
        ),
        ("format('{0} {1}', 1)", "`format` uses {1} and has 1 values"),
        (
            "format('{', 1)",
            "`format` has a lone brace; write `{{` for `{` and `}}` for `}`",
        ),
        (
            "format('{99999999999999999999}', 1)",
            "`format` uses {99999999999999999999} and has 1 values",
        ),
        ("hashFiles('bad')", "`bad` is not a pattern"),
    ]);
    assert!(run("fromJSON('{')").starts_with("`fromJSON` got text that is not JSON: "));
}

#[test]
fn work_is_limited() {
    let doubled = (0..30).fold("'xxxxxxxxxx'".to_owned(), |inner, _| {
        format!("format('{{0}}{{0}}', {inner})")
    });
    assert_eq!(
        run(&doubled),
        "expression builds more than 524288 bytes of text"
    );
    let mut contexts = Contexts::new();
    contexts.set("list", &serde_json::Value::from(vec![0; 50_000]));
    let expr = expr::parse("contains(list, 1) || contains(list, 2) || contains(list, 3)").unwrap();
    let error = expr::evaluate(&expr, &contexts).unwrap_err();
    assert_eq!(
        error.to_string(),
        "expression takes more than 100000 operations"
    );
    let mut contexts = Contexts::new();
    contexts.set("text", &"x".repeat(500_000).into());
    let many = vec!["contains(text, 'y')"; 100].join(" || ");
    let error = expr::evaluate(&expr::parse(&many).unwrap(), &contexts).unwrap_err();
    assert_eq!(
        error.to_string(),
        "expression takes more than 100000 operations"
    );
    let template = "${{ contains(text, 'y') }}".repeat(100);
    let error = template::render(&template, &contexts).unwrap_err();
    assert_eq!(
        error.to_string(),
        "expression takes more than 100000 operations"
    );
    assert!(run(&"(".repeat(60)).contains("deeper than 50"));
    assert!(run(&format!("1{}", " == 1".repeat(60))).contains("deeper than 50"));
    assert!(run(&"a".repeat(21_001)).contains("longer than 21000 bytes"));
}

#[test]
fn what_has_no_answer_is_an_error() {
    let evaluate = |text| expr::evaluate(&expr::parse(text).unwrap(), &Contexts::new());
    assert_eq!(
        evaluate("success()").unwrap_err().to_string(),
        "`success()` only works in `if`"
    );
    let error = evaluate("hashFiles('x')").unwrap_err().to_string();
    assert_eq!(
        error,
        "`hashFiles` only works in steps, where there are files"
    );
}
