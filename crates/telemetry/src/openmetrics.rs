//! Reading the text format, strictly: what [`Metrics::encode`](crate::Metrics::encode) writes.

use std::collections::{BTreeMap, HashSet};

/// What a family measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A total.
    Counter,
    /// A value that goes up and down.
    Gauge,
    /// Counts by bucket.
    Histogram,
    /// Facts in labels.
    Info,
}

/// One family.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Without the suffix of its samples.
    pub name: String,
    /// What it is about.
    pub help: String,
    /// Its unit; empty without one.
    pub unit: String,
    /// What it measures.
    pub kind: Kind,
    /// Its samples in their order.
    pub samples: Vec<Sample>,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What follows the family's name, such as `_total`.
    pub suffix: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// Why a text is not in the format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}: {text}")]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub problem: &'static str,
    /// The line.
    pub text: String,
}

/// Reads a whole text: families with a help and a type each, every sample under its family, every
/// series once, and the end mark.
///
/// # Errors
/// [`ParseError`] of the first line that is wrong.
pub fn parse(text: &str) -> Result<Vec<Family>, ParseError> {
    let mut reader = Reader::default();
    let mut last = 0;
    for (number, line) in (1..).zip(text.lines()) {
        last = number;
        reader.line(line).map_err(|problem| ParseError {
            line: number,
            problem,
            text: line.to_owned(),
        })?;
    }
    match reader.ended && text.ends_with('\n') {
        true => Ok(reader.families),
        false => Err(ParseError {
            line: last,
            problem: "the text ends without # EOF",
            text: String::new(),
        }),
    }
}

#[derive(Debug, Default)]
struct Reader {
    families: Vec<Family>,
    /// Name and help of a family whose type is to come.
    help: Option<(String, String)>,
    /// Suffix and labels of the samples of the last family.
    seen: HashSet<(String, BTreeMap<String, String>)>,
    ended: bool,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), &'static str> {
        if self.ended {
            return Err("something follows # EOF");
        }
        if line == "# EOF" {
            self.ended = true;
            return Ok(());
        }
        match line.strip_prefix("# ") {
            Some(words) => self.descriptor(words),
            None => self.sample(line),
        }
    }

    fn descriptor(&mut self, words: &str) -> Result<(), &'static str> {
        let (word, rest) = words.split_once(' ').ok_or("a descriptor without a name")?;
        let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
        match word {
            "HELP" => self.help = Some((name.to_owned(), value.to_owned())),
            "TYPE" => return self.begin(name, value),
            "UNIT" => {
                let family = self
                    .families
                    .last_mut()
                    .filter(|family| family.name == name);
                let family = family.ok_or("a unit of another family")?;
                if !name.ends_with(&format!("_{value}")) || !family.samples.is_empty() {
                    return Err("a unit that is not the end of the name, or late");
                }
                value.clone_into(&mut family.unit);
            }
            _ => return Err("an unknown descriptor"),
        }
        Ok(())
    }

    fn begin(&mut self, name: &str, kind: &str) -> Result<(), &'static str> {
        let (known, help) = self.help.take().ok_or("a type without a help")?;
        if known != name {
            return Err("a type of another family");
        }
        if self.families.iter().any(|family| family.name == name) {
            return Err("a family that was there before");
        }
        let kind = match kind {
            "counter" => Kind::Counter,
            "gauge" => Kind::Gauge,
            "histogram" => Kind::Histogram,
            "info" => Kind::Info,
            _ => return Err("an unknown type"),
        };
        self.seen.clear();
        self.families.push(Family {
            name: known,
            help,
            unit: String::new(),
            kind,
            samples: Vec::new(),
        });
        Ok(())
    }

    fn sample(&mut self, line: &str) -> Result<(), &'static str> {
        let family = self
            .families
            .last_mut()
            .ok_or("a sample without a family")?;
        let rest = line.strip_prefix(family.name.as_str());
        let rest = rest.ok_or("a sample of another family")?;
        let at = rest.find(['{', ' ']).ok_or("a sample without a value")?;
        let (suffix, rest) = rest
            .split_at_checked(at)
            .ok_or("a sample without a value")?;
        let fits = match family.kind {
            Kind::Counter => suffix == "_total",
            Kind::Gauge => suffix.is_empty(),
            Kind::Info => suffix == "_info",
            Kind::Histogram => matches!(suffix, "_bucket" | "_sum" | "_count"),
        };
        if !fits {
            return Err("a suffix that the type does not have");
        }
        let (labels, rest) = labels(rest)?;
        let value = rest.strip_prefix(' ').ok_or("no space before the value")?;
        let value = value.parse().map_err(|_| "a value that is no number")?;
        let sample = Sample {
            suffix: suffix.to_owned(),
            labels,
            value,
        };
        if !self
            .seen
            .insert((sample.suffix.clone(), sample.labels.clone()))
        {
            return Err("a series that was there before");
        }
        family.samples.push(sample);
        Ok(())
    }
}

/// Labels in braces, if there are any, and what follows them.
fn labels(text: &str) -> Result<(BTreeMap<String, String>, &str), &'static str> {
    let mut labels = BTreeMap::new();
    let Some(mut rest) = text.strip_prefix('{') else {
        return Ok((labels, text));
    };
    loop {
        let (name, after) = rest.split_once("=\"").ok_or("a label without a value")?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(is_name) {
            return Err("a label without a proper name");
        }
        let (value, after) = quoted(after)?;
        if labels.insert(name.to_owned(), value).is_some() {
            return Err("a label that is there twice");
        }
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None => {
                let after = after.strip_prefix('}');
                return Ok((labels, after.ok_or("labels without an end")?));
            }
        }
    }
}

/// A value up to its closing quote, with what was escaped in it, and what follows.
fn quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('\\' | '"'))) => value.push(escaped),
                _ => return Err("an unknown escape"),
            },
            c => value.push(c),
        }
    }
    Err("a value without an end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_reads_to_its_families() {
        let text = "# HELP a_seconds Time of it.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
            a_seconds_total{b=\"x\\\"\\\\\\n,}\",c=\"\"} 1.5\na_seconds_total 2\n# EOF\n";
        let families = parse(text).unwrap();
        assert_eq!(families[0].unit, "seconds");
        assert_eq!(families[0].help, "Time of it.");
        let sample = &families[0].samples[0];
        assert_eq!(sample.labels["b"], "x\"\\\n,}");
        assert_eq!((sample.suffix.as_str(), sample.value), ("_total", 1.5));
        assert_eq!(families[0].samples.len(), 2);
    }

    #[test]
    fn what_is_not_in_the_format_is_refused_with_its_line() {
        let head = "# HELP a A.\n# TYPE a gauge\n";
        for (text, line) in [
            ("", 0),
            ("# EOF", 1),
            ("a 1\n# EOF\n", 1),
            ("# TYPE a gauge\n# EOF\n", 1),
            ("# HELP a A.\n# TYPE b gauge\n# EOF\n", 2),
            ("# HELP a A.\n# TYPE a flock\n# EOF\n", 2),
            (&format!("{head}a 1\na 2\n# EOF\n"), 4),
            (&format!("{head}a_total 1\n# EOF\n"), 3),
            (&format!("{head}b 1\n# EOF\n"), 3),
            (&format!("{head}a one\n# EOF\n"), 3),
            (&format!("{head}a{{x=\"1\",x=\"2\"}} 1\n# EOF\n"), 3),
            (&format!("{head}a{{x=\"1}} 1\n# EOF\n"), 3),
            (&format!("{head}a{{x=\"\\t\"}} 1\n# EOF\n"), 3),
            (&format!("{head}a{{x y=\"\"}} 1\n# EOF\n"), 3),
            (&format!("{head}{head}# EOF\n"), 4),
            (&format!("{head}# EOF\na 1\n"), 4),
            (&format!("{head}a 1\n"), 3),
            ("# HELP a A.\n# TYPE a gauge\n# UNIT a bytes\n# EOF\n", 3),
        ] {
            assert_eq!(parse(text).unwrap_err().line, line, "{text}");
        }
    }
}
