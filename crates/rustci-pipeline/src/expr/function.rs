//! The functions an expression can call, by name and number of arguments.

use crate::nearest::nearest;

/// A function of expressions. Names are found without case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// `contains(text or list, item)`
    Contains,
    /// `startsWith(text, start)`
    StartsWith,
    /// `endsWith(text, end)`
    EndsWith,
    /// `format('{0} {1}', a, b)`
    Format,
    /// `join(list, separator)`
    Join,
    /// `toJSON(value)`
    ToJson,
    /// `fromJSON(text)`
    FromJson,
    /// `case(condition, value, condition, value, otherwise)`
    Case,
    /// `hashFiles(pattern, ..)`
    HashFiles,
    /// `success()`
    Success,
    /// `failure()`
    Failure,
    /// `always()`
    Always,
    /// `cancelled()`
    Cancelled,
}

const ALL: [(Function, &str, usize, usize); 13] = [
    (Function::Contains, "contains", 2, 2),
    (Function::StartsWith, "startsWith", 2, 2),
    (Function::EndsWith, "endsWith", 2, 2),
    (Function::Format, "format", 1, 255),
    (Function::Join, "join", 1, 2),
    (Function::ToJson, "toJSON", 1, 1),
    (Function::FromJson, "fromJSON", 1, 1),
    (Function::Case, "case", 3, 255),
    (Function::HashFiles, "hashFiles", 1, 255),
    (Function::Success, "success", 0, 0),
    (Function::Failure, "failure", 0, 0),
    (Function::Always, "always", 0, 0),
    (Function::Cancelled, "cancelled", 0, 0),
];

impl Function {
    /// The function called `name`.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        let found = ALL
            .iter()
            .find(|(_, known, ..)| known.eq_ignore_ascii_case(name));
        found.map(|(function, ..)| *function)
    }

    /// The name as the documentation writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        ALL.iter()
            .find(|(function, ..)| *function == self)
            .map_or("", |(_, name, ..)| name)
    }

    /// Whether it asks how things stand.
    #[must_use]
    pub fn is_status(self) -> bool {
        matches!(
            self,
            Self::Success | Self::Failure | Self::Always | Self::Cancelled
        )
    }

    pub(super) fn nearest(name: &str) -> Option<&'static str> {
        nearest(name, ALL.iter().map(|(_, known, ..)| *known))
    }

    /// Why it cannot be called with `count` arguments.
    pub(super) fn check_arguments(self, count: usize) -> Result<(), String> {
        let (min, max) = ALL
            .iter()
            .find(|(function, ..)| *function == self)
            .map_or((0, 0), |(_, _, min, max)| (*min, *max));
        let name = self.name();
        if count < min {
            return Err(format!(
                "too few arguments: `{name}` takes at least {min}, not {count}"
            ));
        }
        if count > max {
            return Err(format!(
                "too many arguments: `{name}` takes at most {max}, not {count}"
            ));
        }
        if self == Self::Case && count.is_multiple_of(2) {
            return Err("even number of arguments: `case` takes pairs and a last value".to_owned());
        }
        Ok(())
    }
}
