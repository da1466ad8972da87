//! The masker against its definition: every byte of every occurrence of every form is hidden.

use proptest::prelude::*;

use super::*;

fn patterns(values: &[&[u8]]) -> Rc<Patterns> {
    Rc::new(Patterns::new(values.iter().map(|value| ("S", *value))))
}

fn run(patterns: &Rc<Patterns>, chunks: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut masker = Masker::new(Rc::clone(patterns));
    for chunk in chunks {
        masker.push(chunk, &mut out);
    }
    masker.finish(&mut out);
    out
}

fn text(patterns: &Rc<Patterns>, chunks: &[&[u8]]) -> String {
    String::from_utf8(run(patterns, chunks)).unwrap()
}

/// The definition, without any cleverness: mark every byte of every occurrence.
fn expected<'f>(forms: impl IntoIterator<Item = &'f Vec<u8>>, text: &[u8]) -> Vec<u8> {
    let mut hidden = vec![false; text.len()];
    for form in forms {
        for at in 0..text.len() {
            if text[at..].starts_with(form) {
                hidden[at..at + form.len()].fill(true);
            }
        }
    }
    let mut out = Vec::new();
    for (at, byte) in text.iter().enumerate() {
        match (hidden[at], at > 0 && hidden[at - 1]) {
            (true, false) => out.extend_from_slice(MASK),
            (true, true) => {}
            (false, _) => out.push(*byte),
        }
    }
    out
}

/// A secret of 40 bytes with something for every encoding to change.
const FORTY: &[u8] = b"aB3$x/9+q=\"T y'7\\k&<!~Z%{p}#R;w*L(0)^v?E";

#[test]
fn every_split_of_a_stream_hides_the_same_bytes() {
    let secrets = patterns(&[b"hunter2-secret", b"secret-tail", b"aaaab"]);
    let text = b"x hunter2-secret-tail aaaaaab hunter2-secre aaaa\nhunter2-secret";
    let whole = run(&secrets, &[text]);
    assert_eq!(whole, b"x *** aa*** hunter2-secre aaaa\n***");
    for first in 0..=text.len() {
        for second in first..=text.len() {
            let chunks = [&text[..first], &text[first..second], &text[second..]];
            assert_eq!(run(&secrets, &chunks), whole, "cut at {first} and {second}");
        }
    }
}

#[test]
fn every_form_is_hidden_at_every_split_and_byte_by_byte() {
    assert_eq!(FORTY.len(), 40);
    let secrets = patterns(&[FORTY]);
    let forms = forms(FORTY);
    assert!(forms.len() > 30, "{} forms", forms.len());
    for form in &forms {
        let line = [b"before ".as_slice(), form, b" after\n"].concat();
        let whole = expected(&forms, &line);
        assert!(
            whole.starts_with(b"before ***")
                && !whole.windows(5).any(|w| form.windows(5).any(|f| f == w))
        );
        for cut in 0..=line.len() {
            let (head, tail) = line.split_at(cut);
            assert_eq!(run(&secrets, &[head, tail]), whole, "{form:?} cut at {cut}");
        }
        let bytes: Vec<&[u8]> = line.chunks(1).collect();
        assert_eq!(run(&secrets, &bytes), whole, "{form:?} byte by byte");
    }
}

/// What the tools that people use print for [`FORTY`]; none of it by code of this crate.
fn check_forty(printed: &str, rest: &str) {
    let secrets = patterns(&[FORTY]);
    assert_eq!(text(&secrets, &[printed.as_bytes()]), rest, "{printed}");
}

#[test]
fn what_other_programs_make_of_a_secret_is_hidden() {
    let check = check_forty;
    check(
        "base64 YUIzJHgvOStxPSJUIHknN1xrJjwhflole3B9I1I7dypMKDApXnY/RQ==",
        "base64 ***==",
    );
    check(
        "with newline YUIzJHgvOStxPSJUIHknN1xrJjwhflole3B9I1I7dypMKDApXnY/RQo=",
        "with newline ***=",
    );
    check(
        "basic auth dTphQjMkeC85K3E9IlQgeSc3XGsmPCF+WiV7cH0jUjt3KkwoMCledj9F",
        "basic auth dTp***",
    );
    check(
        "one byte in YmFCMyR4LzkrcT0iVCB5JzdcayY8IX5aJXtwfSNSO3cqTCgwKV52P0U=",
        "one byte in Ym***=",
    );
    check(
        "hex 614233247 61423324782f392b713d22542079273 614233247\
         82f392b713d2254207927375c6b263c217e5a257b707d23523b772a4c2830295e763f45",
        "hex 614233247 61423324782f392b713d22542079273 ***",
    );
    check(
        r#"json "aB3$x/9+q=\"T y'7\\k&<!~Z%{p}#R;w*L(0)^v?E""#,
        r#"json "***""#,
    );
    let every: String = "aB3$x/9+q=\"T y'7\\k&<!~Z%{p}#R;w*L(0)^v?E"
        .chars()
        .map(|c| format!("\\u{:04x}", u32::from(c)))
        .collect();
    check(&format!("every one {every}"), "every one ***");
    check(
        r#"html safe "aB3$x/9+q=\"T y'7\\k\u0026\u003c!~Z%{p}#R;w*L(0)^v?E""#,
        r#"html safe "***""#,
    );
    check(
        r#"php "aB3$x\/9+q=\"T y'7\\k&<!~Z%{p}#R;w*L(0)^v?E""#,
        r#"php "***""#,
    );
    check(
        "python quote_plus aB3%24x%2F9%2Bq%3D%22T+y%277%5Ck%26%3C%21~Z%25%7Bp%7D%23R%3Bw%2AL%280%29%5Ev%3FE",
        "python quote_plus ***",
    );
    check(
        "encodeURIComponent aB3%24x%2F9%2Bq%3D%22T%20y'7%5Ck%26%3C!~Z%25%7Bp%7D%23R%3Bw*L(0)%5Ev%3FE",
        "encodeURIComponent ***",
    );
    check(
        r#"set -x 'aB3$x/9+q="T y'\''7\k&<!~Z%{p}#R;w*L(0)^v?E'"#,
        "set -x '***'",
    );
    check(
        r#"printf %q aB3\$x/9+q=\"T\ y\'7\\k\&\<\!~Z%\{p\}#R\;w\*L\(0\)\^v\?E"#,
        "printf %q ***",
    );
}

#[test]
fn what_markup_makes_of_a_secret_is_hidden() {
    let check = check_forty;
    check(
        "xml attribute aB3$x/9+q=&quot;T y'7\\k&amp;&lt;!~Z%{p}#R;w*L(0)^v?E",
        "xml attribute ***",
    );
    check(
        "xml text aB3$x/9+q=\"T y'7\\k&amp;&lt;!~Z%{p}#R;w*L(0)^v?E",
        "xml text ***",
    );
    check(
        "go html aB3$x/9+q=&#34;T y&#39;7\\k&amp;&lt;!~Z%{p}#R;w*L(0)^v?E",
        "go html ***",
    );
    check(
        "xml aB3$x/9+q=&quot;T y&#39;7\\k&amp;&lt;!~Z%{p}#R;w*L(0)^v?E",
        "xml ***",
    );
}

#[test]
fn secrets_beside_over_and_inside_each_other_leave_nothing() {
    let check = |values: &[&[u8]], line: &str, rest: &str| {
        let secrets = patterns(values);
        for size in 1..=line.len() {
            let chunks: Vec<&[u8]> = line.as_bytes().chunks(size).collect();
            assert_eq!(text(&secrets, &chunks), rest, "{line} in chunks of {size}");
        }
    };
    check(&[b"abcd", b"efgh"], "-abcdefgh-", "-***-");
    check(&[b"abcdef", b"defghi"], "-abcdefghi-", "-***-");
    check(
        &[b"long-secret-value", b"secret"],
        "a secret, a long-secret-value",
        "a ***, a ***",
    );
    check(
        &[b"secret", b"long-secret-value"],
        "long-secret-valu",
        "long-***-valu",
    );
    check(&[b"abab"], "abababab ababa", "*** ***a");
    check(&[b"abab"], "xabab ab ab", "x*** ab ab");
    check(
        &[b"token"],
        "ttoken tokentoken toketoken",
        "t*** *** toke***",
    );
    check(&[b"pass\nword"], "pass\nword", "***\n***");
    check(
        &[b"abcde", b"bcde1", b"cde12"],
        "abcde12 bcde12 cde12 cde1",
        "*** *** *** cde1",
    );
    check(&[b"****"], "**** ***", "*** ***");
}

#[test]
fn a_line_that_cannot_become_a_secret_is_not_held_back() {
    let secrets = patterns(&[b"token-1234"]);
    let (mut out, mut masker) = (Vec::new(), Masker::new(secrets));
    masker.push(b"ready\nto", &mut out);
    assert_eq!(out, b"ready\n");
    assert!(masker.is_holding());
    masker.push(b"morrow\n", &mut out);
    assert_eq!(out, b"ready\ntomorrow\n");
    assert!(!masker.is_holding());
}

#[test]
fn lines_of_a_long_secret_are_hidden_one_by_one() {
    let secrets = patterns(&[b"-----BEGIN-----\n  c2VjcmV0\n-----END-----\n"]);
    assert_eq!(
        text(&secrets, &[b"a c2VjcmV0 b\n-----END-----"]),
        "a *** b\n***"
    );
    let short_lines = patterns(&[b"ab\ncd\nef"]);
    assert_eq!(text(&short_lines, &[b"ab cd\nab\ncd\nef!"]), "ab cd\n***!");
}

#[test]
fn a_long_secret_in_base64_is_hidden_however_the_lines_are_wrapped() {
    let value: Vec<u8> = (0u16..300).map(|n| b'!' + (n * 7 % 90) as u8).collect();
    let secrets = patterns(&[&value]);
    for prefix in 0..3 {
        let encoded = base64_of(&[&b"xyz"[..prefix], &value].concat());
        for width in [60, 64, 72, 76, usize::MAX] {
            let lines: Vec<&str> = encoded
                .as_bytes()
                .chunks(width)
                .map(|line| str::from_utf8(line).unwrap())
                .collect();
            let hidden = text(&secrets, &[lines.join("\n").as_bytes()]);
            let left = hidden.replace(['\n', '*', '='], "");
            // The characters that the prefix shares with the secret.
            assert!(left.len() <= prefix + 1, "{left} of {width}");
        }
    }
}

fn base64_of(bytes: &[u8]) -> String {
    let mut child = std::process::Command::new("base64")
        .arg("-w0")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), bytes).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn short_values_are_named_and_left_alone() {
    let patterns = Patterns::new([("PIN", b"123".as_slice()), ("EMPTY", b""), ("OK", b"1234")]);
    assert_eq!(patterns.too_short(), ["PIN"]);
    assert_eq!(Rc::new(patterns).mask("123 1234 12"), "123 *** 12");
}

#[test]
fn values_too_long_to_encode_are_named_and_masked_as_they_are() {
    let line = b"0123456789abcdef";
    let value = line.repeat(SECRET_ENCODED_BYTES_MAX / 8);
    let patterns = Patterns::new([("HUGE", value.as_slice())]);
    assert_eq!(patterns.too_long(), ["HUGE"]);
    assert_eq!(Rc::new(patterns).mask_bytes(&value), MASK);
}

#[test]
fn a_value_learnt_on_the_way_is_hidden_from_then_on_also_in_what_is_held() {
    let before = patterns(&[b"password-one"]);
    let mut masker = Masker::new(Rc::clone(&before));
    let mut out = Vec::new();
    masker.push(b"word-two pass", &mut out);
    masker.renew(Rc::new(before.with([b"pass-two".as_slice()])), &mut out);
    masker.push(b"-two word-two password-one password-o", &mut out);
    masker.finish(&mut out);
    assert_eq!(out, b"word-two *** word-two *** password-o");
}

#[test]
fn a_hostile_text_takes_no_longer_than_its_length() {
    let value = [b"a".repeat(4000), b"b".to_vec()].concat();
    let secrets = patterns(&[&value, b"aaaaaaac"]);
    let text = b"a".repeat(1 << 20);
    let begun = std::time::Instant::now();
    assert_eq!(run(&secrets, &[&text]), text);
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

proptest! {
    #[test]
    fn masking_is_the_same_for_any_cut(
        values in prop::collection::vec("[ab]{4,7}", 1..4),
        text in "[abc]{0,60}",
        cuts in prop::collection::vec(0usize..60, 0..6),
    ) {
        check_cuts(&values, text.as_bytes(), cuts)?;
    }

    #[test]
    fn any_mix_of_forms_is_hidden_for_any_cut(
        values in prop::collection::vec("[a-c/ '\"é\n+]{4,24}", 1..4),
        parts in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, 0usize..12, "[a-c%\n]{0,4}"), 0..8),
        cuts in prop::collection::vec(0usize..400, 0..6),
    ) {
        let forms: Vec<Vec<u8>> = values.iter().flat_map(|v| forms(v.as_bytes())).collect();
        let mut text = Vec::new();
        for (index, head, tail, between) in parts.iter().filter(|_| !forms.is_empty()) {
            let form = index.get(&forms);
            // Also starts and ends of forms only, which stay or join with what stands beside them.
            let from = if *head > 8 { *head % form.len() } else { 0 };
            let to = if *tail > 8 { form.len() - *tail % form.len() } else { form.len() };
            text.extend_from_slice(form.get(from..to).unwrap_or_default());
            text.extend_from_slice(between.as_bytes());
        }
        check_cuts(&values, &text, cuts)?;
    }
}

fn check_cuts(values: &[String], text: &[u8], mut cuts: Vec<usize>) -> Result<(), TestCaseError> {
    cuts.iter_mut()
        .for_each(|cut| *cut = (*cut).min(text.len()));
    cuts.extend([0, text.len()]);
    cuts.sort_unstable();
    let chunks: Vec<&[u8]> = cuts
        .windows(2)
        .map(|pair| &text[pair[0]..pair[1]])
        .collect();
    let slices: Vec<&[u8]> = values.iter().map(String::as_bytes).collect();
    let all: BTreeSet<Vec<u8>> = slices.iter().flat_map(|value| forms(value)).collect();
    prop_assert_eq!(run(&patterns(&slices), &chunks), expected(&all, text));
    Ok(())
}
