//! Parser events to a tree, within limits.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;

use saphyr_parser::{
    Event, Marker, Parser, ScalarStyle, ScanError, Span as YamlSpan, StrInput, Tag,
};

use super::node::{Entry, Node, NodeKind, Weight};
use super::scalar::{Core, Scalar};
use super::source::Source;
use crate::diagnostic::Code;
use crate::limits;
use crate::report::Report;

/// The file has an error after which nothing else in it makes sense; it is in the report.
pub(crate) struct Unreadable;

type Loaded<T> = Result<T, Unreadable>;

/// Reads the one document of a file. Mistakes that leave the tree usable, such as a key that stands
/// twice, are only reported.
pub(crate) fn load(report: &mut Report<'_>) -> Loaded<Rc<Node>> {
    let source = Rc::clone(report.source());
    load_from(report, source)
}

/// The same for one of several files.
pub(crate) fn load_from<'t>(report: &mut Report<'t>, source: Rc<Source<'t>>) -> Loaded<Rc<Node>> {
    if let Some(message) = too_large(source.text) {
        let begin = source.byte_of_char(0);
        report.error(Code::SIZE, begin..begin, message);
        return Err(Unreadable);
    }
    let mut loader = Loader {
        parser: Parser::new_from_str(source.text),
        source,
        report,
        anchors: HashMap::new(),
        nodes: 0,
        aliases: 0,
        aliased: Weight::default(),
    };
    loader.document()
}

/// What a look at the bytes says against a file, before the parser sees it.
fn too_large(text: &str) -> Option<String> {
    if text.len() > limits::FILE_BYTES_MAX {
        let (bytes, limit) = (text.len(), limits::FILE_BYTES_MAX);
        return Some(format!(
            "file has {bytes} bytes, a pipeline may have {limit}"
        ));
    }
    // The parser reads a list in brackets to its end before it gives the first event, since the
    // list may turn out to be a key. A count of commas bounds that; scripts have some, too.
    let commas = text.bytes().filter(|byte| *byte == b',').count();
    (commas > 2 * limits::NODES_MAX).then(too_many_values)
}

fn too_many_values() -> String {
    format!("file has more than {} values", limits::NODES_MAX)
}

struct Loader<'t, 'r> {
    parser: Parser<'t, StrInput<'t>>,
    source: Rc<Source<'t>>,
    report: &'r mut Report<'t>,
    anchors: HashMap<usize, Rc<Node>>,
    nodes: usize,
    aliases: usize,
    aliased: Weight,
}

type Spanned<'t> = (Event<'t>, YamlSpan);

impl<'t> Loader<'t, '_> {
    /// The next event; after the last one always the end.
    fn next(&mut self) -> Loaded<Spanned<'t>> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.syntax(&error)),
            None => Ok((Event::StreamEnd, YamlSpan::default())),
        }
    }

    /// Reports what the parser says.
    fn syntax(&mut self, error: &ScanError) -> Unreadable {
        let at = self.byte(error.marker());
        // The parser has a limit of its own, and looks ahead: it may get there before this does.
        if error.info().contains("recursion limit") {
            self.report.error(Code::DEPTH, at..at, too_deep());
        } else {
            let message = format!("not valid YAML: {}", error.info());
            self.report.error(Code::SYNTAX, at..at, message);
        }
        Unreadable
    }

    fn byte(&self, marker: &Marker) -> usize {
        self.source.byte_of_char(marker.index())
    }

    fn bytes(&self, span: YamlSpan) -> Range<usize> {
        self.byte(&span.start)..self.byte(&span.end)
    }

    /// Reports a mistake after which nothing else is worth reading.
    fn refuse<T>(&mut self, code: Code, span: YamlSpan, message: String) -> Loaded<T> {
        self.report.error(code, self.bytes(span), message);
        Err(Unreadable)
    }

    /// The one document of the file.
    fn document(&mut self) -> Loaded<Rc<Node>> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(_) if root.is_some() => {
                    let message = "a pipeline file has one document; this is a second one";
                    return self.refuse(Code::DOCUMENTS, span, message.to_owned());
                }
                Event::DocumentStart(_) => {
                    let first = self.next()?;
                    root = Some(self.node(first, 1)?);
                }
                _ => {}
            }
        }
        match root {
            Some(root) if !root.is_null() => Ok(root),
            _ => {
                let message = "the file is empty; a pipeline needs at least `jobs`".to_owned();
                self.refuse(Code::DOCUMENTS, YamlSpan::default(), message)
            }
        }
    }

    /// Reads the value that begins with `event`.
    fn node(&mut self, (event, span): Spanned<'t>, depth: usize) -> Loaded<Rc<Node>> {
        if depth > limits::DEPTH_MAX {
            return self.refuse(Code::DEPTH, span, too_deep());
        }
        self.nodes += 1;
        if self.nodes > limits::NODES_MAX {
            return self.refuse(Code::SIZE, span, too_many_values());
        }
        match event {
            Event::Alias(id) => self.alias(id, span, depth),
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = self.scalar(text.into_owned(), style, tag.as_deref(), span);
                let weight = Weight {
                    nodes: 1,
                    text: scalar.text.len(),
                    height: 1,
                };
                Ok(self.finish(NodeKind::Scalar(scalar), weight, span, anchor))
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), "seq", span);
                self.sequence(span, anchor, depth)
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), "map", span);
                self.mapping(span, anchor, depth)
            }
            _ => self.refuse(Code::SYNTAX, span, "a value is missing here".to_owned()),
        }
    }

    /// Makes a node and remembers it under its anchor.
    fn finish(
        &mut self,
        kind: NodeKind,
        weight: Weight,
        span: YamlSpan,
        anchor: usize,
    ) -> Rc<Node> {
        let node = Rc::new(Node {
            kind,
            at: self.bytes(span),
            filled: false,
            weight,
        });
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        node
    }

    /// The value that an alias names, counted as if it stood here.
    fn alias(&mut self, id: usize, span: YamlSpan, depth: usize) -> Loaded<Rc<Node>> {
        let Some(node) = self.anchors.get(&id).cloned() else {
            let message = "an alias stands inside the value that it names".to_owned();
            return self.refuse(Code::ALIASES, span, message);
        };
        self.aliases += 1;
        self.aliased.nodes = self.aliased.nodes.saturating_add(node.weight.nodes);
        self.aliased.text = self.aliased.text.saturating_add(node.weight.text);
        if self.aliases > limits::ALIASES_MAX {
            let message = format!("file has more than {} aliases", limits::ALIASES_MAX);
            return self.refuse(Code::ALIASES, span, message);
        }
        if self.aliased.nodes > limits::ALIAS_NODES_MAX
            || self.aliased.text > limits::FILE_BYTES_MAX
        {
            let message = format!(
                "aliases bring more than {} values or {} bytes",
                limits::ALIAS_NODES_MAX,
                limits::FILE_BYTES_MAX
            );
            return self.refuse(Code::ALIASES, span, message);
        }
        if depth + node.weight.height - 1 > limits::DEPTH_MAX {
            return self.refuse(Code::DEPTH, span, too_deep());
        }
        Ok(node)
    }

    /// Reads items up to the end of a list.
    fn sequence(&mut self, span: YamlSpan, anchor: usize, depth: usize) -> Loaded<Rc<Node>> {
        let mut items = Vec::new();
        loop {
            let event = self.next()?;
            if let (Event::SequenceEnd, end) = event {
                let weight = Weight::around(items.iter().map(|item: &Rc<Node>| item.weight));
                let span = YamlSpan::new(span.start, end.end);
                return Ok(self.finish(NodeKind::Sequence(items), weight, span, anchor));
            }
            items.push(self.node(event, depth + 1)?);
        }
    }

    /// Reads keys and values up to the end of a mapping.
    fn mapping(&mut self, span: YamlSpan, anchor: usize, depth: usize) -> Loaded<Rc<Node>> {
        let mut entries = Vec::new();
        let mut merges = Vec::new();
        let mut names = HashSet::new();
        loop {
            let event = self.next()?;
            if let (Event::MappingEnd, end) = event {
                self.merge(&mut entries, &merges, &names);
                let weights = entries
                    .iter()
                    .flat_map(|entry: &Entry| [entry.key.weight, entry.value.weight].into_iter());
                let weight = Weight::around(weights);
                let span = YamlSpan::new(span.start, end.end);
                return Ok(self.finish(NodeKind::Mapping(entries), weight, span, anchor));
            }
            let merge =
                matches!(&event.0, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key = self.node(event, depth + 1)?;
            let event = self.next()?;
            let value = self.node(event, depth + 1)?;
            if merge {
                merges.push(value);
            } else if self.is_new(&key, &mut names) {
                entries.push(Entry { key, value });
            }
        }
    }

    /// Whether a key is text and the first of its name; reports it otherwise.
    fn is_new(&mut self, key: &Node, names: &mut HashSet<String>) -> bool {
        let Some(name) = key.text() else {
            let message = format!("a key has to be text, this one is {}", key.kind_name());
            self.report.error(Code::TYPE, key.at.clone(), message);
            return false;
        };
        let new = names.insert(name.to_owned());
        if !new {
            let message = format!("key `{name}` stands twice in this mapping");
            self.report
                .error(Code::DUPLICATE_KEY, key.at.clone(), message)
                .help("keep one of them; the second would silently win elsewhere");
        }
        new
    }

    /// Adds the entries of `<<` values whose keys are not there yet; the first of several wins.
    fn merge(&mut self, entries: &mut Vec<Entry>, merges: &[Rc<Node>], names: &HashSet<String>) {
        let mut names = names.clone();
        for value in merges {
            for source in merge_sources(value) {
                let NodeKind::Mapping(more) = &source.kind else {
                    let message = format!("`<<` takes a mapping, this is {}", source.kind_name());
                    self.report.error(Code::MERGE, source.at.clone(), message);
                    continue;
                };
                let new = more.iter().filter(|entry| {
                    entry
                        .key
                        .text()
                        .is_some_and(|name| names.insert(name.to_owned()))
                });
                entries.extend(new.cloned());
            }
        }
    }

    /// A scalar, read by its tag or by the core schema; one with a wrong tag as if it had none.
    fn scalar(
        &mut self,
        text: String,
        style: ScalarStyle,
        tag: Option<&Tag>,
        span: YamlSpan,
    ) -> Scalar {
        let core = tag
            .filter(|tag| tag.is_yaml_core_schema())
            .map(|tag| tag.suffix.as_str());
        let plain = style == ScalarStyle::Plain;
        match (tag.is_some(), core) {
            (false, _) if plain => Scalar::plain(text),
            (false, _) | (true, Some("str")) => Scalar::text(text),
            (true, Some("null" | "bool" | "int" | "float")) => {
                let scalar = Scalar::plain(text);
                if scalar.core == Core::Text {
                    let message = format!("`{}` does not fit its tag", scalar.text);
                    self.report.error(Code::TAG, self.bytes(span), message);
                }
                scalar
            }
            _ => {
                self.refuse_tag(tag, span);
                match style {
                    ScalarStyle::Plain => Scalar::plain(text),
                    _ => Scalar::text(text),
                }
            }
        }
    }

    /// Refuses a tag on a list or mapping, unless it says just that.
    fn check_tag(&mut self, tag: Option<&Tag>, allowed: &str, span: YamlSpan) {
        match tag {
            None => {}
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == allowed => {}
            Some(_) => self.refuse_tag(tag, span),
        }
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, span: YamlSpan) {
        let tag = tag.map(written).unwrap_or_default();
        let message = format!("tag `{tag}` means nothing in a pipeline; remove it");
        self.report.error(Code::TAG, self.bytes(span), message);
    }
}

/// A tag as it stands in a file, where `!!` is short for the names of YAML itself.
fn written(tag: &Tag) -> String {
    match tag.is_yaml_core_schema() {
        true => format!("!!{}", tag.suffix),
        false => format!("{}{}", tag.handle, tag.suffix),
    }
}

fn too_deep() -> String {
    format!("values are nested deeper than {} levels", limits::DEPTH_MAX)
}

/// The mappings that a `<<` brings.
fn merge_sources(value: &Rc<Node>) -> Vec<Rc<Node>> {
    match &value.kind {
        NodeKind::Sequence(items) => items.clone(),
        _ => vec![Rc::clone(value)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> Result<serde_json::Value, String> {
        let source = Source::new("x.yaml", text);
        let mut report = Report::new(source);
        let loaded = load(&mut report).map(|node| node.to_json());
        let (found, _) = report.finish();
        match (loaded, found.first()) {
            (Ok(json), None) => Ok(json),
            (_, Some(first)) => Err(format!(
                "{} {}:{}",
                first.message, first.span.line, first.span.column
            )),
            (Err(Unreadable), None) => Err("nothing reported".to_owned()),
        }
    }

    #[test]
    fn merge_keys_give_way_to_own_keys() {
        let text =
            "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc:\n  x: 0\n  <<: [*a, *b]\nd:\n  <<: *a\n";
        let json = load_text(text).unwrap();
        assert_eq!(json["c"], serde_json::json!({"x": 0, "y": 2, "z": 4}));
        assert_eq!(json["d"], serde_json::json!({"x": 1, "y": 2}));
    }

    #[test]
    fn scalars_keep_their_place_in_the_file() {
        let text = "ä: ü\nb: |\n  line ö one\n  two ${{ x }}\nc: 'it''s y'\r\nd: z\n";
        let source = Source::new("x.yaml", text);
        let mut report = Report::new(Source::new("x.yaml", text));
        let root = load(&mut report).map_err(|_| ()).unwrap();
        let place = |name: &str, part: &str| {
            let node = root.get(name).unwrap();
            let start = node.text().unwrap().find(part).unwrap();
            let at = source.within(node, start..start + part.len());
            (&text[at.clone()], source.span(at))
        };
        let span = |line, column, len| crate::Span { line, column, len };
        assert_eq!(place("ä", "ü"), ("ü", span(1, 4, 1)));
        assert_eq!(place("b", "ö"), ("ö", span(3, 8, 1)));
        assert_eq!(place("b", "x"), ("x", span(4, 11, 1)));
        assert_eq!(place("c", "y"), ("y", span(5, 11, 1)));
        assert_eq!(place("d", "z"), ("z", span(6, 4, 1)));
    }

    #[test]
    fn a_mistake_in_the_text_has_its_place() {
        assert_eq!(
            load_text("a: 1\na: 2\n").unwrap_err(),
            "key `a` stands twice in this mapping 2:1"
        );
        assert_eq!(
            load_text("a: &x [*x]").unwrap_err(),
            "an alias stands inside the value that it names 1:8"
        );
        assert!(load_text("a: [1\nb: 2").is_err());
        assert_eq!(
            load_text("a: 1\n---\nb: 2\n").unwrap_err(),
            "a pipeline file has one document; this is a second one 2:1"
        );
        assert!(load_text("# nothing\n").is_err());
        assert_eq!(load_text("\u{feff}a: 1\n").unwrap()["a"], 1);
    }
}
