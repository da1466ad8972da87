//! The stable codes of diagnostics.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A diagnostic's code: `RC0101`. The hundreds are the kind: 0 text, 1 shape, 2 jobs, 3 expressions,
/// 4 triggers and inputs, 5 what this version does not do, 6 bad habits, 7 included files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u16);

macro_rules! codes {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        impl Code {
            $(#[doc = $text] pub const $name: Self = Self($number);)*

            /// Every code that this version gives, with a line on each; `docs/pipelines.md` has
            /// the same table.
            pub const ALL: &[(Self, &str)] = &[$((Self::$name, $text)),*];
        }
    };
}

codes! {
    SYNTAX = 1, "The text is not YAML.";
    SIZE = 2, "The file is larger than 1 MiB.";
    DEPTH = 3, "Values are nested deeper than 64 levels.";
    ALIASES = 4, "Aliases bring more than 10,000 values, or there are more than 1,000 of them.";
    DUPLICATE_KEY = 5, "A key stands twice in one mapping.";
    DOCUMENTS = 6, "The file is empty or has more than one document.";
    MERGE = 7, "A merge key (`<<`) is not given a mapping or a list of mappings.";
    TAG = 8, "A value has a YAML tag that pipelines do not use.";
    UNKNOWN_KEY = 101, "A key that the format does not know.";
    MISSING_KEY = 102, "A key that has to be there is not.";
    TYPE = 103, "A value has the wrong type.";
    VALUE = 104, "A value is not one of those allowed.";
    DURATION = 105, "A duration is not readable, or zero, or too long.";
    EMPTY = 106, "Something that needs content is empty.";
    NAME = 107, "An id or a name has characters that are not allowed.";
    RANGE = 108, "A number lies outside its range.";
    UNKNOWN_NEED = 201, "`needs` names a job that does not exist.";
    CYCLE = 202, "Jobs wait for each other in a circle.";
    DUPLICATE_ID = 203, "Two steps of a job have the same id, or a name stands twice where it may once.";
    TOO_MANY = 204, "There are more jobs, matrix instances or steps than the limit.";
    MATRIX = 205, "A matrix has no instance, or its exclude or include names something unknown.";
    DUPLICATE_JOB = 206, "Two jobs or matrix instances come out with the same key.";
    DOWNLOAD = 207, "`downloads` names an artifact that no job before this one keeps.";
    SLOT = 208, "A job waits for the concurrency group that its own run holds.";
    EXPRESSION = 301, "An expression is not readable.";
    UNKNOWN_CONTEXT = 302, "An expression uses a context that does not exist or not here.";
    UNKNOWN_FUNCTION = 303, "An expression calls a function that does not exist or not here.";
    UNTRUSTED = 304, "A value that strangers control would be put into a script.";
    SECRET_IN_TEXT = 305, "A secret is used in an expression instead of the job's `secrets`.";
    UNKNOWN_PROPERTY = 306, "An expression names a step, need, input or matrix axis that is not there.";
    CONSTANT_CONDITION = 307, "A condition has text around `${{ }}` and is therefore always true.";
    UNKNOWN_VARIABLE = 308, "A `${NAME}` of an older file is set nowhere.";
    QUOTED_NAME = 309, "A `${NAME}` of an older file stands in single quotes, where it is not replaced.";
    TRIGGER = 401, "`on` names an event that does not exist.";
    PATTERN = 402, "A branch, tag or path pattern is not readable.";
    INPUT = 403, "An input's declaration does not fit together.";
    INPUT_VALUE = 404, "An input's value is missing, unknown or of the wrong type.";
    CRON = 405, "A schedule or its time zone is not readable, or the schedule never comes.";
    NOT_YET = 501, "A key of the format that changes what runs and that this version cannot do.";
    IGNORED = 502, "A key of the format that only adds something and that this version leaves out.";
    SECRET_IN_CLEAR = 601, "What looks like a secret stands in the file.";
    UNREACHABLE = 602, "A job or step can never run.";
    PIPE_TO_SHELL = 603, "A script from the network is run unseen.";
    IGNORED_FAILURE = 604, "Everything may fail, so nothing ever does.";
    NO_TIMEOUT = 605, "A job has no time limit of its own.";
    UNPINNED = 606, "Something is fetched without a version.";
    SECRETS_FOR_STRANGERS = 607, "A job that pull requests start gets secrets.";
    CONSTANT_CACHE_KEY = 608, "The key of a cache never changes.";
    EMPTY_RETRY = 609, "A `retry` makes no further try.";
    INCLUDE = 701, "An included file is not there, or has no job of that name.";
    INCLUDE_PATH = 702, "The path of an included file leads out of the project.";
    INCLUDE_CYCLE = 703, "Files include each other in a circle.";
    INCLUDE_LIMIT = 704, "There are too many included files, or they are too deep or too large.";
    TEMPLATE = 705, "A file or a job is used as what it is not.";
    TEMPLATE_INPUT = 706, "An input of an included file is missing, unknown or of the wrong type.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RC{:04}", self.0)
    }
}

/// The text is not a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a diagnostic code is `RC` and four digits")]
pub struct CodeError;

impl FromStr for Code {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text
            .strip_prefix("RC")
            .filter(|digits| digits.len() == 4)
            .ok_or(CodeError)?;
        digits.parse().map(Self).map_err(|_| CodeError)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}
