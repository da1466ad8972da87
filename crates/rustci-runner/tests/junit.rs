//! Test reports as real test runners write them, and as they should not be.

#![cfg(test)]

use std::fmt::Write as _;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustci_pipeline::v1::{TestCase, TestOutcome};
use rustci_runner::limits::{REPORT_NAME_BYTES_MAX, REPORT_TESTS_MAX, REPORT_TEXT_BYTES_MAX};
use rustci_runner::log::Patterns;
use rustci_runner::report::{Report, Totals, junit};

fn read(text: &[u8]) -> (Report, String) {
    let secrets = [("S", b"hunter2-hunter2".as_slice())];
    let mut report = Report::new(Rc::new(Patterns::new(secrets)));
    let error = junit::read(text, &mut report).err();
    let error = error.map(|error| error.to_string()).unwrap_or_default();
    (report, error)
}

fn fixture(name: &str) -> Report {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/junit")
        .join(name);
    let (report, error) = read(&std::fs::read(path).unwrap());
    assert_eq!(error, "", "{name}");
    report
}

/// One line for each test, with what a person would look at.
fn lines(report: &Report) -> String {
    let mut out = String::new();
    for test in report.tests() {
        let TestCase {
            suite,
            class,
            name,
            message,
            failed_tries,
            ..
        } = test;
        let outcome = format!("{:?}", test.outcome()).to_lowercase();
        let flaky = if test.flaky { " flaky" } else { "" };
        let us = test.duration_us;
        write!(out, "{outcome}{flaky} {suite} | {class} | {name} {us}us").unwrap();
        if *failed_tries > 0 {
            write!(out, " tries+{failed_tries}").unwrap();
        }
        writeln!(out, " {message:?}").unwrap();
    }
    out
}

#[test]
fn nextest() {
    let report = fixture("nextest.xml");
    let expected = "\
passed nextest-run / shop::checkout | shop::checkout | cart::adds_an_item 12000us \"\"
failed nextest-run / shop::checkout | shop::checkout | cart::rounds_to_cents 210000us tries+1 \"thread 'cart::rounds_to_cents' panicked at src/cart.rs:41:9:\"
passed flaky nextest-run / shop::checkout | shop::checkout | net::answers_in_time 500000us tries+1 \"deadline has elapsed\"
passed nextest-run / shop::checkout | shop::checkout | slow::whole_catalogue 482000us \"\"
";
    assert_eq!(lines(&report), expected);
    let failed = &report.tests()[1];
    assert!(
        failed.details.contains(" right: 11\n\n")
            && failed.details.ends_with("second try: left: 9")
    );
    assert_eq!(failed.output, "running 1 testthread panicked");
    let expected = Totals {
        tests: 4,
        failures: 1,
        flaky: 1,
        duration_us: 1_204_000,
        ..Totals::default()
    };
    assert_eq!(report.totals(), expected);
}

#[test]
fn pytest() {
    let expected = "\
passed pytest tests / pytest | tests.test_price | test_total[eur] 1000us \"\"
failed pytest tests / pytest | tests.test_price | test_total[usd] 2000us \"AssertionError: assert 3 == 4\"
skipped pytest tests / pytest | tests.test_price | test_old 0us \"needs a printer\"
skipped pytest tests / pytest | tests.test_price | test_known_bug 0us \"issue 7\"
errored pytest tests / pytest | tests.test_db | test_query 10000us \"failed on setup with \\\"ConnectionError\\\"\"
";
    let report = fixture("pytest.xml");
    assert_eq!(lines(&report), expected);
    assert!(
        report.tests()[1]
            .details
            .contains("\n>       assert total(currency) == 4\n")
    );
}

#[test]
fn surefire() {
    let expected = "\
failed org.shop.CartTest | org.shop.CartTest | empty 1234500000us \"expected: <0> but was: <1>\"
errored org.shop.CartTest | org.shop.CartTest | full 67000us tries+1 \"java.lang.OutOfMemoryError: heap\"
skipped org.shop.CartTest | org.shop.CartTest | later 0us \"\"
";
    let report = fixture("surefire.xml");
    assert_eq!(lines(&report), expected);
    assert!(
        report.tests()[0]
            .details
            .contains("but was: <1>\n\tat org.shop")
    );
}

#[test]
fn go() {
    let expected = "\
passed example.com/shop/cart | example.com/shop/cart | TestAdd 0us \"\"
failed example.com/shop/cart | example.com/shop/cart | TestTotal/eur 0us \"Failed\"
skipped example.com/shop/cart | example.com/shop/cart | TestPrinter 0us \"=== RUN TestPrinter\"
";
    let report = fixture("go.xml");
    assert_eq!(lines(&report), expected);
    let first = &report.tests()[0];
    assert_eq!((first.file.as_str(), first.line), ("cart_test.go", 11));
}

#[test]
fn suites_inside_suites_and_texts_that_terminals_would_obey() {
    let expected = "\
passed browser / login |  | works 0us \"\"
skipped browser |  | not today 0us \"\"
passed browser |  | two & é &custom; \u{fffd}[31m 0us \"\"
failed browser |  | several 0us \"first\"
";
    let report = fixture("nested.xml");
    assert_eq!(lines(&report), expected);
    let several = &report.tests()[3];
    assert_eq!(
        (several.details.as_str(), several.output.as_str()),
        ("one\n\ntwo", "printed <b>")
    );
}

#[test]
fn what_is_no_report_is_named_and_what_was_whole_is_kept() {
    let check = |text: &[u8], tests: usize, expected: &str| {
        let (report, error) = read(text);
        assert_eq!(report.tests().len(), tests, "{error}");
        assert!(
            error.contains(expected),
            "{error:?} is not about {expected:?}"
        );
    };
    check(b"", 0, "it is empty");
    check(b" \n\xef\xbb\xbf", 0, "");
    check(b"Tests run: 3", 0, "it is not XML");
    check(b"{\"tests\": []}", 0, "it is not XML");
    check(b"<html><body/></html>", 0, "<html>");
    check(b"<testcase name='x'/>", 0, "<testcase>");
    check(
        b"<testsuite><testcase name='a'/><testcase name='b'><failure>",
        1,
        "breaks off after 1 tests",
    );
    check(
        b"<testsuite><testcase name='a'/></testsuites>",
        1,
        "breaks off after 1 tests",
    );
    check(
        b"<testsuite><testcase name='a'/><<",
        1,
        "breaks off after 1 tests",
    );
    check(b"\xff\xfe<\0t\0e\0s\0t\0", 0, "UTF-8");
    check(
        b"<testsuite>\n<testcase name='\xff\xfe'/></testsuite>",
        1,
        "",
    );
    check(
        "<testsuite>".repeat(100).as_bytes(),
        0,
        "nested more than 64",
    );
    check(&vec![b'<'; 1000], 0, "it is not XML");
}

#[test]
fn declarations_that_fetch_files_or_explode_are_refused() {
    let xxe =
        b"<?xml version='1.0'?><!DOCTYPE testsuite [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>\
        <testsuite><testcase name='&x;'/></testsuite>";
    let laughs =
        b"<!DOCTYPE l [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;'>]><testsuite name='&b;'/>";
    for text in [xxe.as_slice(), laughs] {
        let (report, error) = read(text);
        assert!(error.contains("document type declaration"), "{error}");
        assert!(report.tests().is_empty());
    }
    // Without a declaration such a name is text like any other.
    let (report, _) = read(b"<testsuite><testcase name='&x;'/></testsuite>");
    assert_eq!(report.tests()[0].name, "&x;");
}

#[test]
fn secrets_are_masked_in_every_text_also_where_it_is_cut() {
    let secret = "hunter2-hunter2";
    let filler = "x".repeat(REPORT_NAME_BYTES_MAX - 8);
    let text = format!(
        "<testsuite name='s {secret}'><testcase classname='{filler}{secret}' name='n {secret}' file='{secret}'>\
         <failure message='m {secret}'>{}{secret}{}</failure><error>{filler}{secret}</error>\
         <system-out>hunter2-<![CDATA[hunter2]]> &#104;unter2-hunter2</system-out></testcase></testsuite>",
        "y".repeat(REPORT_TEXT_BYTES_MAX / 2 - 8),
        "z".repeat(REPORT_TEXT_BYTES_MAX),
    );
    let (report, error) = read(text.as_bytes());
    assert_eq!(error, "");
    let test = &report.tests()[0];
    let whole = format!("{test:?}");
    assert!(!whole.contains("hunter"), "{whole}");
    assert_eq!(
        (test.suite.as_str(), test.message.as_str()),
        ("s ***", "m ***")
    );
    assert_eq!(test.output, "*** ***");
    assert!(test.class.len() <= REPORT_NAME_BYTES_MAX);
}

#[test]
fn too_many_tests_are_counted_and_not_kept() {
    let mut text = String::from("<testsuite name='big'>");
    for number in 0..REPORT_TESTS_MAX + 10 {
        write!(
            text,
            "<testcase name='t{number}'><failure>no</failure></testcase>"
        )
        .unwrap();
    }
    text.push_str("</testsuite>");
    let begun = Instant::now();
    let (report, error) = read(text.as_bytes());
    assert_eq!(error, "");
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(
        report.tests().len() as u32 + report.left_out(),
        report.totals().tests
    );
    assert_eq!(report.totals().failures as usize, REPORT_TESTS_MAX + 10);
    assert!(report.left_out() >= 10);
    assert_eq!(report.tests()[0].outcome(), TestOutcome::Failed);
}
