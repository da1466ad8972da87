//! Whether projects run more than they may, as the durable records tell.

use std::collections::BTreeMap;

use rustci_scheduler::record::{Record, record::Kind};

/// What projects run and may run.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    /// Bounds of running jobs by project; that of the empty name holds for all without their own.
    bounds: BTreeMap<String, u32>,
    /// The project of each run, by the first of each row of its jobs.
    projects: BTreeMap<u64, String>,
    /// Running jobs with their projects.
    running: BTreeMap<u64, String>,
}

impl Quotas {
    /// Takes a durable record; says what is wrong with it.
    pub(crate) fn record(&mut self, record: &Record) -> Result<(), String> {
        match &record.kind {
            Some(Kind::QuotaSet(set)) => {
                self.bounds.insert(set.project.clone(), set.running);
            }
            Some(Kind::RunSubmitted(submitted)) => {
                let meta = submitted.meta.clone().unwrap_or_default();
                self.projects.insert(submitted.first_job, meta.project);
            }
            Some(Kind::MatrixExpanded(expanded)) => {
                if let Some(project) = self.project(expanded.job) {
                    self.projects.insert(expanded.first_job, project);
                }
            }
            Some(Kind::Leased(leased)) => return self.lease(leased.job),
            Some(Kind::AttemptEnded(ended)) => drop(self.running.remove(&ended.job)),
            _ => {}
        }
        Ok(())
    }

    fn project(&self, job: u64) -> Option<String> {
        let (_, project) = self.projects.range(..=job).next_back()?;
        Some(project.clone())
    }

    fn lease(&mut self, job: u64) -> Result<(), String> {
        let Some(project) = self.project(job) else {
            return Ok(());
        };
        let bound = |name: &str| self.bounds.get(name).copied().filter(|bound| *bound > 0);
        let bound = bound(&project).or(bound(""));
        self.running.insert(job, project.clone());
        let running = self.running.values().filter(|other| **other == project);
        let running = u32::try_from(running.count()).unwrap_or(u32::MAX);
        match bound {
            Some(bound) if running > bound => Err(format!(
                "job {job} is job {running} of project {project}, which may run {bound}"
            )),
            _ => Ok(()),
        }
    }
}
