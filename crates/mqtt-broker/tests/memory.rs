//! What a session that is away costs in memory: at most 1 KB, however many messages wait for it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(unsafe_code, reason = "an allocator that counts is one")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use clock::Instant;
use journal::log::{Folder, Fsync, Options, Position, Writer, open};
use mqtt_broker::{BLOCK, ConnectionId, Limits, Recovery, Settings, Shard, Shared};
use mqtt_wire::{
    Ack, Connect, Decoder, Packet, PacketId, Publish, QoS, Subscribe, SubscribeFilter, SubscriptionOptions,
    Text, TopicFilter, TopicName, Version,
};

/// Counts what is allocated and not freed.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static MEMORY: Counting = Counting;

/// What sessions subscribe to.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Each to what is for it.
    Device,
    /// All to the same shared subscription.
    Worker,
}

const MOST: usize = 1_024;
/// How long a session outlives its connection, in seconds.
const EXPIRY_S: u32 = 86_400;
/// Messages that a client gets and acknowledges before it goes.
const ONLINE: usize = 8;
/// Messages that it gets and does not acknowledge: as many as it may.
const IN_FLIGHT: usize = 32;

/// Where queues go: a file, as its blocks are not memory.
#[derive(Debug)]
struct Blocks(File);

impl mqtt_broker::Blocks for Blocks {
    fn read(&mut self, number: u32) -> io::Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        self.0.read_exact_at(&mut block, u64::from(number) * BLOCK as u64)?;
        Ok(block)
    }

    fn write(&mut self, number: u32, block: &[u8; BLOCK]) -> io::Result<()> {
        self.0.write_all_at(block, u64::from(number) * BLOCK as u64)
    }

    fn clear(&mut self) -> io::Result<()> {
        self.0.set_len(0)
    }
}

struct Broker {
    shard: Shard,
    writer: Writer,
    now: Instant,
}

impl Broker {
    fn start(folder: &Path) -> Self {
        let options = Options { fsync: Fsync::Never, ..Options::default() };
        let storage = Arc::new(Folder::open(folder.to_owned()).unwrap());
        let mut recovery = Recovery::default();
        let apply = |position, record: &[u8]| recovery.apply(position, record).unwrap();
        let (writer, _) = open(storage.clone(), options, 1, apply).unwrap();
        let log = Arc::clone(writer.log());
        let limits = Limits { max_mqueue_len: usize::MAX, max_mqueue_bytes: usize::MAX, ..Limits::default() };
        let settings = Settings { limits, ..Settings::default() };
        let shared = Shared::with_log(1, settings, Some(Arc::clone(&log)));
        let blocks = Box::new(Blocks(tempfile::tempfile().unwrap()));
        let mut shards = [Shard::new(0, shared).with_overflow(blocks)];
        let read = |positions: &[Position]| log.read(&*storage, positions);
        recovery.restore(Instant::ORIGIN, &log, &mut shards, &read, |jobs| {
            jobs.into_iter().for_each(|job| job())
        });
        let [shard] = shards;
        let mut broker = Self { shard, writer, now: Instant::ORIGIN };
        broker.turn();
        broker
    }

    fn turn(&mut self) {
        self.shard.handle_timeout(self.now);
        self.writer.turn(false).unwrap();
        self.shard.handle_durable(self.now);
        while self.shard.poll_transmit().is_some() {}
        while self.shard.poll_ended().is_some() {}
    }

    /// Connects as a server does: from bytes, in which texts lie.
    fn connect(&mut self, name: &str, expiry: Option<u32>) -> ConnectionId {
        let mut connect = Connect::new(Version::V5, Text::new(name).unwrap());
        connect.properties.session_expiry_interval = expiry;
        let mut bytes = BytesMut::new();
        Packet::from(connect).encode(Version::V5, &mut bytes).unwrap();
        let mut decoder = Decoder::new(Version::V5, 1 << 20);
        let Ok(Some(Packet::Connect(connect))) = decoder.decode(&mut bytes) else { panic!("CONNECT") };
        self.shard.handle_connect(self.now, *connect, decoder).unwrap()
    }

    fn give(&mut self, id: ConnectionId, packet: impl Into<Packet>) {
        let mut bytes = BytesMut::new();
        packet.into().encode(Version::V5, &mut bytes).unwrap();
        self.shard.handle_bytes(self.now, id, &mut bytes);
    }

    fn publish(&mut self, publisher: ConnectionId, topic: &str) {
        let publish = Publish::new(TopicName::new(topic).unwrap(), QoS::AtLeastOnce, vec![7; 200]);
        self.give(publisher, Publish { packet_id: Some(PacketId::ONE), ..publish });
    }

    /// So many routes are remembered, whatever the number of sessions. Those that are remembered already are not
    /// forgotten in the second round.
    fn fill_route_cache(&mut self, publisher: ConnectionId) {
        for topic in (0..2).flat_map(|_| 0..10_000) {
            self.publish(publisher, &format!("other/{topic:08}"));
            if topic % 100 == 0 {
                self.turn();
            }
        }
        self.turn();
    }

    /// A client subscribes, gets some messages, acknowledges the first of them, and goes.
    fn visit(&mut self, publisher: ConnectionId, number: usize, kind: Kind) {
        let id = self.connect(&format!("sensor-gateway-{number:08}"), Some(EXPIRY_S));
        let filter = match kind {
            Kind::Device => format!("devices/{number:08}/commands/#"),
            Kind::Worker => "$share/workers/devices/+/commands/#".to_owned(),
        };
        let filter = TopicFilter::new(&filter).unwrap();
        let filters =
            vec![SubscribeFilter { filter, options: SubscriptionOptions::at_most(QoS::AtLeastOnce) }];
        let (packet_id, properties) = (PacketId::ONE, Default::default());
        self.give(id, Subscribe { packet_id, properties, filters });
        for _ in 0..ONLINE {
            self.publish(publisher, &format!("devices/{number:08}/commands/reboot"));
        }
        self.turn();
        for packet_id in 1..=u16::try_from(ONLINE).unwrap() {
            self.give(id, Packet::PubAck(Ack::new(PacketId::new(packet_id).unwrap())));
        }
        for _ in 0..IN_FLIGHT {
            self.publish(publisher, &format!("devices/{number:08}/commands/reboot"));
        }
        self.turn();
        self.shard.handle_closed(self.now, id);
    }
}

fn size_of_empty_broker() -> usize {
    let folder = tempfile::tempdir().unwrap();
    let before = ALLOCATED.load(Ordering::Relaxed);
    let _broker = Broker::start(folder.path());
    ALLOCATED.load(Ordering::Relaxed) - before
}

/// Bytes for each session, when all of them have come and gone and messages wait, and after a restart.
fn bytes_per_session(sessions: usize, messages: usize, kind: Kind) -> [usize; 2] {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(folder.path());
    let publisher = broker.connect("publisher", None);
    broker.fill_route_cache(publisher);
    let before = ALLOCATED.load(Ordering::Relaxed);
    // In no order of their names: that is the usual case, and tables are fuller in it.
    let order = |index: usize| index * 7_919 % sessions;
    for index in 0..sessions {
        broker.visit(publisher, order(index), kind);
    }
    for _ in 0..messages {
        for index in 0..sessions {
            broker.publish(publisher, &format!("devices/{:08}/commands/reboot", order(index)));
            if index % 100 == 0 {
                broker.turn();
            }
        }
        broker.turn();
    }
    assert_eq!(broker.shard.stats().sessions, sessions as u64 + 1);
    broker.fill_route_cache(publisher);
    let live = ALLOCATED.load(Ordering::Relaxed).saturating_sub(before) / sessions;
    drop(broker);
    let before = ALLOCATED.load(Ordering::Relaxed);
    let broker = Broker::start(folder.path());
    assert_eq!(broker.shard.stats().sessions, sessions as u64);
    let restored = ALLOCATED.load(Ordering::Relaxed) - before;
    [live, restored.saturating_sub(size_of_empty_broker()) / sessions]
}

/// Bytes that are left when sessions have come, gone and expired, after each of some rounds.
fn bytes_left(kind: Kind) -> [usize; 3] {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(folder.path());
    let publisher = broker.connect("publisher", None);
    broker.fill_route_cache(publisher);
    [0, 1, 2].map(|round| {
        for number in 0..500 {
            broker.visit(publisher, round * 500 + number, kind);
        }
        broker.now += Duration::from_secs(u64::from(EXPIRY_S) + 1);
        broker.turn();
        assert_eq!(broker.shard.stats().sessions, 0);
        broker.fill_route_cache(publisher);
        ALLOCATED.load(Ordering::Relaxed)
    })
}

/// One test, as the allocator counts for the process.
#[test]
fn a_session_that_is_away_takes_a_kilobyte_however_long_its_queue_is_and_gives_it_back() {
    for kind in [Kind::Device, Kind::Worker] {
        let [first, second, third] = bytes_left(kind);
        assert_eq!([second, third], [first; 2], "of each {kind:?} something is left");
    }
    for (sessions, messages, kind) in
        [(3_000, 21, Kind::Device), (500, 200, Kind::Device), (500, 40, Kind::Worker)]
    {
        let [live, restored] = bytes_per_session(sessions, messages, kind);
        println!(
            "{sessions} × {kind:?} × {messages} messages: {live} bytes each, {restored} after a restart"
        );
        assert!(live <= MOST, "{live} bytes for each {kind:?} of {sessions} with {messages} messages");
        assert!(restored <= MOST, "{restored} bytes for each {kind:?} after a restart");
    }
}
