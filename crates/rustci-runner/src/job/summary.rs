//! What a step writes for people: Markdown in `$CI_STEP_SUMMARY`.

use std::io;
use std::path::Path;

use super::log::JobLog;
use super::step_files;
use crate::limits::SUMMARY_BYTES_MAX;

/// Why the summary of a step is not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SummaryError {
    #[error(
        "the summary of this step has more than {SUMMARY_BYTES_MAX} bytes and is left out; put long texts into an artifact"
    )]
    TooLong,
    #[error("the summary of this step cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// The summary, masked; `None` when the step wrote nothing.
pub(crate) fn read(path: &Path, log: &JobLog) -> Result<Option<String>, SummaryError> {
    let bytes = step_files::read(path, SUMMARY_BYTES_MAX)?;
    if bytes.len() as u64 > SUMMARY_BYTES_MAX {
        return Err(SummaryError::TooLong);
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok((!text.trim().is_empty()).then(|| log.mask(&text)))
}
