//! A registered pipeline, as the journal keeps it.

use std::collections::BTreeMap;

use rustci_pipeline::{Cron, Pipeline, PlanRefused, PlanRequest};
use serde::{Deserialize, Serialize};

use crate::api::view::{NewPipeline, PipelineSource, PipelineText, PipelineView, ScheduleView};
use crate::api::{ApiError, check};
use crate::expected::tag_of;
use crate::limits::NAME_BYTES_MAX;

/// The version of the stored form that this code writes.
const VERSION: u32 = 1;

/// A pipeline that the server keeps. A stored format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registered {
    version: u32,
    /// Names this state of it, by the bytes it is stored as.
    #[serde(skip)]
    pub(crate) tag: String,
    /// Unique on the server.
    pub(crate) name: String,
    pub(crate) project: String,
    pub(crate) pipeline: PipelineText,
    #[serde(default)]
    pub(crate) source: Option<PipelineSource>,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Whether its schedules are left out.
    #[serde(default)]
    pub(crate) paused: bool,
    pub(crate) created_ms: u64,
    pub(crate) updated_ms: u64,
}

/// What the older API shows of a file.
#[derive(Debug)]
pub(crate) struct Older {
    pub(crate) title: String,
    pub(crate) description: Option<String>,
    /// The name of its tier; none for a native file.
    pub(crate) tier: Option<&'static str>,
}

impl Registered {
    /// Checks what somebody wants to register. `name` wins over the one in the request; without
    /// both it is made of the pipeline's own.
    ///
    /// # Errors
    /// [`ApiError::Pipeline`] with every finding, [`ApiError::Invalid`].
    pub(crate) fn new(
        new: NewPipeline,
        name: Option<String>,
        now_ms: u64,
    ) -> Result<Self, ApiError> {
        check::file(&new.pipeline)?;
        check::env(&new.env)?;
        let pipeline = read(&new.pipeline)?;
        let name = name.or(new.name);
        let name = name.unwrap_or_else(|| slug(pipeline.name()));
        check_name(&name)?;
        let repository = pipeline.repository();
        let source = new.source.or_else(|| {
            repository.map(|(url, branch)| PipelineSource {
                url: url.to_owned(),
                reference: branch.unwrap_or("main").to_owned(),
            })
        });
        if let Some(source) = &source {
            source.check()?;
        }
        let project = new.project.unwrap_or_else(|| name.clone());
        if project.is_empty() || project.len() > NAME_BYTES_MAX {
            return Err(ApiError::Invalid(format!(
                "project must have 1 to {NAME_BYTES_MAX} bytes"
            )));
        }
        Ok(Self {
            version: VERSION,
            tag: String::new(),
            name,
            project,
            pipeline: new.pipeline,
            source,
            env: new.env,
            paused: new.paused,
            created_ms: now_ms,
            updated_ms: now_ms,
        })
    }

    /// The stored form.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, ApiError> {
        serde_json::to_vec(self).map_err(|error| ApiError::Internal(error.to_string()))
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// [`ApiError::Internal`] for what a newer program wrote.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, ApiError> {
        let read: Result<Self, _> = serde_json::from_slice(bytes);
        match read {
            Ok(read) if read.version <= VERSION => Ok(Self {
                tag: tag_of(bytes),
                ..read
            }),
            Ok(read) => Err(ApiError::Internal(format!(
                "a registered pipeline has version {}, this program knows up to {VERSION}",
                read.version
            ))),
            Err(error) => Err(ApiError::Internal(format!(
                "a registered pipeline is not readable: {error}"
            ))),
        }
    }

    /// What the older API shows of the file.
    pub(crate) fn older(&self) -> Older {
        let pipeline = read(&self.pipeline).ok();
        let pipeline = pipeline.as_ref();
        let text = |text: Option<&str>| text.map(str::to_owned);
        Older {
            title: pipeline.map_or_else(|| self.name.clone(), |it| it.name().to_owned()),
            description: text(pipeline.and_then(Pipeline::description)),
            tier: pipeline.and_then(Pipeline::tier),
        }
    }

    /// Why an event does not start it; none when it does.
    ///
    /// # Errors
    /// [`ApiError::Pipeline`] when the file cannot be run.
    pub(crate) fn refuses(&self, request: &PlanRequest) -> Result<Option<String>, ApiError> {
        match rustci_pipeline::plan(&read(&self.pipeline)?, request) {
            Ok(planned) => Ok((!planned.triggered).then_some(planned.reason)),
            Err(refused @ PlanRefused::Skipped { .. }) => Ok(Some(refused.to_string())),
            Err(refused) => Err(ApiError::Pipeline {
                file: self.pipeline.file.clone(),
                diagnostics: refused.into_diagnostics(),
            }),
        }
    }

    /// Its schedules; empty while it is paused.
    pub(crate) fn schedules(&self) -> Vec<Cron> {
        if self.paused {
            return Vec::new();
        }
        read(&self.pipeline).map_or_else(|_| Vec::new(), |pipeline| pipeline.crons().to_vec())
    }

    /// The API's form. Without `Some` of texts only what a list shows.
    pub(crate) fn view(&self, now_ms: u64) -> PipelineView {
        let pipeline = read(&self.pipeline).ok();
        let crons = pipeline.as_ref().map(Pipeline::crons).unwrap_or_default();
        let schedules = crons.iter().map(|cron| ScheduleView {
            name: cron.name().to_owned(),
            schedule: cron.schedule().to_owned(),
            timezone: cron.timezone().to_owned(),
            next_ms: cron.next_after(now_ms).filter(|_| !self.paused),
        });
        PipelineView {
            name: self.name.clone(),
            title: pipeline
                .as_ref()
                .map_or_else(|| self.name.clone(), |pipeline| pipeline.name().to_owned()),
            project: self.project.clone(),
            file: self.pipeline.file.clone(),
            source: self.source.clone(),
            env: self.env.clone(),
            paused: self.paused,
            schedules: schedules.collect(),
            created_ms: self.created_ms,
            updated_ms: self.updated_ms,
            etag: self.tag.clone(),
            text: None,
            includes: BTreeMap::new(),
        }
    }

    /// The API's form with everything.
    pub(crate) fn full_view(&self, now_ms: u64) -> PipelineView {
        PipelineView {
            text: Some(self.pipeline.text.clone()),
            includes: self.pipeline.includes.clone(),
            ..self.view(now_ms)
        }
    }
}

/// Reads a file; every finding at once when it cannot be run.
fn read(text: &PipelineText) -> Result<Pipeline, ApiError> {
    let parsed = rustci_pipeline::parse_with(&text.file, &text.text, &text.includes);
    parsed.pipeline.ok_or_else(|| ApiError::Pipeline {
        file: text.file.clone(),
        diagnostics: parsed.diagnostics,
    })
}

/// Whether a name fits into a path and a shell.
fn check_name(name: &str) -> Result<(), ApiError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let fits = name.chars().all(plain) && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if fits && name.len() <= 100 {
        return Ok(());
    }
    Err(ApiError::Invalid(
        "name has 1 to 100 letters, digits, `-`, `_` and `.`, and begins with a letter or digit"
            .to_owned(),
    ))
}

/// A name made of what people call the pipeline.
pub(crate) fn slug(title: &str) -> String {
    let mut slug = String::new();
    for c in title.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug: String = slug.trim_end_matches('-').chars().take(80).collect();
    if slug.is_empty() {
        "pipeline".to_owned()
    } else {
        slug
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(text: &str) -> NewPipeline {
        NewPipeline {
            pipeline: PipelineText {
                file: "ci.yaml".to_owned(),
                text: text.to_owned(),
                includes: BTreeMap::new(),
            },
            ..NewPipeline::default()
        }
    }

    #[test]
    fn what_is_stored_comes_back() {
        let text = "name: My Nightly!\nrepo: https://example.org/a.git\nsteps: [make]\n";
        let mut registered = Registered::new(new(text), None, 7).unwrap();
        assert_eq!(registered.name, "my-nightly");
        let source = registered.source.as_ref().unwrap();
        assert_eq!(source.url, "https://example.org/a.git");
        assert_eq!(source.reference, "main");
        let bytes = registered.to_bytes().unwrap();
        registered.tag = tag_of(&bytes);
        assert_eq!(Registered::from_bytes(&bytes).unwrap(), registered);
        assert!(Registered::from_bytes(b"{}").is_err());
    }

    #[test]
    fn names_that_a_path_could_not_have_are_refused() {
        let steps = "steps: [make]\n";
        for name in ["", "a/b", "-a", "a b", "é", &"x".repeat(101)] {
            let named = Registered::new(new(steps), Some(name.to_owned()), 0);
            assert!(matches!(named, Err(ApiError::Invalid(_))), "{name}");
        }
        assert!(matches!(
            Registered::new(new("steps: []"), None, 0),
            Err(ApiError::Pipeline { .. })
        ));
    }
}
