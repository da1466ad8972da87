//! Writes the code of services.

use std::collections::BTreeSet;

use prost_build::{Comments, Method, Service, ServiceGenerator};

/// Writes a trait, a service and a client for each service of the files.
#[derive(Debug)]
pub(crate) struct Generator {
    /// `package.Service.Method` of the methods that answer nothing.
    pub(crate) one_way: BTreeSet<String>,
}

/// The way in which a method is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Unary,
    OneWay,
    ClientStream,
    ServerStream,
    Bidirectional,
}

impl Shape {
    /// The method of `valkyrie::Service` and of `valkyrie::Stub` that has it.
    const fn name(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::OneWay => "one_way",
            Self::ClientStream => "client_stream",
            Self::ServerStream => "server_stream",
            Self::Bidirectional => "bidirectional",
        }
    }
}

/// A method as the templates below need it.
struct Named<'s> {
    method: &'s Method,
    shape: Shape,
    /// `package.Service/Method`.
    path: String,
    /// The associated type of its answers.
    stream: String,
}

impl Generator {
    fn named<'s>(&self, service: &Service, method: &'s Method) -> Named<'s> {
        let full = qualified(service);
        let listed = format!("{full}.{}", method.proto_name);
        let shape = match (method.client_streaming, method.server_streaming) {
            (false, false) if self.one_way.contains(&listed) => Shape::OneWay,
            (false, false) => Shape::Unary,
            (true, false) => Shape::ClientStream,
            (false, true) => Shape::ServerStream,
            (true, true) => Shape::Bidirectional,
        };
        Named {
            method,
            shape,
            path: format!("{full}/{}", method.proto_name),
            stream: format!("{}Stream", method.proto_name),
        }
    }
}

impl ServiceGenerator for Generator {
    fn generate(&mut self, service: Service, out: &mut String) {
        let methods = service.methods.iter();
        let methods: Vec<_> = methods.map(|method| self.named(&service, method)).collect();
        let code = [
            server_trait(&service, &methods),
            server_function(&service, &methods),
            client(&service, &methods),
        ];
        out.push_str(&code.concat());
    }
}

/// `package.Service`.
fn qualified(service: &Service) -> String {
    match service.package.as_str() {
        "" => service.proto_name.clone(),
        package => format!("{package}.{}", service.proto_name),
    }
}

/// The comment of the file, or `instead` where there is none.
fn comment(comments: &Comments, indent: &str, instead: &str) -> String {
    let lines: Vec<_> = comments
        .leading
        .iter()
        .flat_map(|text| text.lines())
        .collect();
    let lines = if lines.is_empty() {
        vec![instead]
    } else {
        lines
    };
    let line = |line: &str| match line.trim() {
        "" => format!("{indent}///\n"),
        text => format!("{indent}/// {text}\n"),
    };
    lines.into_iter().map(line).collect()
}

fn server_trait(service: &Service, methods: &[Named<'_>]) -> String {
    let name = &service.name;
    let instead = format!("The service `{}`.", qualified(service));
    let mut out = comment(&service.comments, "", &instead);
    out.push_str(&format!("pub trait {name}: 'static {{\n"));
    for Named {
        method,
        shape,
        path,
        stream,
    } in methods
    {
        let (input, output) = (&method.input_type, &method.output_type);
        let about = comment(&method.comments, "    ", &format!("Handles `{path}`."));
        let request = match shape {
            Shape::Unary | Shape::OneWay | Shape::ServerStream => input.clone(),
            Shape::ClientStream | Shape::Bidirectional => format!("::valkyrie::Streaming<{input}>"),
        };
        let answer = match shape {
            Shape::OneWay => "()".to_owned(),
            Shape::Unary | Shape::ClientStream => {
                format!(
                    "::core::result::Result<::valkyrie::Response<{output}>, ::valkyrie::Status>"
                )
            }
            Shape::ServerStream | Shape::Bidirectional => {
                out.push_str(&format!(
                    "    /// The answers of `{path}`.\n    type {stream}: ::valkyrie::Stream<\n        \
                     Item = ::core::result::Result<{output}, ::valkyrie::Status>,\n    > + Send + 'static;\n"
                ));
                format!(
                    "::core::result::Result<::valkyrie::Response<Self::{stream}>, ::valkyrie::Status>"
                )
            }
        };
        out.push_str(&about);
        out.push_str(&format!(
            "    fn {}(\n        &self,\n        request: ::valkyrie::Request<{request}>,\n    ) -> impl \
             ::core::future::Future<Output = {answer}>;\n",
            method.name
        ));
    }
    out.push_str("}\n");
    out
}

fn server_function(service: &Service, methods: &[Named<'_>]) -> String {
    let (name, full) = (&service.name, qualified(service));
    let function = snake(name);
    let mut out = format!(
        "/// Makes a service of whoever implements [`{name}`].\n\
         pub fn {function}_service<T: {name}>(\n    implementation: T,\n) -> \
         ::valkyrie::Service<::valkyrie::Prost> {{\n    \
         let implementation = ::std::rc::Rc::new(implementation);\n    \
         ::valkyrie::Service::new(\"{full}\", ::valkyrie::Prost)"
    );
    for named in methods {
        let (shape, method) = (named.shape.name(), named.method);
        out.push_str(&format!(
            "\n        .{shape}(\"{}\", {{\n            \
             let own = ::std::rc::Rc::clone(&implementation);\n            \
             move |request| {{\n                \
             let own = ::std::rc::Rc::clone(&own);\n                \
             async move {{ own.{}(request).await }}\n            }}\n        }})",
            method.proto_name, method.name
        ));
    }
    out.push_str("\n}\n");
    out
}

fn client(service: &Service, methods: &[Named<'_>]) -> String {
    let (name, full) = (&service.name, qualified(service));
    let mut out = format!(
        "/// Calls `{full}`.\n#[derive(Debug, Clone)]\npub struct {name}Client<S> {{\n    \
         stub: ::valkyrie::Stub<S, ::valkyrie::Prost>,\n}}\n\
         impl<S: ::valkyrie::Channel> {name}Client<S> {{\n    \
         /// Calls over `service`: a client, or middleware around one.\n    \
         pub fn new(service: S) -> Self {{\n        \
         let stub = ::valkyrie::Stub::new(service, ::valkyrie::Prost);\n        \
         Self {{ stub }}\n    }}\n"
    );
    for named in methods {
        out.push_str(&client_method(named));
    }
    out.push_str("}\n");
    out
}

fn client_method(named: &Named<'_>) -> String {
    let Named {
        method,
        shape,
        path,
        ..
    } = named;
    let (input, output) = (&method.input_type, &method.output_type);
    let (generics, request) = match shape {
        Shape::Unary | Shape::OneWay | Shape::ServerStream => (String::new(), input.clone()),
        Shape::ClientStream | Shape::Bidirectional => (
            format!(
                "<M: ::valkyrie::Stream<Item = ::core::result::Result<{input}, \
                 ::valkyrie::Status>> + Send + 'static>"
            ),
            "M".to_owned(),
        ),
    };
    let answer = match shape {
        Shape::OneWay => "()".to_owned(),
        Shape::Unary | Shape::ClientStream => format!("::valkyrie::Response<{output}>"),
        Shape::ServerStream | Shape::Bidirectional => {
            format!("::valkyrie::Response<::valkyrie::Streaming<{output}>>")
        }
    };
    let about = comment(&method.comments, "    ", &format!("Calls `{path}`."));
    format!(
        "{about}    ///\n    /// # Errors\n    /// The call failed.\n    \
         pub async fn {}{generics}(\n        &self,\n        \
         request: impl Into<::valkyrie::Request<{request}>>,\n    ) -> \
         ::core::result::Result<{answer}, ::valkyrie::Status> {{\n        \
         self.stub.{}(\"{path}\", request.into()).await\n    }}\n",
        method.name,
        shape.name()
    )
}

/// `UpperCamel` as `upper_camel`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_uppercase() && at > 0 {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}
