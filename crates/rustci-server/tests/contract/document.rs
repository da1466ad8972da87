//! The `OpenAPI` document, as a test needs it.

use axum::http::Method;
use serde_json::Value;

/// One operation of the document.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) id: String,
    pub(crate) method: Method,
    pub(crate) json: Value,
}

impl Operation {
    /// Statuses of all documented answers.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        let responses = self.json["responses"].as_object().unwrap();
        responses
            .keys()
            .map(|status| status.parse().unwrap())
            .collect()
    }

    /// Media types and schemas of a documented answer; none if it is not documented.
    pub(crate) fn content(&self, status: u16) -> Option<Vec<(String, Value)>> {
        let response = self.json["responses"].get(status.to_string())?;
        let content = response.get("content").and_then(Value::as_object);
        let pairs = content.into_iter().flatten();
        Some(
            pairs
                .map(|(kind, body)| (kind.clone(), body["schema"].clone()))
                .collect(),
        )
    }

    pub(crate) fn needs_token(&self) -> bool {
        self.json.get("security").is_some()
    }

    pub(crate) fn takes_body(&self) -> bool {
        self.json.get("requestBody").is_some()
    }
}

/// The document of this build.
pub(crate) fn document() -> Value {
    serde_json::from_str(&rustci_server::api::openapi()).unwrap()
}

/// Its operations.
pub(crate) fn operations(document: &Value) -> Vec<Operation> {
    let paths = document["paths"].as_object().unwrap().iter();
    let all = paths.flat_map(|(_, item)| {
        let methods = item.as_object().unwrap().iter();
        methods.map(|(method, json)| Operation {
            id: json["operationId"].as_str().unwrap().to_owned(),
            method: method.to_ascii_uppercase().parse().unwrap(),
            json: json.clone(),
        })
    });
    all.collect()
}
