//! Which nodes relay: enough that everybody is reached, and few, since each repeats every message.

use std::collections::{BTreeSet, VecDeque};

/// Relays that each station should hear, so that one may fail.
const WANTED: u8 = 2;

/// What it is worth to reach a station that nobody reaches yet, beside one that one relay reaches.
const FIRST_REACH: usize = 8;

/// Picks relays among `candidates`, so that each station that can be reached from `root` is, and, where that can be,
/// hears two of them. `neighbours[a]` holds `b` if the link between the two is good.
pub(crate) fn choose(
    neighbours: &[Vec<usize>],
    candidates: &BTreeSet<usize>,
    root: usize,
) -> BTreeSet<usize> {
    let mut heard = vec![0_u8; neighbours.len()];
    // Nothing is to be gained by reaching the root, or those that the root itself reaches, for the first time.
    heard[root] = WANTED;
    for &station in &neighbours[root] {
        heard[station] += 1;
    }
    let mut relays = BTreeSet::new();
    loop {
        let gain = |&candidate: &usize| {
            let worth = |&station: &usize| match heard[station] {
                0 => FIRST_REACH,
                count if count < WANTED => 1,
                _ => 0,
            };
            neighbours[candidate].iter().map(worth).sum::<usize>()
        };
        let open = candidates.difference(&relays).filter(|&&candidate| heard[candidate] > 0);
        // Of equals the first.
        let best = open.map(|candidate| (gain(candidate), std::cmp::Reverse(*candidate))).max();
        let Some((1.., std::cmp::Reverse(best))) = best else { return relays };
        relays.insert(best);
        for &station in &neighbours[best] {
            heard[station] = heard[station].saturating_add(1);
        }
    }
}

/// The transmissions that it takes from `root` to each station; `None`: it is not reached.
pub(crate) fn hops(neighbours: &[Vec<usize>], relays: &BTreeSet<usize>, root: usize) -> Vec<Option<u8>> {
    let mut hops = vec![None; neighbours.len()];
    hops[root] = Some(0_u8);
    let mut waiting = VecDeque::from([root]);
    while let Some(station) = waiting.pop_front() {
        if station != root && !relays.contains(&station) {
            continue;
        }
        let next = hops[station].and_then(|hops| hops.checked_add(1));
        for &neighbour in &neighbours[station] {
            if hops[neighbour].is_none() {
                hops[neighbour] = next;
                waiting.push_back(neighbour);
            }
        }
    }
    hops
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_needs_every_link_and_a_cluster_two() {
        let chain: Vec<Vec<usize>> = vec![vec![1], vec![0, 2], vec![1, 3], vec![2]];
        let relays = choose(&chain, &(1..4).collect(), 0);
        assert!(relays.is_superset(&BTreeSet::from([1, 2])));
        assert_eq!(hops(&chain, &relays, 0), [Some(0), Some(1), Some(2), Some(3)]);
        let cluster: Vec<Vec<usize>> = (0..10).map(|a| (0..10).filter(|&b| a != b).collect()).collect();
        assert!(choose(&cluster, &(1..10).collect(), 0).len() <= 2);
        assert_eq!(hops(&chain, &BTreeSet::new(), 0), [Some(0), Some(1), None, None]);
    }
}
