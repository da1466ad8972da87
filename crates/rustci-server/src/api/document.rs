//! The OpenAPI document: what the routes say of themselves, completed by what is the same for all.

use serde_json::Value;
use utoipa::openapi::path::{
    HttpMethod, Operation, Parameter, ParameterBuilder, ParameterIn, PathItem,
};
use utoipa::openapi::schema::{ArrayBuilder, KnownFormat, SchemaFormat, SchemaType};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, Ref,
    RefOr, Required, Response, ResponseBuilder, Schema, Type,
};

use crate::api::view::{LogLine, Problem, RunEvent};

/// Media type of what is not a problem, a stream or a file.
pub(crate) const JSON: &str = "application/json";
/// Media type of a problem.
pub(crate) const PROBLEM: &str = "application/problem+json";
const SCHEME: &str = "token";

/// Title, version and nothing else: routes add the rest.
pub(crate) fn start() -> OpenApi {
    let info = InfoBuilder::new()
        .title("RustCI")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "What programs say to a RustCI server. Times are Unix milliseconds. Errors are \
             problems (RFC 9457) with a stable `code`.",
        ))
        .license(Some(utoipa::openapi::License::new("MIT")));
    // What no operation has as its whole body, but in the parts of one.
    let components = ComponentsBuilder::new()
        .schema_from::<LogLine>()
        .schema_from::<Problem>()
        .schema_from::<RunEvent>();
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components.build()))
        .build()
}

/// Adds to every operation what is true for all: the token, and the errors that the layers around
/// the handlers give.
pub(crate) fn finish(mut document: OpenApi) -> OpenApi {
    let paths = std::mem::take(&mut document.paths.paths).into_iter();
    document.paths.paths = paths.map(|(path, item)| (template(&path), item)).collect();
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            complete(path, method, operation);
            let parameters = operation.parameters.iter_mut().flatten();
            parameters.for_each(tighten);
        }
    }
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(SCHEME, bearer);
    for schema in components.schemas.values_mut() {
        if let Ok(mut json) = serde_json::to_value(&*schema) {
            unsign(&mut json);
            *schema = serde_json::from_value(json).unwrap_or_else(|_| schema.clone());
        }
    }
    document
}

/// The path of a route as OpenAPI writes it, which knows no parameter over several parts.
pub(crate) fn template(route: &str) -> String {
    route.replace("{*", "{")
}

/// Says of a parameter what its text can be: never null, and a number no larger than its format.
fn tighten(parameter: &mut Parameter) {
    let Ok(mut schema) = serde_json::to_value(&parameter.schema) else {
        return;
    };
    if let Some(kind) = schema.get_mut("type")
        && let Some(kinds) = kind.as_array_mut()
    {
        kinds.retain(|kind| kind != "null");
        if let [only] = kinds.as_slice() {
            *kind = only.clone();
        }
    }
    if let Some(Value::Array(alternatives)) = schema.get_mut("oneOf") {
        alternatives.retain(|one| one.get("type").is_none_or(|kind| kind != "null"));
        if let [only] = alternatives.as_slice() {
            schema = only.clone();
        }
    }
    let largest = match schema.get("format").and_then(Value::as_str) {
        Some("int64") => Some(i64::MAX),
        Some("int32") => Some(i64::from(i32::MAX)),
        _ => None,
    };
    if let (Some(largest), Some(schema)) = (largest, schema.as_object_mut()) {
        schema.entry("maximum").or_insert(largest.into());
    }
    parameter.schema = serde_json::from_value(schema).ok();
}

/// Gives numbers without a sign the bound that they have: their formats are those of signed ones.
fn unsign(schema: &mut Value) {
    let largest = match schema.get("format").and_then(Value::as_str) {
        Some("int32") => Some(u64::from(u32::MAX)),
        Some("int64") => Some(u64::MAX),
        _ => None,
    };
    match schema {
        Value::Object(fields) => {
            let bound = largest.filter(|_| fields.contains_key("minimum"));
            if let Some(largest) = bound {
                fields.shift_remove("format");
                fields.entry("maximum").or_insert(largest.into());
            }
            let variants = fields.get_mut("oneOf").and_then(Value::as_array_mut);
            variants.into_iter().flatten().for_each(close);
            fields.values_mut().for_each(unsign);
        }
        Value::Array(items) => items.iter_mut().for_each(unsign),
        _ => {}
    }
}

/// A variant that is named by its only field has no other fields.
fn close(variant: &mut Value) {
    let Some(fields) = variant.as_object_mut() else {
        return;
    };
    let count = |name: &str| match fields.get(name) {
        Some(Value::Array(names)) => names.len(),
        Some(Value::Object(fields)) => fields.len(),
        _ => 0,
    };
    if (count("required"), count("properties")) == (1, 1) {
        fields.insert("additionalProperties".to_owned(), false.into());
        let inner = fields.get_mut("properties").and_then(Value::as_object_mut);
        for field in inner.into_iter().flat_map(serde_json::Map::values_mut) {
            if let Some(field) = field.as_object_mut()
                && field.contains_key("properties")
            {
                field.insert("additionalProperties".to_owned(), false.into());
            }
        }
    }
}

/// The document as JSON text, as it is served and stored.
pub(crate) fn to_text(document: &OpenApi) -> String {
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// Whether a path needs the token.
pub(crate) fn is_guarded(path: &str) -> bool {
    path.starts_with("/api/") && path != "/api/healthchecker"
}

fn complete(path: &str, method: HttpMethod, operation: &mut Operation) {
    if !is_guarded(path) {
        return;
    }
    let token = SecurityRequirement::new(SCHEME, Vec::<String>::new());
    operation.security = Some(vec![token]);
    let takes_body = operation.request_body.is_some();
    let gives = |status: &str| match operation.responses.responses.get(status) {
        Some(RefOr::T(response)) => Some(&response.content),
        _ => None,
    };
    let answer = ["200", "201"].into_iter().find_map(gives);
    let chooses = answer.is_some_and(|content| !content.is_empty());
    let is_tagged = method == HttpMethod::Get && answer.is_some_and(|all| all.contains_key(JSON));
    let creates = method == HttpMethod::Post && gives("201").is_some();
    let mut add = |status: &str, what: &str| {
        let responses = &mut operation.responses.responses;
        let entry = responses.entry(status.to_owned());
        entry.or_insert_with(|| problem(what).into());
    };
    add(
        "400",
        "The path, the query, a header or the body is not as documented.",
    );
    add("401", "The token is missing or wrong.");
    add("429", "The address asks too often.");
    add(
        "503",
        "The server is overloaded, stopping, or its storage failed.",
    );
    if method != HttpMethod::Get && method != HttpMethod::Head {
        add("409", "The server only reads.");
    }
    if takes_body {
        add("413", "The body is too large.");
        add("415", "The body is of another media type.");
    }
    if chooses {
        add(
            "406",
            "`Accept` allows none of the media types of the answer.",
        );
    }
    if is_tagged {
        let unchanged =
            ResponseBuilder::new().description("What `If-None-Match` names is still so.");
        let responses = &mut operation.responses.responses;
        responses.insert("304".to_owned(), unchanged.build().into());
        let what = "Tags of answers the caller has.";
        header(operation, "If-None-Match", what, None);
    }
    if creates {
        let key = "The same request, sent again under the same key, does nothing twice.";
        header(operation, "Idempotency-Key", key, Some("^[!-~]{1,255}$"));
    }
}

/// Documents a header of the request, unless the operation did.
fn header(operation: &mut Operation, name: &str, what: &str, pattern: Option<&str>) {
    let parameters = operation.parameters.get_or_insert_default();
    if parameters
        .iter()
        .any(|one| one.name.eq_ignore_ascii_case(name))
    {
        return;
    }
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(what))
        .schema(Some(
            ObjectBuilder::new()
                .schema_type(SchemaType::Type(Type::String))
                .pattern(pattern),
        ));
    parameters.push(parameter.build());
}

/// The operations of a path.
pub(crate) fn operations(
    item: &mut PathItem,
) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    let all = [
        (HttpMethod::Get, &mut item.get),
        (HttpMethod::Put, &mut item.put),
        (HttpMethod::Post, &mut item.post),
        (HttpMethod::Delete, &mut item.delete),
        (HttpMethod::Head, &mut item.head),
        (HttpMethod::Patch, &mut item.patch),
    ];
    all.into_iter()
        .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// A response with a problem.
pub(crate) fn problem(what: &str) -> Response {
    let schema = Ref::from_schema_name("Problem");
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new()
        .description(what)
        .content(PROBLEM, content)
        .build()
}

/// Schema of the findings in a pipeline file, whose type belongs to a crate without an API.
pub(crate) fn diagnostics() -> RefOr<Schema> {
    let finding = ObjectBuilder::new()
        .property("code", text("Stable word."))
        .required("code")
        .property("severity", severity())
        .required("severity")
        .property("file", text("The file as the caller named it."))
        .required("file")
        .property("span", span())
        .required("span")
        .property("message", text("What is wrong."))
        .required("message")
        .property("help", text("What to do."))
        .property("nearest", text("The valid name that was probably meant."));
    Schema::Array(
        ArrayBuilder::new()
            .items(finding)
            .description(Some(
                "All findings in a pipeline file; only with code `invalid_pipeline`.",
            ))
            .build(),
    )
    .into()
}

fn severity() -> ObjectBuilder {
    text("Whether it stops the run.").enum_values(Some(["error", "warning"]))
}

fn span() -> ObjectBuilder {
    ["line", "column", "len"]
        .into_iter()
        .fold(ObjectBuilder::new(), |span, name| {
            let number = ObjectBuilder::new()
                .schema_type(SchemaType::Type(Type::Integer))
                .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int32)))
                .minimum(Some(0));
            span.property(name, number).required(name)
        })
}

fn text(what: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .description(Some(what))
}

#[cfg(test)]
mod tests {
    /// `UPDATE_EXPECT=1` writes the file anew, as it does for other snapshots.
    #[test]
    fn the_stored_document_is_current() {
        let current = crate::api::openapi();
        expect_test::expect_file!["../../../../spec/openapi.json"].assert_eq(&current);
    }
}
