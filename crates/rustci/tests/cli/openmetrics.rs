//! Reads the OpenMetrics text format 1.0 as strictly as it is written.

use std::collections::{BTreeMap, BTreeSet};

/// One family.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Family {
    pub(crate) kind: String,
    unit: Option<String>,
    help: Option<String>,
    /// Values by name and labels.
    pub(crate) samples: BTreeMap<String, f64>,
}

/// All families of a scrape.
///
/// # Errors
/// The first rule that the text breaks, with its line.
pub(crate) fn parse(text: &str) -> Result<BTreeMap<String, Family>, String> {
    let body = text
        .strip_suffix("# EOF\n")
        .ok_or("it does not end with # EOF")?;
    let mut families = BTreeMap::<String, Family>::new();
    let mut current = String::new();
    for line in body.lines() {
        let read = match line.strip_prefix("# ") {
            Some(descriptor) => describe(&mut families, &mut current, descriptor),
            None => sample(&mut families, &current, line),
        };
        read.map_err(|rule| format!("{rule}: {line}"))?;
    }
    for (name, family) in &families {
        finish(name, family).map_err(|rule| format!("{name}: {rule}"))?;
    }
    Ok(families)
}

fn describe(
    families: &mut BTreeMap<String, Family>,
    current: &mut String,
    descriptor: &str,
) -> Result<(), &'static str> {
    let (word, rest) = descriptor
        .split_once(' ')
        .ok_or("a descriptor has three parts")?;
    let (name, value) = rest.split_once(' ').ok_or("a descriptor has three parts")?;
    if name != current {
        if families.contains_key(name) {
            return Err("the lines of a family are not together");
        }
        name.clone_into(current);
    }
    let family = families.entry(name.to_owned()).or_default();
    if !family.samples.is_empty() {
        return Err("a descriptor behind samples");
    }
    let before = match word {
        "HELP" => family.help.replace(value.to_owned()),
        "UNIT" if !name.ends_with(&format!("_{value}")) => return Err("a name without its unit"),
        "UNIT" => family.unit.replace(value.to_owned()),
        "TYPE" if family.kind.is_empty() => {
            value.clone_into(&mut family.kind);
            None
        }
        "TYPE" => return Err("a second descriptor"),
        _ => return Err("an unknown descriptor"),
    };
    before.map_or(Ok(()), |_| Err("a second descriptor"))
}

fn sample(
    families: &mut BTreeMap<String, Family>,
    current: &str,
    line: &str,
) -> Result<(), &'static str> {
    let (key, value) = line.rsplit_once(' ').ok_or("a sample has a value")?;
    let value: f64 = value.parse().map_err(|_| "a value is a number")?;
    let (name, labels) = match key.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').ok_or("labels are closed")?),
        None => (key, ""),
    };
    check_labels(labels)?;
    let family = families
        .get_mut(current)
        .ok_or("a sample without a family")?;
    let suffix = name
        .strip_prefix(current)
        .ok_or("a sample of another family")?;
    let suffixes: &[&str] = match family.kind.as_str() {
        "counter" => &["_total"],
        "gauge" => &[""],
        "info" => &["_info"],
        "histogram" => &["_bucket", "_sum", "_count"],
        _ => return Err("an unknown type"),
    };
    if !suffixes.contains(&suffix) {
        return Err("a suffix that the type does not have");
    }
    if family.kind != "gauge" && (value.is_nan() || value < 0.0) {
        return Err("a count below zero");
    }
    let before = family.samples.insert(key.to_owned(), value);
    before.map_or(Ok(()), |_| Err("the same series twice"))
}

/// `name="value",..` with \\, \" and \n as the only escapes.
fn check_labels(labels: &str) -> Result<(), &'static str> {
    let mut rest = labels;
    let mut names = BTreeSet::new();
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").ok_or("a label has a quoted value")?;
        let letters = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if name.is_empty() || !letters(name) || !names.insert(name) {
            return Err("a label's name");
        }
        let mut chars = value.char_indices();
        let end = loop {
            match chars.next().ok_or("a value is closed")? {
                (at, '"') => break at,
                (_, '\\') => match chars.next() {
                    Some((_, '\\' | '"' | 'n')) => {}
                    _ => return Err("an unknown escape"),
                },
                _ => {}
            }
        };
        rest = &value[end + 1..];
        rest = match rest.strip_prefix(',') {
            Some(more) if !more.is_empty() => more,
            None if rest.is_empty() => rest,
            _ => return Err("labels are separated by one comma"),
        };
    }
    Ok(())
}

/// Rules for a family as a whole.
fn finish(name: &str, family: &Family) -> Result<(), String> {
    if family.kind.is_empty() || family.help.as_ref().is_none_or(String::is_empty) {
        return Err("it has no type or no help".to_owned());
    }
    if family.kind != "histogram" {
        return Ok(());
    }
    let mut series = BTreeMap::<String, Vec<(f64, f64)>>::new();
    let prefix = format!("{name}_bucket{{");
    for (key, value) in &family.samples {
        let Some(labels) = key.strip_prefix(&prefix) else {
            continue;
        };
        let labels = labels.trim_end_matches('}').split(',');
        let (bound, others): (Vec<&str>, Vec<&str>) =
            labels.partition(|one| one.starts_with("le=\""));
        let bound = bound.first().ok_or("a bucket without a bound")?;
        let bound = bound.trim_start_matches("le=\"").trim_end_matches('"');
        let bound: f64 = bound.parse().map_err(|_| format!("the bound {bound}"))?;
        series
            .entry(others.join(","))
            .or_default()
            .push((bound, *value));
    }
    for (labels, mut buckets) in series {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        if !buckets.is_sorted_by(|a, b| a.1 <= b.1) {
            return Err(format!("buckets of {labels} that fall"));
        }
        let key = |suffix: &str| match labels.as_str() {
            "" => format!("{name}_{suffix}"),
            labels => format!("{name}_{suffix}{{{labels}}}"),
        };
        let last = buckets.last().copied().unwrap_or_default();
        let count = family.samples.get(&key("count"));
        if !last.0.is_infinite() || count != Some(&last.1) {
            return Err(format!("the last bucket of {labels} is not the count"));
        }
        if !family.samples.contains_key(&key("sum")) {
            return Err(format!("{labels} has no sum"));
        }
    }
    Ok(())
}

#[test]
fn what_is_not_openmetrics_is_refused() {
    let good = "# HELP a A.\n# TYPE a counter\na_total{x=\"1\"} 2\n# EOF\n";
    parse(good).unwrap();
    for (from, to, rule) in [
        ("# EOF\n", "", "EOF"),
        ("a_total{x=\"1\"} 2", "a_total 2\na_total 2", "twice"),
        ("a_total{x", "a{x", "suffix"),
        ("a_total{x", "b_total{x", "another family"),
        ("{x=\"1\"}", "{x=\"\\t\"}", "escape"),
        ("{x=\"1\"}", "{x=\"1\",}", "comma"),
        (" 2", " two", "number"),
        (" 2", " -2", "below zero"),
        ("# HELP a A.\n", "", "help"),
    ] {
        let error = parse(&good.replace(from, to)).unwrap_err();
        assert!(error.contains(rule), "{error}");
    }
    let buckets = "# HELP h H.\n# TYPE h histogram\nh_sum 1\nh_count 3\n\
        h_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 3\n# EOF\n";
    parse(buckets).unwrap();
    let falling = buckets.replace("le=\"1\"} 3", "le=\"1\"} 4");
    assert!(parse(&falling).unwrap_err().contains("fall"));
    let short = buckets.replace("count 3", "count 4");
    assert!(parse(&short).unwrap_err().contains("count"));
}
