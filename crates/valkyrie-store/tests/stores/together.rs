//! Operations on several keys, the same for every store.

use std::time::Duration;

use valkyrie_store::{
    Acquired, Condition, Lifetime, Limit, Outcome, STEPS_MAX, StoreAdapter, StoreError, Together,
    TokenRequest, Transacted, Transaction,
};

const LONG: Duration = Duration::from_secs(1000);
const FOREVER: Lifetime = Lifetime::Unlimited;

/// Every claim about several keys. In a cluster they are in one slot.
pub(crate) async fn conform(store: &impl StoreAdapter) {
    reads(store).await;
    buckets(store).await;
    transactions(store).await;
    lifetimes(store).await;
    refusals(store).await;
    races(store).await;
}

async fn text(store: &impl StoreAdapter, key: &[u8]) -> Option<String> {
    let value = store.read(key).await.unwrap()?;
    Some(String::from_utf8(value.bytes.to_vec()).unwrap())
}

async fn reads(store: &impl StoreAdapter) {
    // In a cluster they are on all nodes.
    let keys: Vec<_> = (0..40).map(|number| format!("m:{number}")).collect();
    for key in keys.iter().step_by(2) {
        store.set(key, key, None).await.unwrap();
    }
    let names: Vec<_> = keys.iter().map(String::as_bytes).collect();
    let found = store.read_many(&names).await.unwrap();
    assert_eq!(found.len(), keys.len());
    for (index, (key, found)) in keys.iter().zip(&found).enumerate() {
        let expected = index.is_multiple_of(2).then_some(key.as_bytes());
        assert_eq!(found.as_ref().map(|found| &found.bytes[..]), expected);
        let alone = store.read(key.as_bytes()).await.unwrap();
        assert_eq!(found, &alone);
    }
    assert!(store.read_many(&[]).await.unwrap().is_empty());
    // More values, and longer ones, than go into a message.
    let (long, keys) = (vec![7; 300_000], vec![&b"m:long"[..]; 2_000]);
    store.set("m:long", &long, None).await.unwrap();
    let found = store.read_many(keys.get(..20).unwrap()).await.unwrap();
    assert!(
        found
            .iter()
            .all(|found| found.as_ref().unwrap().bytes[..] == long)
    );
    store.set("m:long", "", None).await.unwrap();
    assert_eq!(store.read_many(&keys).await.unwrap().len(), keys.len());
    store.acquire(b"m:places", b"a", 1, LONG).await.unwrap();
    let wrong = store.read_many(&[b"m:0", b"m:places"]).await.unwrap_err();
    assert!(matches!(wrong, StoreError::WrongType { .. }), "{wrong:?}");
}

async fn buckets(store: &impl StoreAdapter) {
    let limit = |burst| Limit::per(1, Duration::from_secs(3600), burst).unwrap();
    let ask = |key, burst, cost| TokenRequest {
        key,
        limit: limit(burst),
        cost,
    };
    let seen = async |asks: &[TokenRequest<'_>], together| {
        let decisions = store.consume_many(asks, together).await.unwrap();
        let seen = decisions.iter().map(|it| (it.outcome, it.remaining));
        seen.collect::<Vec<_>>()
    };
    use Outcome::{Allowed, Denied, Never};
    let asks = [ask(b"mb:a", 3, 2), ask(b"mb:b", 3, 3), ask(b"mb:a", 3, 2)];
    // Each by itself goes to all nodes of a cluster.
    let each = seen(&asks, Together::Each).await;
    assert_eq!(each, [(Allowed, 1), (Allowed, 0), (Denied, 1)]);
    assert!(seen(&[], Together::Each).await.is_empty());
    assert!(seen(&[], Together::AllOrNothing).await.is_empty());
    // The same bucket twice, then one that has too few.
    let (a, b, c) = (b"{mb}:a", b"{mb}:b", b"{mb}:c");
    for (last, outcome) in [(6, Never), (5, Denied)] {
        store.consume(c, &limit(5), 1).await.unwrap();
        let asks = [ask(a, 5, 2), ask(b, 5, 5), ask(a, 5, 3), ask(c, 5, last)];
        let left = if outcome == Never { 4 } else { 3 };
        let all = seen(&asks, Together::AllOrNothing).await;
        assert_eq!(
            all,
            [(Allowed, 3), (Allowed, 0), (Allowed, 0), (outcome, left)],
            "{}",
            store.name()
        );
        for key in [a, b] {
            let look = store.consume(key, &limit(5), 0).await.unwrap();
            assert_eq!(look.remaining, 5, "{}", store.name());
        }
    }
    let asks = [ask(a, 5, 2), ask(b, 5, 4), ask(a, 5, 3)];
    let all = seen(&asks, Together::AllOrNothing).await;
    assert_eq!(all, [(Allowed, 3), (Allowed, 1), (Allowed, 0)]);
    let left = store.consume(a, &limit(5), 0).await.unwrap();
    assert_eq!(left.remaining, 0);
}

async fn transactions(store: &impl StoreAdapter) {
    let transact = async |it: Transaction<'_>| store.transact(&it).await.unwrap();
    let (a, b, n, m) = (b"{t}:a", b"{t}:b", b"{t}:n", b"{t}:m");
    let none = transact(Transaction::new()).await;
    assert_eq!(none, Transacted::Done(vec![]));
    let first = Transaction::new()
        .when(a, Condition::Absent)
        .set(a, b"1", FOREVER)
        .add(n, 5)
        .remove(b"{t}:none")
        .add(m, -2);
    assert_eq!(transact(first.clone()).await, Transacted::Done(vec![5, -2]));
    assert_eq!(transact(first).await, Transacted::Refused(0));
    assert_eq!(text(store, n).await.as_deref(), Some("5"));
    // Checks count wherever they stand, and the first that does not hold is named.
    let late = Transaction::new()
        .add(n, 1)
        .when(a, Condition::Present)
        .set(b, b"x", FOREVER)
        .when(a, Condition::Equals(b"2"))
        .when(a, Condition::Absent);
    assert_eq!(transact(late).await, Transacted::Refused(3));
    assert_eq!(text(store, b).await, None);
    let equals = Transaction::new()
        .when(a, Condition::Always)
        .when(a, Condition::Equals(b"1"))
        .when(n, Condition::Equals(b"5"))
        .set(b, b"\0x", FOREVER)
        .add(n, 1)
        .remove(a);
    assert_eq!(transact(equals).await, Transacted::Done(vec![6]));
    assert_eq!(text(store, a).await, None);
    assert_eq!(text(store, b).await.as_deref(), Some("\0x"));
    // Numbers are whole, also where a double is not.
    let much = Transaction::new().add(b"{t}:much", i64::MAX - 1);
    assert_eq!(transact(much).await, Transacted::Done(vec![i64::MAX - 1]));
    let only = Transaction::new().when(b, Condition::Present);
    assert_eq!(transact(only).await, Transacted::Done(vec![]));
    let Some(version) = store.read(b).await.unwrap().unwrap().version else {
        let by_version = Transaction::new().when(b, Condition::Version(1));
        let refused = store.transact(&by_version).await.unwrap_err();
        assert!(matches!(refused, StoreError::Unsupported { .. }));
        return;
    };
    let by_version = Transaction::new()
        .when(b, Condition::Version(version))
        .set(b, b"y", FOREVER);
    assert_eq!(transact(by_version.clone()).await, Transacted::Done(vec![]));
    assert_eq!(transact(by_version).await, Transacted::Refused(0));
}

async fn lifetimes(store: &impl StoreAdapter) {
    let (a, b, n) = (b"{tl}:a", b"{tl}:b", b"{tl}:n");
    let set = |lifetime| {
        Transaction::new()
            .set(a, b"v", lifetime)
            .set(b, b"v", Lifetime::Unlimited)
            .add(n, 1)
    };
    store.increment(n, 1).await.unwrap();
    assert!(store.set_lifetime(n, Lifetime::For(LONG)).await.unwrap());
    for lifetime in [Lifetime::For(LONG), Lifetime::Keep] {
        store.transact(&set(lifetime)).await.unwrap();
        let left = store.lifetime(a).await.unwrap().unwrap().unwrap();
        assert!(left <= LONG && left > LONG - Duration::from_secs(10));
        assert_eq!(store.lifetime(b).await.unwrap(), Some(None));
        assert!(store.lifetime(n).await.unwrap().unwrap().is_some());
    }
    store.transact(&set(Lifetime::Unlimited)).await.unwrap();
    assert_eq!(store.lifetime(a).await.unwrap(), Some(None));
}

async fn refusals(store: &impl StoreAdapter) {
    let name = store.name();
    let (word, much, places) = (b"{tr}:word", b"{tr}:much", b"{tr}:places");
    store.set(word, "abc", None).await.unwrap();
    store.increment(much, i64::MAX).await.unwrap();
    let held = store.acquire(places, b"a", 1, LONG).await.unwrap();
    assert_eq!(held, Acquired::Held { held: 1 });
    store.increment("{tr}:there", 7).await.unwrap();
    let stays = Lifetime::For(LONG);
    assert!(store.set_lifetime(b"{tr}:there", stays).await.unwrap());
    let begun = || {
        Transaction::new()
            .set(b"{tr}:new", b"1", FOREVER)
            .add(b"{tr}:there", 1)
            .add(b"{tr}:none", 1)
    };
    let mut many = Transaction::new();
    for _ in 0..=STEPS_MAX {
        many = many.when(word, Condition::Present);
    }
    for (refused, is_type) in [
        (begun().add(word, 1), false),
        (begun().add(much, 1), false),
        (begun().add(places, 1), true),
        (begun().remove(b"{tr}:new"), false),
        (many, false),
    ] {
        let refused = store.transact(&refused).await.unwrap_err();
        assert_eq!(refused.applied(), None, "{name}: {refused:?}");
        let is_wrong_type = matches!(refused, StoreError::WrongType { .. });
        assert_eq!(is_wrong_type, is_type, "{name}: {refused:?}");
        assert_eq!(text(store, b"{tr}:new").await, None, "{name}");
        assert_eq!(text(store, b"{tr}:there").await.as_deref(), Some("7"));
        let left = store.lifetime(b"{tr}:there").await.unwrap().unwrap();
        assert!(left.is_some(), "{name}");
        assert_eq!(text(store, b"{tr}:none").await, None, "{name}");
    }
}

/// Sums that never change, while others look and one is always a step behind.
async fn races(store: &impl StoreAdapter) {
    let (from, to) = (b"{tx}:from", b"{tx}:to");
    let moves = async {
        for _ in 0..100 {
            let step = Transaction::new().add(from, -1).add(to, 1);
            store.transact(&step).await.unwrap();
        }
    };
    let looks = async {
        for _ in 0..100 {
            let look = Transaction::new().add(from, 0).add(to, 0);
            let Transacted::Done(sums) = store.transact(&look).await.unwrap() else {
                panic!("refused");
            };
            assert_eq!(sums.iter().sum::<i64>(), 0);
        }
    };
    tokio::join!(moves, looks);
    // Of those who saw the same value, one changes it.
    let key = b"{tx}:turn";
    store.set(key, "0", None).await.unwrap();
    let turn = || {
        let change = Transaction::new()
            .when(key, Condition::Equals(b"0"))
            .set(key, b"1", FOREVER)
            .add(b"{tx}:won", 1);
        async move { store.transact(&change).await.unwrap() }
    };
    let (one, other, third) = tokio::join!(turn(), turn(), turn());
    let won = [one, other, third];
    let won = won.iter().filter(|it| **it == Transacted::Done(vec![1]));
    assert_eq!(won.count(), 1, "{}", store.name());
}
