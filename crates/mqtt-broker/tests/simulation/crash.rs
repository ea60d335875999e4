//! The disk of a world, and what it does: the process is killed, the power goes, the disk is full for a while.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use journal::log::fault::FaultyDisk;
use journal::log::{Fsync, Options, Position, Writer, open};
use mqtt_broker::{BLOCK, Recovery, Settings, Shard, Shared};
use mqtt_wire::{PacketId, QoS};

use crate::world::{CLIENTS, Peer, SHARDS, WORKERS, World};

/// What keeps a world's log.
pub(crate) struct Disk {
    disk: FaultyDisk,
    writer: Writer,
    /// Blocks of queues that were read.
    reads: Arc<AtomicUsize>,
}

/// Small segments, so that they come and go.
const OPTIONS: Options = Options {
    fsync: Fsync::Always,
    segment_bytes: 6_000,
    max_waiting_bytes: 1 << 20,
    max_live_bytes: u64::MAX,
};

impl Disk {
    fn open(disk: FaultyDisk) -> (Self, Recovery) {
        let mut recovery = Recovery::default();
        let (writer, report) = open(Arc::new(disk.clone()), OPTIONS, 7, |position, record| {
            recovery.apply(position, record).unwrap();
        })
        .unwrap();
        assert_eq!(report.losses, [], "nothing here is damaged");
        (Self { disk, writer, reads: Arc::default() }, recovery)
    }
}

/// Where queues go when memory is not for them.
#[derive(Debug)]
struct Blocks {
    blocks: Vec<[u8; BLOCK]>,
    reads: Arc<AtomicUsize>,
}

impl mqtt_broker::Blocks for Blocks {
    fn read(&mut self, number: u32) -> io::Result<[u8; BLOCK]> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.blocks.get(number as usize).copied().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn write(&mut self, number: u32, block: &[u8; BLOCK]) -> io::Result<()> {
        let index = number as usize;
        self.blocks.resize(self.blocks.len().max(index + 1), [0; BLOCK]);
        self.blocks[index] = *block;
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.blocks.clear();
        Ok(())
    }
}

fn shard(id: usize, shared: &Arc<Shared>, disk: &Disk) -> Shard {
    let blocks = Blocks { blocks: Vec::new(), reads: Arc::clone(&disk.reads) };
    Shard::new(id, Arc::clone(shared)).with_overflow(Box::new(blocks))
}

/// The shards of a broker, with a disk or without.
pub(crate) fn start(settings: Settings, has_disk: bool) -> (Arc<Shared>, Vec<Shard>, Option<Disk>) {
    let disk = has_disk.then(|| Disk::open(FaultyDisk::default()).0);
    let log = disk.as_ref().map(|disk| Arc::clone(disk.writer.log()));
    let shared = Shared::with_log(SHARDS, settings, log);
    let shards = (0..SHARDS)
        .map(|id| match &disk {
            Some(disk) => shard(id, &shared, disk),
            None => Shard::new(id, Arc::clone(&shared)),
        })
        .collect();
    (shared, shards, disk)
}

impl World {
    /// Lets the disk work, or not, and shards hear of it.
    pub(crate) fn turn_disk(&mut self, all: bool) {
        let writes = all || self.below(2) == 0;
        let Some(disk) = &mut self.disk else { return };
        if writes && disk.writer.turn(false).is_err() {
            self.counts.full_disks += 1;
        }
        let removed = disk.writer.log().stats();
        self.counts.removed += usize::from(removed.segments < self.segments);
        self.segments = removed.segments;
        self.counts.blocks += disk.reads.swap(0, Ordering::Relaxed);
        let now = self.now;
        for index in 0..SHARDS {
            if all || self.below(3) > 0 {
                self.shards[index].handle_durable(now);
            }
            let Some(disk) = &self.disk else { return };
            while let Some(load) = self.shards[index].poll_load() {
                let records = disk.writer.log().read(&disk.disk, &load.positions);
                self.counts.loads += records.len();
                self.shards[index].handle_loaded(now, load, records);
            }
        }
    }

    /// The disk is full, or has room again.
    pub(crate) fn fill_disk(&mut self) {
        let room = (self.below(3) == 0).then_some(300);
        if let Some(Disk { disk, .. }) = &self.disk {
            disk.limit(room.map(|room| disk.bytes() + room));
        }
    }

    pub(crate) fn empty_disk(&mut self) {
        if let Some(Disk { disk, .. }) = &self.disk {
            disk.limit(None);
        }
    }

    /// The process ends without a word, and another one goes on with what is on the disk.
    pub(crate) fn crash(&mut self) {
        let is_all_durable = self.below(2) == 0;
        if is_all_durable {
            self.empty_disk();
            (0..3).for_each(|_| self.turn_disk(true));
        }
        let Some(Disk { disk, writer, .. }) = self.disk.take() else { return };
        let before = self.retained_values();
        drop(writer);
        disk.limit(None);
        self.counts.crashes += 1;
        if self.below(2) == 0 {
            disk.cut_power(|bound| self.below(bound));
            self.counts.power_cuts += 1;
        }
        for index in 0..self.peers.len() {
            self.drop_connection(index);
        }
        self.network.clear();
        let (disk, recovery) = Disk::open(disk);
        let settings = self.shared.settings.clone();
        let rules = self.shared.acl.load_full();
        self.shared = Shared::with_log(SHARDS, settings, Some(Arc::clone(disk.writer.log())));
        self.shared.acl.store(rules);
        self.shards = (0..SHARDS).map(|id| shard(id, &self.shared, &disk)).collect();
        let log = Arc::clone(disk.writer.log());
        let read = |positions: &[Position]| log.read(&disk.disk, positions);
        recovery.restore(self.now, &log, &mut self.shards, &read, |jobs| {
            jobs.into_iter().for_each(|job| job());
        });
        self.disk = Some(disk);
        self.versions.clear();
        self.now += Duration::from_millis(10);
        if is_all_durable {
            self.counts.quiet_crashes += 1;
            assert_eq!(self.retained_values(), before, "what is retained after a crash");
        }
        self.come_back();
    }

    /// Those who never leave connect again, and some of those who have a session.
    fn come_back(&mut self) {
        for index in self.watching() {
            self.peers[index].values.clear();
            self.watch(index);
        }
        for index in 0..CLIENTS + WORKERS {
            if !self.peers[index].clean && self.below(3) > 0 {
                self.open(index, false);
            }
        }
    }
}

impl Peer {
    /// Messages of QoS 1 and 2 that the broker has taken, by the identifier that they had.
    pub(crate) fn acknowledge(&mut self, packet_id: PacketId) {
        if let Some(at) = self.unacknowledged.iter().position(|(id, ..)| *id == packet_id) {
            self.unacknowledged.remove(at);
        }
    }

    pub(crate) fn has_sent(&mut self, packet_id: Option<PacketId>, payload: &str, qos: QoS) {
        if let Some(packet_id) = packet_id.filter(|_| qos != QoS::AtMostOnce) {
            self.unacknowledged.push((packet_id, payload.to_owned()));
        }
    }
}
