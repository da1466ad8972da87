//! What a job of a plan waits for, takes and leaves, in words.

use rustci_pipeline::expr::{self, Expr, ExprKind, Function, Value};
use rustci_pipeline::{
    Access, Artifact, Cache, CachePolicy, Concurrency, DynamicMatrix, Environment, IfMissing, Job,
    When,
};

/// Lines on a job, each without its indentation. The instances of a matrix share them, so values
/// are those of the first.
pub(super) fn words(job: &Job) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(job.dynamic.as_ref().map(matrix));
    lines.extend(job.environment.as_ref().map(environment));
    lines.extend(job.concurrency.as_ref().map(slot));
    if !job.permissions.is_empty() {
        let scopes = job.permissions.iter();
        let scopes = scopes.map(|(scope, access)| format!("{scope} {}", access_word(*access)));
        lines.push(format!("token: {}", scopes.collect::<Vec<_>>().join(", ")));
    }
    if !job.checkout {
        lines.push("without source".to_owned());
    }
    lines.extend(job.caches.iter().map(cache));
    let downloads = job.downloads.iter().map(|it| match it.path.as_str() {
        "" => it.name.clone(),
        path => format!("{} into {path}", it.name),
    });
    let downloads: Vec<String> = downloads.collect();
    if !downloads.is_empty() {
        lines.push(format!("takes {}", downloads.join(", ")));
    }
    lines
}

/// Lines on what is left after the steps.
pub(super) fn words_after(job: &Job) -> Vec<String> {
    let mut lines: Vec<String> = job.artifacts.iter().map(artifact).collect();
    let reports = job.reports.iter();
    lines.extend(reports.map(|report| format!("test reports {}", report.paths.join(", "))));
    lines
}

/// The slot of a job or of the whole run.
pub(super) fn slot(slot: &Concurrency) -> String {
    let cancels = match slot.cancel_in_progress.as_str() {
        "false" => String::new(),
        "true" => ", a newcomer cancels it".to_owned(),
        condition => format!(", a newcomer cancels it if {condition}"),
    };
    let queue = slot.queue.map(|count| format!(", at most {count} wait"));
    format!(
        "one at a time in {}{cancels}{}",
        slot.group,
        queue.unwrap_or_default()
    )
}

fn environment(environment: &Environment) -> String {
    let mut line = format!("in {}", environment.name);
    if let Some(approval) = &environment.approval {
        let from = if approval.from.is_empty() {
            "somebody".to_owned()
        } else {
            approval.from.join(" or ")
        };
        line.push_str(&format!(
            ", once {from} has approved within {}",
            span(approval.timeout_ms)
        ));
    }
    line
}

fn cache(cache: &Cache) -> String {
    let mut line = format!("cache {}: {}", cache.key, cache.paths.join(", "));
    if !cache.restore_keys.is_empty() {
        line.push_str(&format!(", else {}", cache.restore_keys.join(", ")));
    }
    match cache.policy {
        CachePolicy::Pull => line.push_str(", only restored"),
        CachePolicy::Push => line.push_str(", only saved"),
        _ => {}
    }
    line + when(cache.when)
}

fn artifact(artifact: &Artifact) -> String {
    let mut line = format!("keeps {}: {}", artifact.name, artifact.paths.join(", "));
    line.push_str(when(artifact.when));
    if let Some(ms) = artifact.expire_ms {
        line.push_str(&format!(", for {}", span(ms)));
    }
    match artifact.if_missing {
        IfMissing::Error => line.push_str(", has to be there"),
        IfMissing::Ignore => line.push_str(", may be missing"),
        _ => {}
    }
    line
}

fn when(when: When) -> &'static str {
    match when {
        When::Failure => ", on failure",
        When::Always => ", always",
        _ => "",
    }
}

fn access_word(access: Access) -> &'static str {
    match access {
        Access::Read => "read",
        Access::Write => "write",
        _ => "none",
    }
}

/// Days, hours, minutes and seconds, as pipelines write them.
fn span(ms: u64) -> String {
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
    ];
    let mut rest = ms;
    let mut text = String::new();
    for (size, unit) in units {
        if rest >= size {
            text.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    text
}

/// The matrix as it would stand in a file.
fn matrix(matrix: &DynamicMatrix) -> String {
    let at_once = matrix.max_parallel.map(|max| format!(", {max} at a time"));
    let shown = as_written(&matrix.matrix).unwrap_or_else(|| matrix.matrix.clone());
    format!("matrix {shown}{}", at_once.unwrap_or_default())
}

/// `fromJSON(format('{{"axes":{0}}}', toJSON(x)))` as `{"axes":${{ x }}}`; none for an expression
/// of another form.
fn as_written(source: &str) -> Option<String> {
    let expr = expr::parse(source).ok()?;
    let (text, values) = match parts(&expr, Function::FromJson)? {
        [only] => parts(only, Function::Format)?.split_first()?,
        _ => return None,
    };
    let ExprKind::Literal(Value::String(text)) = &text.kind else {
        return None;
    };
    let mut out = text.replace("{{", "{").replace("}}", "}");
    for (index, value) in values.iter().enumerate() {
        let [value] = parts(value, Function::ToJson)? else {
            return None;
        };
        let value = source.get(value.at.clone())?;
        out = out.replacen(&format!("{{{index}}}"), &format!("${{{{ {value} }}}}"), 1);
    }
    Some(out)
}

/// The arguments of a call.
fn parts(expr: &Expr, function: Function) -> Option<&[Expr]> {
    match &expr.kind {
        ExprKind::Call(called, arguments) if *called == function => Some(arguments),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_shown_as_it_was_written() {
        let source = "fromJSON(format('{{\"axes\":{{\"dir\":{0},\"mode\":[\"it''s\"]}}}}', \
                      toJSON(fromJSON(needs.find.outputs.dirs))))";
        assert_eq!(
            as_written(source).unwrap(),
            "{\"axes\":{\"dir\":${{ fromJSON(needs.find.outputs.dirs) }},\"mode\":[\"it's\"]}}"
        );
        assert_eq!(as_written("fromJSON(needs.find.outputs.dirs)"), None);
    }

    #[test]
    fn spans_have_the_units_of_pipelines() {
        assert_eq!(span(7 * 86_400_000), "7d");
        assert_eq!(span(5_400_000), "1h30m");
    }
}
