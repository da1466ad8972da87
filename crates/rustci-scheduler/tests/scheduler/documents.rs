//! Documents: kept for others, through every restart.

use rustci_scheduler::{
    Command, Refused,
    limits::{DOCUMENT_BYTES_MAX, DOCUMENTS_MAX},
};

use crate::world::World;

fn set(kind: &str, key: &str, value: Option<&[u8]>) -> Command {
    Command::SetDocument {
        kind: kind.to_owned(),
        key: key.to_owned(),
        value: value.map(<[u8]>::to_vec),
    }
}

fn list(world: &World, kind: &str) -> Vec<(String, Vec<u8>)> {
    let documents = world.scheduler.documents(kind);
    let owned = documents.map(|(key, value)| (key.to_owned(), value.to_owned()));
    owned.collect()
}

#[test]
fn documents_are_replaced_removed_and_kept_over_a_restart() {
    let mut world = World::default();
    world.handle(set("pipeline", "b", Some(b"1")));
    world.handle(set("pipeline", "a", Some(b"")));
    world.handle(set("cron", "a", Some(b"x")));
    world.handle(set("pipeline", "b", Some(b"2")));
    world.handle(set("cron", "a", None));
    world.restart();
    let expected = vec![("a".to_owned(), vec![]), ("b".to_owned(), b"2".to_vec())];
    assert_eq!(list(&world, "pipeline"), expected);
    assert_eq!(list(&world, "cron"), []);
}

#[test]
fn what_changes_nothing_leaves_no_record() {
    let mut world = World::default();
    world.handle(set("k", "a", Some(b"1")));
    world.handle(set("k", "a", Some(b"1")));
    world.handle(set("k", "b", None));
    assert_eq!(world.journal.len(), 1);
}

#[test]
fn documents_are_bounded() {
    let mut world = World::default();
    let long = vec![0; DOCUMENT_BYTES_MAX + 1];
    let refused = world.try_handle(set("k", "a", Some(&long))).unwrap_err();
    assert!(matches!(
        refused,
        Refused::DocumentTooLong { what: "value", .. }
    ));
    let name = "n".repeat(2_000);
    let refused = world.try_handle(set("k", &name, None)).unwrap_err();
    assert!(matches!(
        refused,
        Refused::DocumentTooLong { what: "key", .. }
    ));
    for number in 0..DOCUMENTS_MAX {
        world.handle(set("k", &number.to_string(), Some(b"")));
    }
    let refused = world.try_handle(set("l", "a", Some(b""))).unwrap_err();
    assert!(matches!(refused, Refused::TooManyDocuments { .. }));
    world.handle(set("k", "7", Some(b"new")));
    world.handle(set("k", "8", None));
    world.handle(set("l", "a", Some(b"")));
}
