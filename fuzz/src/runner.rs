//! What leaves a job: the masker against its definition, and test reports of any kind.

use std::collections::BTreeSet;
use std::rc::Rc;

use rustci_runner::limits::{REPORT_BYTES_MAX, REPORT_NAME_BYTES_MAX};
use rustci_runner::log::{MASK, Masker, Patterns, forms};
use rustci_runner::report::{Report, junit};

/// Secrets, sizes of the pieces in which a stream comes, and the stream: first a byte with the
/// number of secrets, each behind its length; then a byte with the number of sizes; then the rest.
pub(crate) fn mask(data: &[u8]) {
    let mut rest = data;
    let count = byte(&mut rest) % 4;
    let secrets: Vec<&[u8]> = (0..count).map(|_| sized(&mut rest)).collect();
    let sizes = sized(&mut rest);
    let all: BTreeSet<Vec<u8>> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    assert!(
        all.iter().all(|form| form.len() >= 4),
        "a fragment is masked"
    );
    let patterns = Patterns::new(secrets.iter().map(|secret| ("S", *secret)));
    let masked = in_pieces(Rc::new(patterns), sizes, rest);
    assert_eq!(masked, expected(&all, rest), "{secrets:?} in {rest:?}");
}

/// Any bytes as a report: nothing but lines of bounded length, and numbers that add up.
pub(crate) fn report(data: &[u8]) {
    let secret = b"hunter2".as_slice();
    let mut report = Report::new(Rc::new(Patterns::new([("S", secret)])));
    let _ = junit::read(data, &mut report);
    let totals = report.totals();
    let listed = u32::try_from(report.tests().len()).expect("a report holds 100,000 tests");
    assert_eq!(listed + report.left_out(), totals.tests);
    assert!(totals.failures + totals.errors + totals.skipped <= totals.tests);
    let mut bytes = 0;
    for test in report.tests() {
        for line in [
            &test.suite,
            &test.class,
            &test.name,
            &test.file,
            &test.message,
        ] {
            assert!(
                line.len() <= REPORT_NAME_BYTES_MAX && !line.contains('\n'),
                "{line:?}"
            );
            bytes += line.len();
        }
        let texts = [&test.name, &test.details, &test.output];
        assert!(
            !texts.iter().any(|text| text.contains("hunter2")),
            "{test:?}"
        );
        bytes += test.details.len() + test.output.len();
    }
    assert!(bytes <= REPORT_BYTES_MAX);
}

fn byte(rest: &mut &[u8]) -> u8 {
    let (first, behind) = rest.split_first().unwrap_or((&0, &[]));
    *rest = behind;
    *first
}

/// As many bytes as the byte in front says, at most 64.
fn sized<'d>(rest: &mut &'d [u8]) -> &'d [u8] {
    let length = usize::from(byte(rest) % 65).min(rest.len());
    let (part, behind) = rest.split_at(length);
    *rest = behind;
    part
}

fn in_pieces(patterns: Rc<Patterns>, sizes: &[u8], mut text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut masker = Masker::new(patterns);
    let mut sizes = sizes.iter().cycle();
    while !text.is_empty() {
        let size = sizes
            .next()
            .map_or(text.len(), |size| usize::from(*size).max(1));
        let (piece, behind) = text.split_at(size.min(text.len()));
        masker.push(piece, &mut out);
        text = behind;
    }
    masker.finish(&mut out);
    out
}

/// Marks every byte of every occurrence.
fn expected(all: &BTreeSet<Vec<u8>>, text: &[u8]) -> Vec<u8> {
    let mut hidden = vec![false; text.len()];
    for form in all {
        for (at, window) in text.windows(form.len()).enumerate() {
            if window == form.as_slice() {
                let part = hidden.iter_mut().skip(at).take(form.len());
                part.for_each(|byte| *byte = true);
            }
        }
    }
    let mut out = Vec::new();
    let mut hiding = false;
    for (byte, hidden) in text.iter().zip(hidden) {
        match (hidden, hiding) {
            (true, false) => out.extend_from_slice(MASK),
            (true, true) => {}
            (false, _) => out.push(*byte),
        }
        hiding = hidden;
    }
    out
}
