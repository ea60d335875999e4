use std::collections::BTreeMap;
use std::time::Duration;

use clock::Instant;
use mesh_proto::bearer::Transmission;
use mesh_wire::bearer::AdType;
use mesh_wire::network::Octets;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// Transmissions that wait for their time or for their repetitions. Most that wait at once are bounded by
/// [`Repeater::MAX`]; the oldest goes when there are more.
#[derive(Debug)]
pub struct Repeater {
    waiting: BTreeMap<(Instant, u64), (Transmission, u8)>,
    next_number: u64,
    rng: ChaCha8Rng,
}

impl Repeater {
    /// Most transmissions that wait.
    pub const MAX: usize = 1024;

    /// One without transmissions, whose random intervals come from `seed`.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { waiting: BTreeMap::new(), next_number: 0, rng: ChaCha8Rng::from_seed(seed) }
    }

    /// Takes a transmission: its first advertisement is due after its delay.
    pub fn push(&mut self, now: Instant, transmission: Transmission) {
        let at = now + transmission.delay;
        let left = transmission.count;
        self.wait(at, transmission, left);
    }

    /// The next advertisement that is due at `now`.
    pub fn pop_due(&mut self, now: Instant) -> Option<(AdType, Octets)> {
        let entry = self.waiting.first_entry().filter(|entry| entry.key().0 <= now)?;
        let (at, _) = *entry.key();
        let (transmission, left) = entry.remove();
        let sent = (transmission.ad_type, transmission.data.clone());
        if left > 1 {
            // MshPRT §4.2.20.2: 0 to 10 ms at random are added to each interval.
            let random = Duration::from_millis(u64::from(self.rng.next_u32() % 11));
            self.wait(at + transmission.interval + random, transmission, left - 1);
        }
        Some(sent)
    }

    /// When [`Repeater::pop_due`] next has one.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.keys().next().map(|&(at, _)| at)
    }

    fn wait(&mut self, at: Instant, transmission: Transmission, left: u8) {
        self.next_number += 1;
        self.waiting.insert((at, self.next_number), (transmission, left));
        if self.waiting.len() > Self::MAX {
            self.waiting.pop_first();
        }
    }
}
