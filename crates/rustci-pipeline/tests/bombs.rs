//! Files made to cost: each is refused, or read, in less than a tenth of a second.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::time::Duration;

use rustci_pipeline::{Code, lint, parse};

// A tenth of a second is the promise of the program that people run; tests are built without
// optimization.
const LIMIT: Duration = Duration::from_millis(if cfg!(debug_assertions) { 2000 } else { 100 });

/// The processor time of this thread: what else runs on the machine does not count.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

fn check(name: &str, text: &str, code: Code) {
    let start = processor_time();
    let found = lint("bomb.yaml", text);
    let took = processor_time() - start;
    let codes: Vec<String> = found.iter().map(|found| found.code.to_string()).collect();
    assert!(
        found.iter().any(|found| found.code == code),
        "{name}: {code} not in {codes:?}"
    );
    assert!(found.len() <= 100, "{name}: {} findings", found.len());
    assert!(took < LIMIT, "{name} took {took:?}");
}

fn job(steps: &str) -> String {
    format!("jobs:\n  a:\n    steps:\n{steps}")
}

#[test]
fn a_billion_laughs_are_refused() {
    let mut text = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..30 {
        let inner = format!("*a{}, ", level - 1).repeat(10);
        text.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
    }
    check("lists", &text, Code::ALIASES);
    let mut text = String::from("a0: &a0 {x: 1, y: 2}\n");
    for level in 1..5000 {
        text.push_str(&format!(
            "a{level}: &a{level} {{<<: *a{}, k{level}: 1}}\n",
            level - 1
        ));
    }
    check("merge keys", &text, Code::ALIASES);
    let text = format!(
        "a: &a \"{}\"\nb: [{}]\n",
        "x".repeat(900_000),
        "*a, ".repeat(999)
    );
    check("long text", &text, Code::ALIASES);
}

#[test]
fn depth_is_refused() {
    for (name, open) in [("lists", "["), ("mappings", "{a: "), ("block lists", "- ")] {
        check(name, &open.repeat(100_000), Code::DEPTH);
    }
    let block: String = (0..1000)
        .map(|depth| format!("{}a:\n", " ".repeat(depth)))
        .collect();
    check("block mappings", &block, Code::DEPTH);
    let mut text = String::from("a0: &a0 [x]\n");
    for level in 1..80 {
        text.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    check("aliases", &text, Code::DEPTH);
}

#[test]
fn size_is_refused() {
    check("file", &" ".repeat((1 << 20) + 1), Code::SIZE);
    check("values", &format!("[{}]", "1,".repeat(500_000)), Code::SIZE);
    check(
        "fewer values",
        &format!("[{}]", "1,".repeat(100_000)),
        Code::SIZE,
    );
    check("lines", &"- 1\n".repeat(200_000), Code::SIZE);
    check("keys", &"- ? a\n".repeat(150_000), Code::SIZE);
}

#[test]
fn too_much_of_everything_is_refused() {
    let jobs: String = (0..1001)
        .map(|n| format!("  j{n}: {{steps: [{{run: x}}]}}\n"))
        .collect();
    check("jobs", &format!("jobs:\n{jobs}"), Code::TOO_MANY);
    let steps = "      - run: x\n".repeat(1001);
    check("steps", &job(&steps), Code::TOO_MANY);
    let axis: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    let axis = axis.join(",");
    let matrix = format!(
        "jobs: {{a: {{matrix: {{axes: {{x: [{axis}], y: [{}]}}}}, steps: [{{run: {}}}]}}}}",
        "1",
        "z".repeat(500_000)
    );
    check("plan", &matrix, Code::TOO_MANY);
    let axes = format!(
        "jobs: {{a: {{matrix: {{axes: {{a: [{axis}], b: [{axis}], c: [{axis}], d: [{axis}]}}}}, \
         steps: [{{run: x}}]}}}}"
    );
    check("axes", &axes, Code::TOO_MANY);
}

#[test]
fn many_mistakes_cost_little() {
    let keys: String = (0..20_000)
        .map(|n| format!("    stepz-with-a-long-name-{n}: 1\n"))
        .collect();
    check(
        "unknown keys",
        &format!("jobs:\n  a:\n{keys}"),
        Code::UNKNOWN_KEY,
    );
    let names: String = (0..900)
        .map(|n| format!("  job-with-a-long-name-{n}: {{needs: [job-wiht-a-long-name-x{n}], steps: [{{run: x}}]}}\n"))
        .collect();
    check("needs", &format!("jobs:\n{names}"), Code::UNKNOWN_NEED);
    let script = format!("      - run: \"{}\"\n", "${{ event.a }}".repeat(60_000));
    check("untrusted", &job(&script), Code::UNTRUSTED);
    let script = format!("      - run: \"{}\"\n", "${{ x.y }}".repeat(90_000));
    check("contexts", &job(&script), Code::UNKNOWN_CONTEXT);
    let script = format!("      - run: ${{{{ {}1 }}}}\n", "!".repeat(20_000));
    check("deep expression", &job(&script), Code::EXPRESSION);
    let script = format!("      - run: ${{{{ {} }}}}\n", "1 == ".repeat(4_000));
    check("long expression", &job(&script), Code::EXPRESSION);
}

#[test]
fn long_chains_of_needs_are_no_problem() {
    let jobs: String = (0..1000)
        .map(|n: usize| {
            format!(
                "  j{n}: {{needs: [j{}], steps: [{{run: x}}]}}\n",
                (n + 999) % 1000
            )
        })
        .collect();
    check("circle", &format!("jobs:\n{jobs}"), Code::CYCLE);
    let jobs: String = (0..1000)
        .map(|n| match n {
            0 => "  j0: {steps: [{run: x}]}\n".to_owned(),
            n => format!("  j{n}: {{needs: [j{}], steps: [{{run: x}}]}}\n", n - 1),
        })
        .collect();
    assert!(
        parse("x.yaml", &format!("jobs:\n{jobs}"))
            .pipeline
            .is_some()
    );
}
