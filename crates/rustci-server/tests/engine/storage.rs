//! What still holds when the disk fails.

use std::sync::Arc;

use journal::fault::{FaultDisk, Faults};
use journal::{FileJournal, JournalConfig, LogConfig};
use rustci_scheduler::StoredPlan;
use rustci_scheduler::record::record::Kind;
use rustci_server::engine::{Engine, EngineConfig, Submission};
use rustci_server::health::Health;

use super::*;

/// A plan of one job, as the API would submit it.
fn submission() -> Submission {
    let parsed = rustci_pipeline::parse("ci.yaml", ONE_JOB);
    let planned = rustci_pipeline::plan(
        &parsed.pipeline.unwrap(),
        &rustci_pipeline::PlanRequest {
            event: "manual".into(),
            ..Default::default()
        },
    );
    let new = json!({ "pipeline": { "file": "ci.yaml", "text": ONE_JOB }, "project": "p" });
    Submission {
        plan: Arc::new(StoredPlan::new(planned.unwrap().plan)),
        event: "manual".into(),
        inputs: serde_json::Map::new(),
        trace: None,
        new: serde_json::from_value(new).unwrap(),
    }
}

#[test]
fn a_failing_sync_stops_the_server_and_acknowledges_nothing_more() {
    script(async {
        let disk = FaultDisk::new();
        let (journal, recovered) =
            FileJournal::open_on(disk.clone(), JournalConfig::default()).unwrap();
        let config = EngineConfig::default();
        let health = config.health.clone();
        let (engine, handle) = Engine::new(config, Box::new(journal), &recovered, 0).unwrap();
        let endpoint: Endpoint = "valkyrie+mem://failing".parse().unwrap();
        let listener = valkyrie::listen(&endpoint).await.unwrap();
        let serve = valkyrie::serve(listener, LinkConfig::default(), engine.handlers());
        tokio::task::spawn_local(serve);
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let running = tokio::task::spawn_local(engine.run(stopped));
        let runner = Runner::connect_to(&endpoint, &[]).await;
        let run = handle.submit(submission()).await.unwrap();
        let (stream, attempt) = runner.begun().await;
        disk.set_faults(Faults {
            syncs_left: Some(0),
            ..Faults::default()
        });
        runner.complete(stream, attempt, 0);
        assert_eq!(
            runner.next().await,
            Heard::Closed,
            "no acknowledgement, only the end"
        );
        assert!(matches!(health.get(), Health::Failed { .. }));
        let refused = handle.submit(submission()).await.unwrap_err();
        assert_eq!(refused.code(), "storage_failed");
        stop.send_replace(true);
        running.await.unwrap();
        // The disk as a new process finds it once it is repaired.
        disk.set_faults(Faults::default());
        let (journal, recovered) =
            FileJournal::open_on(disk.kill(), JournalConfig::default()).unwrap();
        let (_engine, handle) =
            Engine::new(EngineConfig::default(), Box::new(journal), &recovered, 0).unwrap();
        drop(handle);
        assert!(recovered.last().get() >= run.id);
    });
}

#[test]
fn a_storage_failure_ends_what_is_followed_with_an_error() {
    const EVENTS: &str = "/api/v1/runs/1/events";
    script(async {
        let fixture = Fixture::start("broken");
        let runner = Runner::connect(fixture.server(), &[]).await;
        fixture.submit(ONE_JOB).await;
        let (_, attempt) = runner.begun().await;
        let mut states = fixture.stream(EVENTS, None).await;
        let mut live = fixture.follow("", None).await;
        let raw = "/api/v1/runs/1/jobs/a/log?follow=true";
        let mut raw = fixture
            .stream_as(raw, "application/octet-stream", None)
            .await;
        states.until("event: run").await;
        fixture.block_logs(1);
        runner.log(attempt);
        for stream in [&mut states, &mut live] {
            stream.until("\"code\":\"storage_failed\"").await;
            assert!(stream.1.contains("event: error\n"), "{}", stream.1);
            assert!(stream.0.next().await.is_none(), "{}", stream.1);
            assert!(!stream.1.contains("event: end"), "{}", stream.1);
        }
        let cut = tokio::time::timeout(PATIENCE, raw.0.next()).await.unwrap();
        assert!(cut.unwrap().is_err(), "nobody may take it for whole");
        // Who comes later learns the states, and that no more will come.
        let (status, late) = fixture.http("GET", EVENTS, Body::empty()).await;
        let late = String::from_utf8(late).unwrap();
        assert_eq!(status, 200);
        assert!(late.contains("event: job") && late.contains("event: error"));
        assert_eq!(fixture.run().await.status, Status::Running);
        let cancel = fixture.http("POST", "/api/v1/runs/1/cancel", Body::empty());
        assert_eq!(cancel.await.0, 503);
    });
}

#[test]
fn after_a_storage_failure_a_finished_run_is_read_to_its_end() {
    script(async {
        let fixture = Fixture::start("readable");
        let runner = Runner::connect(fixture.server(), &[]).await;
        fixture.submit(ONE_JOB).await;
        let (stream, attempt) = runner.begun().await;
        let log = runner.log(attempt);
        let records = line("kept");
        runner.accepted().await;
        runner.link.session().log(log, 0, &records).unwrap();
        runner.complete(stream, attempt, records.len() as u64);
        runner.acked().await;
        fixture.submit(ONE_JOB).await;
        let (_, second) = runner.begun().await;
        fixture.block_logs(2);
        runner.log(second);
        runner
            .wait(|heard| (heard == Heard::Closed).then_some(()))
            .await;
        let mut live = fixture.follow("", None).await;
        live.until("event: end").await;
        assert!(live.1.contains("\"text\":\"kept\""), "{}", live.1);
        let mut states = fixture.stream("/api/v1/runs/1/events", None).await;
        states.until("event: end").await;
        assert!(!states.1.contains("event: error"), "{}", states.1);
    });
}

#[test]
fn a_full_disk_refuses_new_runs_and_keeps_the_old_ones() {
    script(async {
        let disk = FaultDisk::new();
        let log = LogConfig {
            segment_bytes: 32 << 10,
        };
        let config = JournalConfig {
            log,
            ..JournalConfig::default()
        };
        let (journal, recovered) = FileJournal::open_on(disk.clone(), config).unwrap();
        let (engine, handle) =
            Engine::new(EngineConfig::default(), Box::new(journal), &recovered, 0).unwrap();
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        tokio::task::spawn_local(engine.run(stopped));
        handle.submit(submission()).await.unwrap();
        disk.set_faults(Faults {
            bytes_left: Some(0),
            ..Faults::default()
        });
        // Space that was allocated before may take some more; then it is over for good.
        let mut accepted = 1;
        while handle.submit(submission()).await.is_ok() {
            accepted += 1;
            assert!(accepted < 1_000, "the disk is full");
        }
        disk.set_faults(Faults::default());
        let (_, recovered) = FileJournal::open_on(disk.kill(), config).unwrap();
        let runs = recovered.records().filter(|(_, bytes)| {
            let record = rustci_scheduler::record::Record::decode(*bytes).unwrap();
            matches!(record.kind, Some(Kind::RunSubmitted(_)))
        });
        assert!(runs.count() >= accepted, "every acknowledged run is there");
    });
}
