//! Which node has a slot.

use super::membership::Node;
use super::slots::SLOTS;

/// For each slot the number of its node among `nodes`; none where no node has a weight.
///
/// Weighted rendezvous hashing: a slot goes to the node with the greatest `-weight / ln(u)`, where `u`
/// between 0 and 1 comes of slot and node alone (Schindelhauer and Schomaker, Weighted Distributed Hash
/// Tables, 2005). A node that comes takes slots to itself only, and one that goes leaves only its own.
pub(crate) fn place(nodes: &[Node]) -> Vec<Option<u16>> {
    let seeds: Vec<u64> = nodes.iter().map(|node| seed(&node.id)).collect();
    let owner = |slot: u16| {
        let scores = nodes.iter().zip(&seeds).zip(0..);
        let scores = scores.filter(|((node, _), _)| node.weight > 0);
        let scores = scores.map(|((node, seed), number)| (score(node.weight, *seed, slot), number));
        let best = scores.max_by(|(a, _), (b, _)| a.total_cmp(b));
        best.map(|(_, number)| number)
    };
    (0..SLOTS).map(owner).collect()
}

fn score(weight: u32, seed: u64, slot: u16) -> f64 {
    let bits = mix(seed ^ u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 11;
    // Within 0 and 1, and neither of them.
    let u = (bits as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(weight) / u.ln()
}

/// FNV-1a, and mixed: the same on every node.
fn seed(id: &str) -> u64 {
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(hash)
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(weights: &[u32]) -> Vec<Node> {
        let node = |(number, weight): (usize, &u32)| Node {
            id: format!("node-{number}"),
            address: format!("10.0.0.{number}:7777"),
            weight: *weight,
        };
        weights.iter().enumerate().map(node).collect()
    }

    fn counts(placed: &[Option<u16>], nodes: usize) -> Vec<usize> {
        let count = |node| placed.iter().filter(|slot| **slot == Some(node)).count();
        (0..nodes as u16).map(count).collect()
    }

    #[test]
    fn slots_go_by_weight() {
        let counted = counts(&place(&nodes(&[1, 1, 2])), 3);
        for (count, share) in counted.iter().zip([4096.0, 4096.0, 8192.0]) {
            assert!((*count as f64 / share - 1.0).abs() < 0.06, "{counted:?}");
        }
        assert!(place(&nodes(&[0, 0])).iter().all(Option::is_none));
        assert!(place(&[]).iter().all(Option::is_none));
    }

    #[test]
    fn only_what_has_to_moves() {
        let three = place(&nodes(&[1, 1, 1]));
        let four = place(&nodes(&[1, 1, 1, 1]));
        for (before, after) in three.iter().zip(&four) {
            assert!(before == after || *after == Some(3));
        }
        let without = place(&nodes(&[1, 0, 1]));
        for (before, after) in three.iter().zip(&without) {
            assert!(before == after || *before == Some(1));
        }
    }
}
