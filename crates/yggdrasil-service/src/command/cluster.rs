//! Which commands are for this node, and what is to be known of the others.

use resp::{Args, Writer, parse_integer};
use sha2::{Digest, Sha256};
use yggdrasil::{Entry, Keyspace};

use super::{Call, Command, Done, KeyArgs, Keys};
use crate::client::Client;
use crate::clock::Moment;
use crate::cluster::{Asking, Cluster, Membership, Node, SLOTS, Slot, slot_of};
use crate::failure::Failure;
use crate::shared::Shared;

const CROSS_SLOT: Failure = Failure::new("CROSSSLOT Keys in request don't hash to the same slot");
const DOWN: Failure = Failure::new("CLUSTERDOWN The cluster is down");
const NOT_SERVED: Failure = Failure::new("CLUSTERDOWN Hash slot not served");
const TRY_AGAIN: Failure = Failure::new("TRYAGAIN Multiple keys request during rehashing of slot");
const DISABLED: Failure = Failure::new("ERR This instance has cluster support disabled");

/// What becomes of a command.
pub(super) enum Route<'k> {
    /// It is done, with these keys.
    Here(Keys<'k>),
    /// It was answered.
    Answered,
}

/// Looks whether a command is for this node, with its keys held, so that they do not go elsewhere
/// meanwhile.
pub(super) fn route<'k>(
    shared: &'k Shared,
    cluster: &Cluster,
    client: &mut Client,
    (command, args): (&Command, Args<'_>),
    out: &mut Writer<'_>,
    now: Moment,
) -> Result<Route<'k>, Failure> {
    let asking = std::mem::take(&mut client.asking);
    let open = Keys::Open(&shared.keys);
    if command.keys == KeyArgs::None {
        return Ok(Route::Here(open));
    }
    let args: Vec<&[u8]> = args.iter().collect();
    let names: Vec<&[u8]> = command.keys_of(&args).collect();
    let slot = common_slot(&names)?;
    let is_bucket = matches!(
        command.keys,
        KeyArgs::Bucket | KeyArgs::Buckets | KeyArgs::PolicyBucket
    );
    if is_bucket {
        if client.near
            && let Slot::Other(node) = cluster.slot(slot)
            && near(shared, cluster, node, (command, &args), out)
        {
            return Ok(Route::Answered);
        }
        // Its bucket begins anew on the other node.
        return match cluster.slot(slot) {
            Slot::Leaving(_) if cluster.is_valid() => Ok(Route::Here(open)),
            _ => ensure_served(cluster, slot, asking).map(|()| Route::Here(open)),
        };
    }
    let mut keys = Keys::Held(
        shared
            .keys
            .hold(names.iter().map(|name| shared.keys.key(name))),
    );
    check_held(shared, cluster, (slot, &names), &mut keys, asking, now)?;
    Ok(Route::Here(keys))
}

/// Whether commands that wait for their transaction are for this node; the last look is at its end.
pub(super) fn may_queue(
    cluster: &Cluster,
    client: &mut Client,
    command: &Command,
    args: Args<'_>,
) -> Done {
    let asking = std::mem::take(&mut client.asking);
    if command.keys == KeyArgs::None {
        return Ok(());
    }
    let args: Vec<&[u8]> = args.iter().collect();
    let names: Vec<&[u8]> = command.keys_of(&args).collect();
    let slot = common_slot(&names)?;
    match cluster.slot(slot) {
        Slot::Leaving(_) if cluster.is_valid() => Ok(()),
        _ => ensure_served(cluster, slot, asking),
    }
}

/// The same at the end of a transaction, which holds its keys.
pub(super) fn may_run(
    shared: &Shared,
    cluster: &Cluster,
    names: &[Vec<u8>],
    keys: &mut Keys<'_>,
    now: Moment,
) -> Done {
    let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    if names.is_empty() {
        return Ok(());
    }
    let slot = common_slot(&names)?;
    check_held(shared, cluster, (slot, &names), keys, Asking::No, now)
}

fn common_slot(names: &[&[u8]]) -> Result<u16, Failure> {
    let mut slots = names.iter().map(|name| slot_of(name));
    let slot = slots.next().unwrap_or_default();
    match slots.all(|other| other == slot) {
        true => Ok(slot),
        false => Err(CROSS_SLOT),
    }
}

fn ensure_served(cluster: &Cluster, slot: u16, asking: Asking) -> Done {
    match cluster.slot(slot) {
        _ if !cluster.is_valid() => Err(DOWN),
        Slot::Mine => Ok(()),
        Slot::Coming(_) if asking == Asking::Yes => Ok(()),
        Slot::Coming(node) | Slot::Other(node) => Err(elsewhere(cluster, "MOVED", slot, node)),
        Slot::Leaving(node) => Err(elsewhere(cluster, "ASK", slot, node)),
        Slot::Waiting | Slot::Nobody => Err(NOT_SERVED),
    }
}

fn elsewhere(cluster: &Cluster, word: &str, slot: u16, node: u16) -> Failure {
    match cluster.node(node) {
        Some(node) => Failure::with(format!("{word} {slot} {}", node.address)),
        None => NOT_SERVED,
    }
}

fn check_held(
    shared: &Shared,
    cluster: &Cluster,
    (slot, names): (u16, &[&[u8]]),
    keys: &mut Keys<'_>,
    asking: Asking,
    now: Moment,
) -> Done {
    let state = cluster.slot(slot);
    let Slot::Leaving(_) = state else {
        return ensure_served(cluster, slot, asking);
    };
    if !cluster.is_valid() {
        return Err(DOWN);
    }
    let moving = cluster.moving();
    if names.iter().any(|name| moving.contains(*name)) {
        return Err(TRY_AGAIN);
    }
    drop(moving);
    let mut here = 0;
    for name in names {
        let key = shared.keys.key(name);
        here += usize::from(keys.shard(key).peek(key, now.ms()).is_some());
    }
    match here {
        here if here == names.len() => Ok(()),
        0 => ensure_served(cluster, slot, asking),
        _ => Err(TRY_AGAIN),
    }
}

/// Takes tokens of a bucket of another node that were fetched before; whether there were enough.
fn near(
    shared: &Shared,
    cluster: &Cluster,
    node: u16,
    (command, args): (&Command, &[&[u8]]),
    out: &mut Writer<'_>,
) -> bool {
    let ("YGG.CONSUME", [_, key, emission, burst, cost]) = (command.name, args) else {
        return false;
    };
    let number = |text: &[u8]| parse_integer(text).and_then(|it| u64::try_from(it).ok());
    let short = |text: &[u8]| number(text).and_then(|it| u32::try_from(it).ok());
    let (Some(emission), Some(burst), Some(cost), Some(node)) = (
        number(emission),
        short(burst),
        short(cost),
        cluster.node(node),
    ) else {
        return false;
    };
    if cost == 0 || !cluster.is_valid() {
        return false;
    }
    let left = shared.near.take((&node.id, key), (emission, burst), cost);
    if let Some(left) = left {
        out.array(4);
        out.integer(0);
        out.integer(i64::from(left));
        out.integer(0);
        out.integer(0);
    }
    left.is_some()
}

/// `ASKING`: the next command is for a slot that is coming.
pub(super) fn asking(call: &mut Call<'_, '_>) -> Done {
    if call.shared.cluster.is_none() {
        return Err(DISABLED);
    }
    call.client.asking = Asking::Yes;
    call.out.ok();
    Ok(())
}

/// `READONLY` and `READWRITE`: every node has its own keys, so both change nothing.
pub(super) fn read_only(call: &mut Call<'_, '_>) -> Done {
    if call.shared.cluster.is_none() {
        return Err(DISABLED);
    }
    call.out.ok();
    Ok(())
}

/// `YGG.NEAR ON|OFF`: whether tokens of buckets of other nodes may be given here; see `Near`.
pub(super) fn set_near(call: &mut Call<'_, '_>) -> Done {
    call.client.near = match (call.is(1, "ON"), call.is(1, "OFF")) {
        (true, _) => true,
        (_, true) => false,
        _ => return Err(Failure::SYNTAX),
    };
    call.out.ok();
    Ok(())
}

/// What clients of clusters ask.
pub(super) fn cluster(call: &mut Call<'_, '_>) -> Done {
    let shared = call.shared;
    let cluster = shared.cluster.as_ref().ok_or(DISABLED)?;
    let word = call.arg(1)?.to_ascii_uppercase();
    match word.as_slice() {
        b"SLOTS" => slots(call, cluster),
        b"SHARDS" => shards(call, cluster),
        b"NODES" => nodes(call, cluster),
        b"INFO" => info(call, cluster),
        b"MYID" => call.out.bulk(long_id(&cluster.config.id).as_bytes()),
        b"KEYSLOT" => call.out.integer(i64::from(slot_of(call.arg(2)?))),
        b"COUNTKEYSINSLOT" => {
            let slot = slot_arg(call)?;
            let count = keys_in(&shared.keys, slot, call.now, usize::MAX).len();
            call.out.integer(count as i64);
        }
        b"GETKEYSINSLOT" => {
            let slot = slot_arg(call)?;
            let most = usize::try_from(call.integer(3)?).map_err(|_| Failure::NOT_AN_INTEGER)?;
            let keys = keys_in(&shared.keys, slot, call.now, most);
            call.out.array(keys.len());
            for key in keys {
                call.out.bulk(&key);
            }
        }
        _ => return Err(call.unknown_subcommand()),
    }
    Ok(())
}

fn slot_arg(call: &Call<'_, '_>) -> Result<u16, Failure> {
    let slot = u16::try_from(call.integer(2)?).ok();
    let slot = slot.filter(|slot| *slot < SLOTS);
    slot.ok_or(Failure::new("ERR Invalid slot"))
}

fn keys_in(keys: &Keyspace, slot: u16, now: Moment, most: usize) -> Vec<Vec<u8>> {
    let (mut found, mut cursor) = (Vec::new(), 0);
    loop {
        cursor = keys.scan(cursor, 1000, now.ms(), |entry: &Entry| {
            if slot_of(entry.key()) == slot && found.len() < most {
                found.push(entry.key().to_vec());
            }
        });
        if cursor == 0 || found.len() >= most {
            return found;
        }
    }
}

/// What Redis takes for the name of a node: 40 hexadecimal digits.
fn long_id(id: &str) -> String {
    let digest = Sha256::digest(id.as_bytes());
    digest
        .iter()
        .take(20)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Slots next to each other with one node: first and last, and the node that serves them.
fn ranges(cluster: &Cluster) -> Vec<(u16, u16, u16)> {
    let own = cluster.membership().number_of(&cluster.config.id);
    let server = |slot| match cluster.slot(slot) {
        Slot::Mine | Slot::Leaving(_) | Slot::Waiting => own,
        Slot::Coming(node) | Slot::Other(node) => Some(node),
        Slot::Nobody => None,
    };
    let mut ranges: Vec<(u16, u16, u16)> = Vec::new();
    for slot in 0..SLOTS {
        let Some(node) = server(slot) else { continue };
        match ranges.last_mut() {
            Some((_, last, of)) if *of == node && *last + 1 == slot => *last = slot,
            _ => ranges.push((slot, slot, node)),
        }
    }
    ranges
}

fn host_and_port(node: &Node) -> (&str, i64) {
    let (host, port) = node
        .address
        .rsplit_once(':')
        .unwrap_or((&node.address, "0"));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (host, port.parse().unwrap_or(0))
}

fn slots(call: &mut Call<'_, '_>, cluster: &Cluster) {
    let membership = cluster.membership();
    let ranges = ranges(cluster);
    call.out.array(ranges.len());
    for (first, last, number) in ranges {
        call.out.array(3);
        call.out.integer(i64::from(first));
        call.out.integer(i64::from(last));
        call.out.array(3);
        let node = membership.node(number);
        let (host, port) = node.map_or(("", 0), host_and_port);
        call.out.bulk(host.as_bytes());
        call.out.integer(port);
        let id = node.map_or("", |node| &node.id);
        call.out.bulk(long_id(id).as_bytes());
    }
}

fn shards(call: &mut Call<'_, '_>, cluster: &Cluster) {
    let membership = cluster.membership();
    let ranges = ranges(cluster);
    call.out.array(membership.nodes().len());
    for (number, node) in (0..).zip(membership.nodes()) {
        let own = ranges.iter().filter(|(_, _, of)| *of == number);
        let bounds: Vec<u16> = own.flat_map(|(first, last, _)| [*first, *last]).collect();
        call.out.map(2);
        call.out.bulk(b"slots");
        call.out.array(bounds.len());
        for bound in bounds {
            call.out.integer(i64::from(bound));
        }
        call.out.bulk(b"nodes");
        call.out.array(1);
        call.out.map(7);
        let (host, port) = host_and_port(node);
        let is_there = cluster.is_answering(&node.id);
        let health = if is_there { "online" } else { "fail" };
        let texts = [
            ("id", long_id(&node.id)),
            ("ip", host.to_owned()),
            ("endpoint", host.to_owned()),
            ("role", "master".to_owned()),
            ("health", health.to_owned()),
        ];
        for (name, text) in texts {
            call.out.bulk(name.as_bytes());
            call.out.bulk(text.as_bytes());
        }
        for (name, value) in [("port", port), ("replication-offset", 0)] {
            call.out.bulk(name.as_bytes());
            call.out.integer(value);
        }
    }
}

fn nodes(call: &mut Call<'_, '_>, cluster: &Cluster) {
    let membership = cluster.membership();
    let ranges = ranges(cluster);
    let mut text = String::new();
    for (number, node) in (0..).zip(membership.nodes()) {
        let (host, port) = host_and_port(node);
        let is_own = node.id == cluster.config.id;
        let is_there = cluster.is_answering(&node.id);
        let flags = match (is_own, is_there) {
            (true, _) => "myself,master",
            (false, true) => "master",
            (false, false) => "master,fail?",
        };
        let link = if is_there {
            "connected"
        } else {
            "disconnected"
        };
        let (id, epoch) = (long_id(&node.id), membership.epoch());
        text += &format!("{id} {host}:{port}@{port} {flags} - 0 0 {epoch} {link}");
        for (first, last, _) in ranges.iter().filter(|(_, _, of)| *of == number) {
            text += &match first == last {
                true => format!(" {first}"),
                false => format!(" {first}-{last}"),
            };
        }
        text.push('\n');
    }
    call.out.bulk(text.as_bytes());
}

fn info(call: &mut Call<'_, '_>, cluster: &Cluster) {
    let membership = cluster.membership();
    let served =
        (0..SLOTS).filter(|slot| !matches!(cluster.slot(*slot), Slot::Nobody | Slot::Waiting));
    let served = served.count();
    let state = match cluster.is_valid() {
        true => "ok",
        false => "fail",
    };
    let text = format!(
        "cluster_state:{state}\r\ncluster_slots_assigned:{SLOTS}\r\ncluster_slots_ok:{served}\r\n\
         cluster_slots_pfail:0\r\ncluster_slots_fail:{}\r\ncluster_known_nodes:{}\r\n\
         cluster_size:{}\r\ncluster_current_epoch:{}\r\ncluster_my_epoch:{}\r\n",
        usize::from(SLOTS) - served,
        membership.nodes().len(),
        membership.nodes().iter().filter(|it| it.weight > 0).count(),
        membership.epoch(),
        membership.epoch(),
    );
    call.out.bulk(text.as_bytes());
}

/// `YGG.CLUSTER GET|STATUS|SET membership`: for those who look after the cluster.
pub(super) fn manage(call: &mut Call<'_, '_>) -> Done {
    let shared = call.shared;
    let cluster = shared.cluster.as_ref().ok_or(DISABLED)?;
    let word = call.arg(1)?.to_ascii_uppercase();
    match word.as_slice() {
        b"GET" => {
            let text = cluster.membership().to_string();
            call.out.bulk(text.as_bytes());
        }
        b"STATUS" => status(call, cluster),
        b"SET" => set(call, cluster)?,
        _ => return Err(call.unknown_subcommand()),
    }
    Ok(())
}

fn status(call: &mut Call<'_, '_>, cluster: &Cluster) {
    let membership = cluster.membership();
    let ranges = ranges(cluster);
    let mut text = format!(
        "epoch {} seen by {}, which {}; {}\n",
        membership.epoch(),
        cluster.config.id,
        if cluster.is_valid() {
            "serves"
        } else {
            "serves nothing: no majority answers"
        },
        if cluster.is_all_settled() {
            "nothing is on its way"
        } else {
            "keys are on their way"
        },
    );
    for (number, node) in (0..).zip(membership.nodes()) {
        let own = ranges.iter().filter(|(_, _, of)| *of == number);
        let slots: u32 = own
            .map(|(first, last, _)| u32::from(last - first) + 1)
            .sum();
        let answers = match cluster.is_answering(&node.id) {
            true => "answers",
            false => "does not answer",
        };
        let Node {
            id,
            address,
            weight,
        } = node;
        text += &format!("{id} {address} weight {weight}: {slots} slots, {answers}\n");
    }
    call.out.bulk(text.as_bytes());
}

fn set(call: &mut Call<'_, '_>, cluster: &Cluster) -> Done {
    let refuse = |why: String| Failure::with(format!("ERR {why}"));
    let text = String::from_utf8_lossy(call.arg(2)?).into_owned();
    let next: Membership = text
        .parse()
        .map_err(|error| refuse(format!("the membership is none: {error}")))?;
    let now = cluster.membership();
    if next.epoch() != now.epoch() + 1 {
        return Err(refuse(format!(
            "the epoch is {}, and that of the cluster {}; write epoch {}",
            next.epoch(),
            now.epoch(),
            now.epoch() + 1
        )));
    }
    if !cluster.is_valid() {
        return Err(DOWN);
    }
    for node in now.nodes() {
        let stays = next.number_of(&node.id).is_some();
        if !stays && node.weight > 0 && cluster.is_answering(&node.id) {
            return Err(refuse(format!(
                "{} has slots and answers; give it weight 0 first, so that it gives its keys away",
                node.id
            )));
        }
    }
    let is_lost = |node: &Node| next.number_of(&node.id).is_none();
    if !cluster.is_all_settled() && !now.nodes().iter().any(is_lost) {
        return Err(refuse(
            "keys are on their way from the change before".to_owned(),
        ));
    }
    cluster
        .adopt(next)
        .map_err(|error| refuse(format!("the membership cannot be kept: {error}")))?;
    call.out.ok();
    Ok(())
}

/// `YGG.NODE`: what nodes say to each other.
pub(super) fn node(call: &mut Call<'_, '_>) -> Done {
    let shared = call.shared;
    let cluster = shared.cluster.as_ref().ok_or(DISABLED)?;
    let word = call.arg(1)?.to_ascii_uppercase();
    match word.as_slice() {
        b"HELLO" => hello(call, cluster),
        b"TAKE" => take(call, cluster),
        b"DONE" => {
            let from = known(call, cluster)?;
            cluster.came_from(from);
            call.out.ok();
            Ok(())
        }
        _ => Err(call.unknown_subcommand()),
    }
}

/// `HELLO id membership settled`: the later membership of both is taken by both.
fn hello(call: &mut Call<'_, '_>, cluster: &Cluster) -> Done {
    let text = String::from_utf8_lossy(call.arg(3)?).into_owned();
    let theirs: Membership = text
        .parse()
        .map_err(|error| Failure::with(format!("ERR the membership is none: {error}")))?;
    let failed = |error| Failure::with(format!("ERR the membership cannot be kept: {error}"));
    cluster.adopt(theirs).map_err(failed)?;
    let own = cluster.membership().to_string();
    call.out.array(3);
    call.out.bulk(own.as_bytes());
    call.out.integer(i64::from(cluster.is_settled()));
    call.out.bulk(cluster.config.id.as_bytes());
    Ok(())
}

/// The node that speaks, if it has the same membership.
fn known(call: &Call<'_, '_>, cluster: &Cluster) -> Result<u16, Failure> {
    let (id, name) = (String::from_utf8_lossy(call.arg(2)?), call.arg(3)?);
    let membership = cluster.membership();
    if membership.name().as_bytes() != name {
        return Err(Failure::new("STALE the membership is another one"));
    }
    let number = membership.number_of(&id);
    number.ok_or(Failure::new("ERR the node is no member"))
}

/// `TAKE id name record..`: keys of slots that come from that node.
fn take(call: &mut Call<'_, '_>, cluster: &Cluster) -> Done {
    let from = known(call, cluster)?;
    if cluster.purges() {
        return Err(Failure::new(
            "TRYAGAIN what is left of an earlier life is removed first",
        ));
    }
    let mut entries = Vec::new();
    for record in call.args.from(4) {
        let entry = Entry::decode(record).map_err(|error| Failure::with(format!("ERR {error}")))?;
        if cluster.slot(slot_of(entry.key())) != Slot::Coming(from) {
            return Err(Failure::new("ERR the slot does not come from that node"));
        }
        entries.push(entry);
    }
    for entry in entries {
        call.shared.keys.restore(entry);
    }
    call.out.ok();
    Ok(())
}

/// Removes what an earlier life left of slots that others have served since.
pub(crate) fn purge(shared: &Shared, cluster: &Cluster) {
    let mut cursor = 0;
    let is_foreign =
        |key: &[u8]| !matches!(cluster.slot(slot_of(key)), Slot::Mine | Slot::Leaving(_));
    loop {
        let now = shared.clock.now();
        let mut names: Vec<Vec<u8>> = Vec::new();
        cursor = shared.keys.scan(cursor, 256, now.ms(), |entry: &Entry| {
            if is_foreign(entry.key()) {
                names.push(entry.key().to_vec());
            }
        });
        for name in names {
            let key = shared.keys.key(&name);
            let always = yggdrasil::Condition::Always;
            shared.keys.shard(key).remove(key, always, now.ms());
        }
        if cursor == 0 {
            return cluster.purged();
        }
    }
}
