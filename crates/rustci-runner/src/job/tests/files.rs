//! The files through which steps speak: environment, path, masks, summaries.

use super::*;

fn secret(name: &str, value: &str) -> v1::Secret {
    v1::Secret {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

#[test]
fn later_steps_get_variables_and_directories_and_may_not_be_taken_over() {
    let first = "echo A=one >> $CI_ENV\nmkdir bin\nprintf '#!/bin/sh\\necho tool of the job\\n' > bin/tool\n\
        chmod +x bin/tool\necho $PWD/bin >> $CI_PATH\ntool || echo not yet";
    let second = "echo $A ${{ env.A }}; tool; echo B=${A}two >> $CI_ENV";
    let third = v1::Step {
        env: vec![v1::Binding {
            name: "A".to_owned(),
            value: "own ${{ env.B }}".to_owned(),
        }],
        ..step("echo $A $B; echo LD_PRELOAD=/tmp/x.so >> $CI_ENV")
    };
    let last = v1::Step {
        condition: "always()".to_owned(),
        ..step("echo preload [$LD_PRELOAD]")
    };
    let outcome = Outcome::of(spec([step(first), step(second), third, last]));
    assert_eq!(
        outcome.lines(LogChannel::STDOUT),
        [
            "not yet",
            "one one",
            "tool of the job",
            "own onetwo onetwo",
            "preload []",
        ]
    );
    let message = &outcome.result().steps[2].message;
    assert!(
        message.starts_with("LD_PRELOAD cannot be set through $CI_ENV"),
        "{message}"
    );
}

#[test]
fn a_value_is_masked_from_the_moment_a_step_says_so() {
    let script = "echo before s3cr3t-token; sleep 0.3; echo s3cr3t-token >> $CI_MASK\n\
        printf 's3cr3t'; sleep 0.3; echo '-token after'; printf s3cr3t-token | base64\n\
        echo out=s3cr3t-token >> $CI_OUTPUT; echo ab >> $CI_MASK; exit 3";
    let later = v1::Step {
        name: "say s3cr3t-token".to_owned(),
        condition: "always()".to_owned(),
        ..step("echo later s3cr3t-token 1>&2")
    };
    let named = v1::Step {
        id: "first".to_owned(),
        ..step(script)
    };
    let mut spec = spec([named, later]);
    spec.outputs = vec![v1::Binding {
        name: "out".to_owned(),
        value: "${{ steps.first.outputs.out }}".to_owned(),
    }];
    let outcome = Outcome::of(spec);
    let out = outcome.lines(LogChannel::STDOUT).join("|");
    assert!(
        out.starts_with("before s3cr3t-token|*** after|***"),
        "{out}"
    );
    assert_eq!(outcome.lines(LogChannel::STDERR), ["later ***"]);
    let rest: String = outcome.output()[1..].concat();
    assert!(!rest.contains("s3cr3t-token"), "{rest}");
    assert_eq!(outcome.result().outputs[0].value, "***");
    let notices = outcome.lines(LogChannel::SYSTEM).join("|");
    assert!(
        notices.contains("a value in $CI_MASK is shorter than 4 bytes"),
        "{notices}"
    );
    assert!(!format!("{:?}", outcome.reports).contains("s3cr3t-token"));
}

#[test]
fn summaries_are_kept_masked_once_per_step() {
    let mut flaky = step("echo \"# Try $CI_STEP_TRY\" >> $CI_STEP_SUMMARY; test $CI_STEP_TRY = 2");
    flaky.retry = Some(v1::Retry {
        max: 2,
        ..Default::default()
    });
    let long = step("head -c 1100000 /dev/zero | tr '\\0' x > $CI_STEP_SUMMARY");
    let fifo = step("rm $CI_STEP_SUMMARY; mkfifo $CI_STEP_SUMMARY");
    let told = step("echo \"token $TOKEN <b>\" > $CI_STEP_SUMMARY");
    let mut spec = spec([flaky, step("echo nothing"), long, fifo, told]);
    spec.secrets.push(secret("TOKEN", "very secret"));
    let outcome = Outcome::of(spec);
    assert_eq!(outcome.result().outcome(), v1::Outcome::Success);
    let texts: Vec<(u32, String)> = outcome
        .result()
        .summaries
        .iter()
        .map(|summary| {
            let name = blake3::Hash::from_slice(&summary.digest).unwrap().to_hex();
            let text = std::fs::read_to_string(outcome.dir.blobs().join(name.as_str())).unwrap();
            assert_eq!(text.len() as u64, summary.bytes);
            (summary.step, text)
        })
        .collect();
    let expected = [(0, "# Try 2\n"), (4, "token *** <b>\n")];
    assert_eq!(texts, expected.map(|(step, text)| (step, text.to_owned())));
    let notices = outcome.lines(LogChannel::SYSTEM).join("|");
    assert!(notices.contains("more than 1048576 bytes"), "{notices}");
    assert!(notices.contains("it is not a file any more"), "{notices}");
}

#[test]
fn reports_are_read_when_the_steps_are_over_and_never_fail_a_job() {
    let suite = "<testsuite name='unit'><testcase name='adds' time='0.5'/>\
        <testcase name='says $TOKEN'><failure>because of $TOKEN</failure></testcase></testsuite>";
    let script = format!(
        "mkdir -p out/a\necho \"{suite}\" > out/a/junit.xml\n: > out/empty.xml\nln -s a/junit.xml out/link.xml"
    );
    let mut spec = spec([step(&script)]);
    spec.secrets.push(secret("TOKEN", "very secret"));
    let report = |kind: &str, path: &str| v1::ReportSpec {
        kind: kind.to_owned(),
        paths: vec![path.to_owned()],
    };
    spec.reports = vec![
        report("junit", "out/**/*.xml"),
        report("junit", "none/*.xml"),
        report("tap", "x"),
    ];
    let outcome = Outcome::of(spec);
    let result = outcome.result();
    assert_eq!(result.outcome(), v1::Outcome::Success);
    let [first, none, tap] = result.reports.as_slice() else {
        panic!("{result:?}");
    };
    assert_eq!(
        (first.tests, first.failures, first.duration_ms),
        (2, 1, 500)
    );
    assert_eq!(first.warnings.len(), 1);
    assert!(first.warnings[0].starts_with("out/empty.xml: it is empty"));
    assert!(none.warnings[0].starts_with("no file fits"));
    assert!(tap.warnings[0].contains("kind \"tap\" are not known"));
    let name = blake3::Hash::from_slice(&first.digest).unwrap().to_hex();
    let blob = std::fs::read(outcome.dir.blobs().join(name.as_str())).unwrap();
    let tests = <v1::TestReport as prost::Message>::decode(blob.as_slice())
        .unwrap()
        .tests;
    assert_eq!(
        (tests[1].name.as_str(), tests[1].details.as_str()),
        ("says ***", "because of ***")
    );
    let notices = outcome.lines(LogChannel::SYSTEM).join("|");
    assert!(
        notices.contains("tests: 2 in the report, 1 failed, 0 skipped"),
        "{notices}"
    );
}
