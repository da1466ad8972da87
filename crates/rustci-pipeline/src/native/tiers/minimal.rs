//! The minimal tier: a repository and a server, and nothing about how.

use std::rc::Rc;

use super::keys;
use super::task::Task;
use crate::diagnostic::Code;
use crate::report::Report;
use crate::shape::Binding;
use crate::shape::fields::Fields;
use crate::shape::values;
use crate::yaml::{Node, NodeKind};

/// Builds whatever kind of project it finds.
const BUILD: &str = r#"if [ -f Dockerfile ]; then
  docker build -t "$APP" .
elif [ -f Cargo.toml ]; then
  cargo build --release
elif [ -f package.json ]; then
  npm ci
  npm run build --if-present
elif [ -f go.mod ]; then
  go build ./...
elif [ -f pom.xml ]; then
  mvn -B package
elif [ -f requirements.txt ] || [ -f pyproject.toml ] || [ -f index.html ]; then
  echo "nothing to build"
else
  echo "no Dockerfile and no project of a known kind: say in \`steps\` how to build it" >&2
  exit 1
fi"#;

/// Brings it to the server: a container where there is a Dockerfile, else the files.
const DEPLOY: &str = r#"set -- -o BatchMode=yes -o StrictHostKeyChecking=accept-new -p "$SERVER_PORT"
if [ -n "$SERVER_KEY" ]; then
  set -- "$@" -i "$SERVER_KEY"
fi
if [ -f Dockerfile ]; then
  docker save "$APP" | ssh "$@" "$SERVER" "docker load && { docker rm -f $APP || true; } && \
docker run -d --name $APP --restart unless-stopped -P $APP"
else
  tar -cf - . | ssh "$@" "$SERVER" "mkdir -p $APP && tar -xf - -C $APP"
fi"#;

/// How a server is reached; every part is safe in a command line.
struct Server {
    address: String,
    port: i64,
    key: String,
}

/// What a file of the minimal tier comes down to.
pub(super) fn tasks(
    report: &mut Report<'_>,
    root: &Rc<Node>,
    fields: &Fields<'_>,
    name: &str,
) -> Vec<Task> {
    for key in ["repo", "server"] {
        if !fields.has(key) {
            let message = format!("a minimal pipeline has `repo` and `server`; `{key}` is missing");
            report
                .error(Code::MISSING_KEY, root.at.clone(), message)
                .help("or say what runs: `steps: [make test]`");
        }
    }
    let Some(node) = fields.get("server") else {
        return Vec::new();
    };
    let Some(server) = server(report, node) else {
        return Vec::new();
    };
    let env = [
        ("APP", slug(name)),
        ("SERVER", server.address),
        ("SERVER_PORT", server.port.to_string()),
        ("SERVER_KEY", server.key),
    ];
    let env = || {
        let bindings = env.iter().map(|(name, value)| Binding {
            name: (*name).to_owned(),
            value: Node::text_at(value.clone(), node.at.clone()),
        });
        bindings.collect()
    };
    let task = |name: &str, run: &str| Task {
        name: Some(Node::text_at(name, node.at.clone())),
        key: Rc::clone(node),
        run: Node::text_at(run, node.at.clone()),
        shell: "bash".to_owned(),
        env: env(),
        ..Task::default()
    };
    vec![task("build", BUILD), task("deploy", DEPLOY)]
}

/// `server`: `user@host`, or a mapping.
fn server(report: &mut Report<'_>, node: &Rc<Node>) -> Option<Server> {
    if !matches!(node.kind, NodeKind::Mapping(_)) {
        return Some(Server {
            address: part(report, node, "server", "@.-_:[]")?,
            port: 22,
            key: String::new(),
        });
    }
    let fields = Fields::read(report, node, &keys::SERVER)?;
    if !fields.has("host") {
        let message = "`server` has no `host`";
        report.error(Code::MISSING_KEY, node.at.clone(), message);
    }
    let host = part(report, fields.get("host")?, "host", ".-_:[]")?;
    let user = fields
        .get("user")
        .map(|node| part(report, node, "user", ".-_"));
    let key = fields
        .get("key")
        .map(|node| part(report, node, "key", "./-_~"));
    let port = fields.get("port");
    let port = port.map(|node| values::integer(report, node, "port", 1..=65_535));
    Some(Server {
        address: match user {
            Some(user) => format!("{}@{host}", user?),
            None => host,
        },
        port: port.unwrap_or(Some(22))?,
        key: key.unwrap_or_else(|| Some(String::new()))?,
    })
}

/// A text of letters, digits and some signs, which begins with none of them that means something.
fn part(report: &mut Report<'_>, node: &Rc<Node>, what: &str, signs: &str) -> Option<String> {
    let value = values::literal(report, node, what)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || signs.contains(c);
    if value.chars().all(fits) && !value.starts_with('-') {
        return Some(value.to_owned());
    }
    report
        .error(
            Code::VALUE,
            node.at.clone(),
            format!("`{value}` is not a valid `{what}`"),
        )
        .help("write `server: user@host`, or `server: { host: .., user: .., port: 22, key: .. }`");
    None
}

/// A name as a container or directory can have it.
pub(super) fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
    }
    let slug: String = slug.trim_end_matches('-').chars().take(60).collect();
    if slug.is_empty() {
        "app".to_owned()
    } else {
        slug
    }
}
