//! The manager between those who report and the adapters.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use telemetry::notify::{
    ConsoleNotificationAdapter, Notice, NotificationAdapter, NotificationManager,
    NotificationMessage, NotificationSeverity, NotifyError, Rule, RuleKind, Sending,
};
use tokio::sync::Semaphore;
use tokio::time;

/// Keeps what it gets, one message for each permit.
#[derive(Clone)]
struct Kept {
    name: &'static str,
    messages: Arc<Mutex<Vec<NotificationMessage>>>,
    permits: Arc<Semaphore>,
}

impl Kept {
    fn new(name: &'static str, permits: usize) -> Self {
        Self {
            name,
            messages: Arc::default(),
            permits: Arc::new(Semaphore::new(permits)),
        }
    }

    fn titles(&self) -> Vec<String> {
        let messages = self.messages.lock().unwrap();
        messages
            .iter()
            .map(|message| message.title.clone())
            .collect()
    }
}

impl NotificationAdapter for Kept {
    fn name(&self) -> &str {
        self.name
    }

    fn send<'a>(&'a self, message: &'a NotificationMessage) -> Sending<'a> {
        Box::pin(async move {
            self.permits.acquire().await.unwrap().forget();
            self.messages.lock().unwrap().push(message.clone());
            Ok("kept".to_owned())
        })
    }
}

/// Refuses everything.
struct Refusing;

impl NotificationAdapter for Refusing {
    fn name(&self) -> &'static str {
        "refusing"
    }

    fn send<'a>(&'a self, _: &'a NotificationMessage) -> Sending<'a> {
        let error = NotifyError::Config {
            adapter: "refusing".to_owned(),
            problem: "never".to_owned(),
        };
        Box::pin(std::future::ready(Err(error)))
    }
}

fn notice(subject: &str) -> Notice {
    let severity = NotificationSeverity::Warning;
    Notice {
        kind: RuleKind::FellBack,
        subject: subject.to_owned(),
        message: NotificationMessage::new(severity, format!("{subject} is down"), "b"),
    }
}

fn open() -> Rule {
    Rule {
        per_hour: 1_000,
        ..Rule::new(RuleKind::FellBack)
    }
}

#[tokio::test(start_paused = true)]
async fn repetitions_are_told_when_the_window_ends() {
    let kept = Kept::new("kept", 100);
    let mut manager = NotificationManager::new();
    manager.add_adapter(Box::new(kept.clone()));
    for _ in 0..5 {
        manager.notifier().notify(notice("redis"));
    }
    manager.flush().await;
    assert_eq!(kept.titles(), ["redis is down"]);
    time::sleep(Duration::from_secs(599)).await;
    assert_eq!(kept.titles().len(), 1);
    time::sleep(Duration::from_secs(2)).await;
    assert_eq!(kept.titles()[1..], ["redis is down (4 more times)"]);
}

#[tokio::test]
async fn slow_adapter_does_not_hold_the_others_and_drops_what_it_has_no_room_for() {
    let (slow, quick) = (Kept::new("slow", 0), Kept::new("quick", 2_000));
    let mut manager = NotificationManager::new();
    manager.set_rule(open());
    manager.set_rule(Rule {
        per_hour: 1_000,
        ..Rule::new(RuleKind::Other)
    });
    manager.add_adapter(Box::new(slow.clone()));
    manager.add_adapter(Box::new(quick.clone()));
    manager.add_adapter(Box::new(Refusing));
    for number in 0..1_100 {
        let mut notice = notice(&number.to_string());
        if number % 2 == 0 {
            notice.kind = RuleKind::Other;
        }
        manager.notifier().notify(notice);
        tokio::task::yield_now().await;
    }
    while quick.titles().len() < 1_100 {
        tokio::task::yield_now().await;
    }
    let counts = manager.counts();
    assert_eq!(counts[1].sent, 1_100);
    // One is being sent, 1,024 wait.
    assert_eq!((counts[0].sent, counts[0].dropped), (0, 1_100 - 1_025));
    while manager.counts()[2].failed < 1_100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        manager.counts()[2].last_error.as_deref(),
        Some("refusing: never")
    );
    slow.permits.add_permits(2_000);
    manager.flush().await;
    assert_eq!(manager.counts()[0].sent, 1_025);
    assert_eq!(manager.dropped(), 0);
}

#[tokio::test]
async fn reporter_that_is_faster_than_the_manager_never_waits() {
    let kept = Kept::new("kept", 2_000);
    let mut manager = NotificationManager::new();
    manager.set_rule(open());
    manager.add_adapter(Box::new(kept.clone()));
    // Nothing else runs meanwhile: this is one thread.
    for number in 0..2_000 {
        manager.notifier().notify(notice(&number.to_string()));
    }
    assert_eq!(manager.dropped(), 2_000 - 1_024);
    manager.flush().await;
    assert_eq!(kept.titles().len(), 1_000);
}

#[tokio::test]
async fn close_tells_what_was_counted_and_does_not_wait_for_ever() {
    let (kept, stuck) = (Kept::new("kept", 10), Kept::new("stuck", 0));
    let mut manager = NotificationManager::new();
    manager.add_adapter(Box::new(kept.clone()));
    let message = NotificationMessage::new(NotificationSeverity::Info, "again", "b");
    for _ in 0..3 {
        manager.send_notification(message.clone()).await;
    }
    manager.close(Duration::from_secs(20)).await;
    assert_eq!(kept.titles(), ["again", "again (2 more times)"]);
    let mut manager = NotificationManager::new();
    manager.add_adapter(Box::new(stuck));
    manager.send_notification(message).await;
    time::pause();
    manager.close(Duration::from_secs(5)).await;
}

#[test]
fn what_was_reported_before_there_was_a_runtime_is_sent_then() {
    let kept = Kept::new("kept", 10);
    let mut manager = NotificationManager::new();
    manager.add_adapter(Box::new(kept.clone()));
    manager.notifier().notify(notice("early"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(manager.flush());
    assert_eq!(kept.titles(), ["early is down"]);
}

/// The program of the requirement.
#[tokio::test]
async fn program_of_the_requirement_sends() {
    let kept = Kept::new("kept", 10);
    let mut manager = NotificationManager::new();
    manager.add_adapter(Box::new(ConsoleNotificationAdapter::new(HashMap::new())));
    manager.add_adapter(Box::new(kept.clone()));
    let message = NotificationMessage {
        title: "Storage Alert".to_string(),
        body: "Redis connection failed, switched to ValKey".to_string(),
        severity: NotificationSeverity::Warning,
        tags: vec!["storage".to_string(), "failover".to_string()],
        timestamp: std::time::SystemTime::now(),
    };
    manager.send_notification(message.clone()).await;
    manager.flush().await;
    assert_eq!(*kept.messages.lock().unwrap(), [message]);
    assert_eq!(manager.counts()[0].sent, 1);
}
