//! Matrices whose values are known only while the run goes on.

#![cfg(test)]

use rustci_pipeline::expr::{self, Contexts};
use rustci_pipeline::{
    DynamicMatrix, ExpandError, Expanded, Job, Plan, PlanRequest, compile, expand, matrix_value,
};
use serde_json::{Value, json};

/// `a`, the matrix `m`, `z`.
fn plan_of(dynamic: Option<u32>) -> Plan {
    let job = |id: &str| Job {
        key: id.to_owned(),
        id: id.to_owned(),
        name: id.to_owned(),
        ..Job::default()
    };
    let matrix = Job {
        needs: vec!["a".to_owned()],
        dynamic: Some(DynamicMatrix {
            matrix: "fromJSON(needs.a.outputs.m)".to_owned(),
            fail_fast: false,
            max_parallel: dynamic,
        }),
        ..job("m")
    };
    Plan {
        version: 1,
        jobs: vec![job("a"), matrix, job("z")],
        ..Plan::default()
    }
}

fn keys(value: &Value) -> Vec<String> {
    match expand(&plan_of(Some(2)), 1, value).unwrap() {
        Expanded::Empty => Vec::new(),
        Expanded::Plan(plan) => plan.jobs.into_iter().map(|job| job.key).collect(),
    }
}

fn refused(value: &Value) -> String {
    let error = expand(&plan_of(None), 1, value).unwrap_err();
    error.to_string()
}

#[test]
fn the_first_instance_takes_the_place_and_the_others_follow_all_jobs() {
    let Expanded::Plan(plan) =
        expand(&plan_of(Some(2)), 1, &json!({"os": ["linux", "mac"]})).unwrap()
    else {
        panic!("it has instances");
    };
    let keys: Vec<&str> = plan.jobs.iter().map(|job| job.key.as_str()).collect();
    assert_eq!(keys, ["a", "m (linux)", "z", "m (mac)"]);
    for job in plan.jobs.iter().filter(|job| job.id == "m") {
        assert_eq!(job.name, job.key);
        assert_eq!(job.needs, ["a"]);
        assert_eq!(job.dynamic, None);
        let group = job.group.as_ref().unwrap();
        assert_eq!((group.id.as_str(), group.max_parallel), ("m", Some(2)));
        assert!(!group.fail_fast);
    }
    assert_eq!(Plan::from_json(&plan.to_canonical_json()).unwrap(), plan);
}

#[test]
fn a_value_is_axes_or_a_list_of_instances() {
    let cases = [
        (json!([]), vec![]),
        (json!({}), vec![]),
        (json!({"os": []}), vec![]),
        (json!({"include": []}), vec![]),
        (json!([{"os": "linux"}]), vec!["a", "m (linux)", "z"]),
        (
            json!([{"os": "linux", "n": 1.0}, {"n": 2, "os": [true]}]),
            vec!["a", "m (linux, 1)", "z", "m ([true], 2)"],
        ),
        // Names keep the order they are written in.
        (
            json!({"z": [1, 2], "a": ["x"], "exclude": [{"z": 1}], "include": [{"a": "y", "q": 3}]}),
            vec!["a", "m (2, x)", "z", "m (y, 3)"],
        ),
        (
            json!({"axes": {"v": [1]}, "include": [{"v": 1, "w": 2}]}),
            vec!["a", "m (1, 2)", "z"],
        ),
        (json!({"axes": ["x"]}), vec!["a", "m (x)", "z"]),
    ];
    for (value, expected) in cases {
        assert_eq!(keys(&value), expected, "{value}");
    }
}

#[test]
fn a_name_with_values_is_filled_in() {
    let mut plan = plan_of(None);
    plan.jobs[1].name = "on ${{ matrix.os }}".to_owned();
    let Expanded::Plan(plan) = expand(&plan, 1, &json!([{"os": "linux"}])).unwrap() else {
        panic!("it has an instance");
    };
    assert_eq!(plan.jobs[1].name, "on linux");
}

#[test]
fn what_is_no_matrix_is_refused_with_a_reason() {
    let many: Vec<u32> = (0..300).collect();
    let wide: Vec<u32> = (0..101).collect();
    let cases = [
        (
            json!("[]"),
            "has the wrong shape: the value is text (`fromJSON(..)` reads it), not a mapping or a \
             list of mappings",
        ),
        (
            json!(null),
            "has the wrong shape: the value is null, not a mapping or a list of mappings",
        ),
        (
            json!({"os": "linux"}),
            "has the wrong shape: axis \"os\" is text (`fromJSON(..)` reads it), not a list",
        ),
        (
            json!([{"os": 1}, 2]),
            "has the wrong shape: entry 2 of the value is a number, not a mapping",
        ),
        (
            json!({"os": [1], "include": {}}),
            "has the wrong shape: `include` is a mapping, not a list of mappings",
        ),
        (
            json!({"o s": [1]}),
            "has the name \"o s\"; names have up to 100 letters, digits, `_` and `-`, and begin \
             with a letter or `_`",
        ),
        (
            json!({"axes": {"os": [1]}, "fail-fast": true}),
            "has the unknown key \"fail-fast\" beside `axes`; `include` and `exclude` may stand there",
        ),
        (
            json!({"os": [1], "exclude": [{"oz": 1}]}),
            "excludes by \"oz\", which is not an axis",
        ),
        (
            json!({"os": [1, "1"]}),
            "has two instances that come out as `m (1)`; give them different values",
        ),
        (
            json!({"os": many}),
            "has 300 instances; at most 256 are allowed",
        ),
        (
            json!({"a": wide, "b": wide}),
            "has 10201 instances; at most 256 are allowed",
        ),
    ];
    for (value, expected) in cases {
        assert_eq!(refused(&value), expected, "{value}");
    }
}

#[test]
fn a_run_stays_within_its_limits() {
    let instances: Vec<Value> = (0..200).map(|n| json!({"n": n})).collect();
    let mut plan = plan_of(None);
    plan.jobs.extend((0..900).map(|n| Job {
        id: format!("j{n}"),
        key: format!("j{n}"),
        ..Job::default()
    }));
    let error = expand(&plan, 1, &json!(instances)).unwrap_err();
    assert_eq!(error, ExpandError::TooManyJobs { count: 1102 });

    let mut plan = plan_of(None);
    plan.jobs[1].condition = Some("x".repeat(100_000));
    let error = expand(&plan, 1, &json!(instances)).unwrap_err();
    assert_eq!(error, ExpandError::TooLarge);
    let text = "x".repeat(300_000);
    let bomb =
        json!({"a": [text], "b": (0..99).collect::<Vec<_>>(), "c": (0..99).collect::<Vec<_>>()});
    assert_eq!(expand(&plan_of(None), 1, &bomb), Err(ExpandError::TooLarge));
    let bomb = json!({"b": (0..200).collect::<Vec<_>>(), "include": [{"a": text}]});
    assert_eq!(expand(&plan_of(None), 1, &bomb), Err(ExpandError::TooLarge));
}

#[test]
fn only_a_dynamic_matrix_is_expanded() {
    for place in [0, 3] {
        let error = expand(&plan_of(None), place, &json!([])).unwrap_err();
        assert_eq!(error, ExpandError::NotDynamic(place));
    }
}

/// The keys and paths of the job `m` when `needs.a.outputs.m` is `output`.
fn run(matrix: &str, output: &str) -> Vec<(String, String)> {
    let text = format!(
        "jobs:
  a:
    outputs: {{ m: x }}
    steps: [{{ run: x }}]
  m:
    needs: [a]
    matrix: {matrix}
    steps: [{{ run: x }}]
    artifacts: {{ name: x, paths: \"${{{{ matrix.v }}}}/x\" }}
"
    );
    let plan = compile("ci.yaml", &text, &PlanRequest::default())
        .unwrap()
        .plan;
    let dynamic = plan.jobs[1].dynamic.as_ref().unwrap();
    let mut contexts = Contexts::new();
    contexts.set("needs", &json!({"a": {"outputs": {"m": output}}}));
    let value = expr::evaluate(&expr::parse(&dynamic.matrix).unwrap(), &contexts).unwrap();
    let Expanded::Plan(plan) = expand(&plan, 1, &value.to_json()).unwrap() else {
        return Vec::new();
    };
    let instances = plan.jobs.iter().filter(|job| job.id == "m");
    instances
        .map(|job| (job.key.clone(), job.artifacts[0].paths[0].clone()))
        .collect()
}

#[test]
fn parts_of_a_matrix_in_the_file_come_through_its_expression() {
    let keys = |matrix: &str, output: &str| -> Vec<String> {
        run(matrix, output)
            .into_iter()
            .map(|(key, _)| key)
            .collect()
    };
    let list = "\"${{ fromJSON(needs.a.outputs.m) }}\"";
    assert_eq!(
        run(&format!("{{ axes: {{ v: {list} }} }}"), "[1, \"b'}}{{\"]"),
        [
            ("m (1)".to_owned(), "1/x".to_owned()),
            ("m (b'}}{{)".to_owned(), "b'}}{{/x".to_owned()),
        ]
    );
    assert_eq!(
        keys(
            &format!("{{ axes: {{ v: {list}, w: [\"it's {{x}} {{0}}\", {{ k: [1.50] }}] }} }}"),
            "[true]"
        ),
        ["m (true, it's {x} {0})", "m (true, {\"k\":[1.5]})"]
    );
    assert_eq!(
        keys(
            &format!("{{ axes: {list}, exclude: [{{ v: 2 }}] }}"),
            "{\"v\": [1, 2]}"
        ),
        ["m (1)"]
    );
    assert_eq!(
        keys(
            &format!("{{ axes: {{ v: [1] }}, include: {list} }}"),
            "[{\"v\": 1, \"w\": 5}]"
        ),
        ["m (1, 5)"]
    );
    assert_eq!(
        keys(
            &format!("{{ include: [{{ v: {list} }}, {list}] }}"),
            "{\"v\": 3}"
        ),
        ["m ({\"v\":3})", "m (3)"]
    );
    assert_eq!(keys(list, "[]"), Vec::<String>::new());
}

#[test]
fn a_matrix_without_a_value_names_the_axis_and_the_expression_of_the_file() {
    let error = |matrix: &str| {
        let text = format!("jobs: {{m: {{matrix: {matrix}, steps: [{{run: x}}]}}}}\n");
        let planned = compile("ci.yaml", &text, &PlanRequest::default()).unwrap();
        let dynamic = planned.plan.jobs[0].dynamic.clone().unwrap();
        matrix_value(&dynamic, &Contexts::new())
            .unwrap_err()
            .to_string()
    };
    let why = "cannot be evaluated: `fromJSON` got text that is not JSON: EOF while parsing an \
               object at line 1 column 1";
    let bad = r#""${{ fromJSON('{') }}""#;
    let good = r#""${{ fromJSON('[1]') }}""#;
    let cases = [
        (
            format!("{{axes: {{b: ['}}{{0', \"it's\"], c: {good}, a: {bad}}}}}"),
            "has the axis `a`, whose",
        ),
        (
            format!("{{axes: {{a: [1]}}, include: [{{a: 1, x: {bad}}}]}}"),
            "has `include`, whose",
        ),
        (format!("{{axes: {bad}}}"), "has `axes`, whose"),
        (bad.to_owned(), ""),
    ];
    for (matrix, part) in cases {
        let expected = format!("{part} `fromJSON('{{')` {why}");
        assert_eq!(error(&matrix), expected.trim_start(), "{matrix}");
    }
}
