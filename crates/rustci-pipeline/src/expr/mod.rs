//! Expressions with GitHub's semantics: `parse` once, `evaluate` with [`Contexts`].
//!
//! ```
//! use rustci_pipeline::expr::{self, Contexts, Value};
//!
//! let mut contexts = Contexts::new();
//! contexts.set("git", &serde_json::json!({"branch": "main"}));
//! let expression = expr::parse("git.branch == 'MAIN' && 1 < 2").unwrap();
//! assert!(expr::evaluate(&expression, &contexts).unwrap().is_truthy());
//! ```

mod ast;
mod context;
mod error;
mod eval;
mod function;
mod lexer;
mod parser;
mod value;

pub use ast::{Comparison, Expr, ExprKind};
pub use context::{Contexts, HashFiles, Outcome, Status};
pub use error::{ExprError, ExprErrorKind};
pub use eval::evaluate;
pub(crate) use eval::{Budget, evaluate_within};
pub use function::Function;
pub use parser::parse;
pub use value::{Object, Value};
