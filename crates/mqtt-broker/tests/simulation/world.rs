//! The world: shards, clients, and the network between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use clock::Instant;
use mqtt_broker::{ConnectionId, Limits, PeerMessage, Settings, Shard, Shared, SharedStrategy};
use mqtt_proto::client::{ClientConnection, Event};
use mqtt_wire::{
    Connect, Decoder, PacketId, Publish, QoS, SubscribeFilter, SubscriptionOptions, Text, TopicFilter,
    TopicName, Version, Will,
};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::crash::{self, Disk};

pub(crate) const SHARDS: usize = 3;
pub(crate) const CLIENTS: usize = 6;
/// Members of the shared subscription, after the clients.
pub(crate) const WORKERS: usize = 3;
/// Subscribers that never leave, after the workers; some come later.
const WATCHERS: usize = 6;
/// What the workers share.
const GROUP: &str = "$share/g/#";

/// Who of them gets a message: each in a part of the worlds.
const STRATEGIES: [SharedStrategy; 5] = [
    SharedStrategy::RoundRobin,
    SharedStrategy::Random,
    SharedStrategy::Sticky,
    SharedStrategy::HashTopic,
    SharedStrategy::HashClientId,
];
pub(crate) const TOPICS: [&str; 4] = ["a", "a/b", "a/c", "d/e"];
/// Where nobody may publish.
const UNWRITABLE: &str = "denied";
/// What nobody may subscribe to; a filter that begins with a wildcard does not match it.
const UNREADABLE: &str = "$denied/x";
const RULES: &str = r##"
[[rules]]
deny = "publish"
topics = ["denied"]
[[rules]]
allow = "all"
topics = ["#"]
"##;
const FILTERS: [&str; 6] = ["a", "a/+", "a/#", "#", "d/e", "+/e"];

/// One end of the network: a client, its session over several connections, and what it has seen.
pub(crate) struct Peer {
    pub(crate) name: String,
    version: Version,
    shard: usize,
    pub(crate) connection: Option<(ConnectionId, ClientConnection)>,
    earlier: Option<ClientConnection>,
    pub(crate) clean: bool,
    pub(crate) subscriptions: BTreeMap<String, QoS>,
    /// Payloads of QoS 1 and 2 that must arrive, as far as the session was there when they were published.
    pub(crate) owed: BTreeMap<String, QoS>,
    pub(crate) seen: Vec<(String, QoS)>,
    published: u32,
    to_client: BytesMut,
    /// The last retained message of each topic that it got, also as it was published.
    pub(crate) values: BTreeMap<String, String>,
    /// Messages that came again without DUP, though only the broker can have sent them twice.
    pub(crate) unmarked: Vec<String>,
    /// Whether it has been a watcher.
    pub(crate) has_watched: bool,
    /// What it has published and the broker has not acknowledged.
    pub(crate) unacknowledged: Vec<(PacketId, String)>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) publishes: [usize; 3],
    subscribes: usize,
    unsubscribes: usize,
    connects: usize,
    losses: usize,
    goodbyes: usize,
    takeovers: usize,
    delayed_batches: usize,
    crossings: usize,
    wills: usize,
    delivered: usize,
    retained: usize,
    deletions: usize,
    worker_losses: usize,
    worker_ends: usize,
    shared: usize,
    late_watchers: usize,
    trespasses: usize,
    pub(crate) crashes: usize,
    pub(crate) power_cuts: usize,
    /// Crashes when everything was durable.
    pub(crate) quiet_crashes: usize,
    pub(crate) full_disks: usize,
    /// Messages that were read from the log.
    pub(crate) loads: usize,
    /// Segments of logs that were removed.
    pub(crate) removed: usize,
    /// Blocks of queues that were read outside of the memory.
    pub(crate) blocks: usize,
}

#[cfg_attr(
    feature = "sabotage",
    allow(dead_code, reason = "nobody counts what happens in a world with a fault")
)]
impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, count) in self.all_mut().into_iter().zip(other.all()) {
            *sum += count;
        }
    }

    /// The counts that no disk is needed for.
    pub(crate) fn common(&self) -> impl Iterator<Item = usize> {
        self.all().into_iter().take(20)
    }

    pub(crate) fn all(&self) -> [usize; 27] {
        let mut copy = *self;
        copy.all_mut().map(|count| *count)
    }

    fn all_mut(&mut self) -> [&mut usize; 27] {
        let [q0, q1, q2] = &mut self.publishes;
        [
            q0,
            q1,
            q2,
            &mut self.subscribes,
            &mut self.unsubscribes,
            &mut self.connects,
            &mut self.losses,
            &mut self.goodbyes,
            &mut self.takeovers,
            &mut self.delayed_batches,
            &mut self.crossings,
            &mut self.wills,
            &mut self.delivered,
            &mut self.retained,
            &mut self.deletions,
            &mut self.worker_losses,
            &mut self.worker_ends,
            &mut self.shared,
            &mut self.late_watchers,
            &mut self.trespasses,
            &mut self.crashes,
            &mut self.power_cuts,
            &mut self.quiet_crashes,
            &mut self.full_disks,
            &mut self.loads,
            &mut self.removed,
            &mut self.blocks,
        ]
    }
}

impl Peer {
    /// What was on its way between shards when the subscription for it ended, or fell to QoS 0, need not arrive.
    fn forgive(&mut self) {
        let subscriptions = &self.subscriptions;
        self.owed.retain(|payload, _| {
            let topic = TopicName::new(payload.split(' ').nth(2).unwrap()).unwrap();
            subscriptions.iter().any(|(filter, granted)| {
                *granted != QoS::AtMostOnce && TopicFilter::new(filter).unwrap().matches(&topic)
            })
        });
    }
}

pub(crate) struct World {
    rng: ChaCha8Rng,
    pub(crate) now: Instant,
    pub(crate) shared: Arc<Shared>,
    pub(crate) shards: Vec<Shard>,
    has_disk: bool,
    pub(crate) disk: Option<Disk>,
    /// Segments of the log when it was last looked at.
    pub(crate) segments: u64,
    /// Batches between shards, in order for each pair, delivered when the dice say so.
    pub(crate) network: BTreeMap<(usize, usize), VecDeque<Vec<PeerMessage>>>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) counts: Counts,
    /// Messages of QoS 1 and 2 that some worker must get.
    pub(crate) owed_to_group: BTreeSet<String>,
    pub(crate) versions: BTreeMap<String, u64>,
}

impl World {
    pub(crate) fn new(seed: u64, has_disk: bool) -> Self {
        // A small window in one half of the worlds, so that queues are used.
        let max_inflight = if seed.is_multiple_of(2) { 4 } else { 1_000 };
        let shared_subscription_strategy = STRATEGIES[usize::try_from(seed % 5).unwrap()];
        let limits = Limits {
            max_mqueue_len: 100_000,
            max_inflight,
            shared_subscription_strategy,
            ..Limits::default()
        };
        let settings = Settings { limits, started: Duration::from_secs(1_000_000), ..Settings::default() };
        let (shared, shards, disk) = crash::start(settings, has_disk);
        shared.acl.store(Some(Arc::new(access::Acl::parse(RULES).unwrap())));
        let versions = [Version::V3_1, Version::V3_1_1, Version::V5];
        let peers = (0..CLIENTS + WORKERS + WATCHERS)
            .map(|index| {
                // Two clients on each shard.
                let name = (0..)
                    .map(|n| format!("c{index}-{n}"))
                    .find(|name| shared.shard_of(name) == index % SHARDS);
                Peer {
                    name: name.unwrap(),
                    version: versions[index % versions.len()],
                    shard: index % SHARDS,
                    connection: None,
                    earlier: None,
                    clean: true,
                    subscriptions: BTreeMap::new(),
                    owed: BTreeMap::new(),
                    seen: Vec::new(),
                    published: 0,
                    to_client: BytesMut::new(),
                    values: BTreeMap::new(),
                    unmarked: Vec::new(),
                    has_watched: false,
                    unacknowledged: Vec::new(),
                }
            })
            .collect();
        let mut world = Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            now: Instant::ORIGIN,
            shards,
            shared,
            has_disk,
            disk,
            segments: 0,
            network: BTreeMap::new(),
            peers,
            counts: Counts::default(),
            owed_to_group: BTreeSet::new(),
            versions: BTreeMap::new(),
        };
        for index in CLIENTS..CLIENTS + WORKERS {
            world.open(index, false);
            world.join_group(index);
        }
        for index in CLIENTS + WORKERS..CLIENTS + WORKERS + SHARDS {
            world.watch(index);
        }
        world
    }

    /// The watchers that are there.
    pub(crate) fn watchers(&self) -> impl Iterator<Item = &Peer> {
        self.peers[CLIENTS + WORKERS..].iter().filter(|peer| peer.connection.is_some())
    }

    /// The numbers of those who were there before a crash.
    pub(crate) fn watching(&self) -> Vec<usize> {
        (CLIENTS + WORKERS..self.peers.len()).filter(|&index| self.peers[index].has_watched).collect()
    }

    pub(crate) fn workers(&self) -> &[Peer] {
        &self.peers[CLIENTS..CLIENTS + WORKERS]
    }

    pub(crate) fn clients(&self) -> &[Peer] {
        &self.peers[..CLIENTS]
    }

    /// A subscriber of everything that never leaves, with QoS 0, so that nothing waits for a window.
    pub(crate) fn watch(&mut self, index: usize) {
        self.open(index, true);
        self.peers[index].has_watched = true;
        let now = self.now;
        let filters = TOPICS
            .map(|topic| SubscribeFilter {
                filter: TopicFilter::new(topic).unwrap(),
                options: SubscriptionOptions::at_most(QoS::AtMostOnce),
            })
            .to_vec();
        if let Some((_, client)) = &mut self.peers[index].connection {
            client.subscribe(now, filters).unwrap();
        }
        self.settle(index);
    }

    fn join_group(&mut self, index: usize) {
        let now = self.now;
        let filter = SubscribeFilter {
            filter: TopicFilter::new(GROUP).unwrap(),
            options: SubscriptionOptions::at_most(QoS::AtLeastOnce),
        };
        if let Some((_, client)) = &mut self.peers[index].connection {
            client.subscribe(now, vec![filter]).unwrap();
        }
        // SUBACK comes by way of the group's owner.
        for _ in 0..6 {
            self.exchange(true);
        }
    }

    /// A worker vanishes, comes back, or comes back without its session. The first keeps its session, so that
    /// there is always a member.
    fn disturb_worker(&mut self) {
        let index = CLIENTS + self.below(WORKERS);
        if self.peers[index].connection.is_some() && self.below(2) == 0 {
            self.lose(index);
            self.counts.worker_losses += 1;
            return;
        }
        if index == CLIENTS || self.below(2) == 0 {
            return self.open(index, false);
        }
        // What it has not acknowledged goes to others.
        self.counts.worker_ends += 1;
        self.open_fresh(index);
        self.join_group(index);
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.next_u64() % bound as u64).unwrap()
    }

    fn qos(&mut self) -> QoS {
        [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][self.below(3)]
    }

    pub(crate) fn step(&mut self) {
        self.now += Duration::from_millis(10);
        let peer = self.below(CLIENTS);
        if self.below(8) == 0 {
            self.disturb_worker();
        }
        if self.below(60) == 0 {
            let waiting = (CLIENTS + WORKERS..self.peers.len()).find(|&i| self.peers[i].connection.is_none());
            if let Some(index) = waiting {
                self.watch(index);
                self.counts.late_watchers += 1;
            }
        }
        if self.disk.is_some() {
            match self.below(40) {
                0 => self.crash(),
                1 | 2 => self.fill_disk(),
                _ => {}
            }
        }
        match self.below(13) {
            12 => self.trespass(peer),
            0 => self.connect(peer),
            1 => self.lose(peer),
            2 => self.say_goodbye(peer),
            3 | 4 => self.subscribe(peer),
            5 => self.unsubscribe(peer),
            // More than a block of a queue holds.
            11 if self.below(12) == 0 => (0..80).for_each(|_| self.publish(peer)),
            _ => self.publish(peer),
        }
        for _ in 0..self.below(6) {
            self.exchange(false);
        }
        self.check_versions();
    }

    /// What is retained for a topic never becomes older.
    fn check_versions(&mut self) {
        for topic in TOPICS {
            let Some(version) = self.shared.retained.version(&TopicName::new(topic).unwrap()) else {
                continue;
            };
            let before = self.versions.insert(topic.to_owned(), version).unwrap_or(0);
            assert!(version >= before, "{topic}: version {version} after {before}");
        }
    }

    fn connect(&mut self, index: usize) {
        let clean = self.below(4) == 0;
        self.open(index, clean);
    }

    /// Ends the session of a worker, and begins another.
    fn open_fresh(&mut self, index: usize) {
        self.open(index, true);
        // From a clean start on, MQTT 3.x keeps no session; the worker's next connection does.
        self.open(index, false);
    }

    pub(crate) fn open(&mut self, index: usize, clean: bool) {
        self.empty_disk();
        let had_connection = self.peers[index].connection.is_some();
        self.counts.takeovers += usize::from(had_connection);
        if had_connection {
            self.drop_connection(index);
        }
        let peer = &mut self.peers[index];
        let mut connect = Connect::new(peer.version, Text::new(&peer.name).unwrap());
        connect.clean_start = clean;
        connect.keep_alive = 0;
        connect.properties.session_expiry_interval =
            (peer.version == Version::V5).then_some(if clean { 0 } else { 3600 });
        connect.will = Some(Box::new(Will {
            topic: TopicName::new("wills").unwrap(),
            payload: peer.name.clone().into(),
            qos: QoS::AtMostOnce,
            retain: false,
            properties: Default::default(),
        }));
        if clean || peer.clean {
            peer.subscriptions.clear();
            peer.owed.clear();
            peer.earlier = None;
            self.abandon(index);
        }
        let peer = &mut self.peers[index];
        peer.clean = clean;
        let mut client = ClientConnection::new(self.now, &connect, 1 << 20, Duration::from_secs(60)).unwrap();
        if let Some(earlier) = peer.earlier.take() {
            client = client.resuming(earlier);
        }
        let mut bytes = client.poll_transmit().unwrap();
        let mut decoder = Decoder::for_server(1 << 20);
        let Ok(Some(mqtt_wire::Packet::Connect(connect))) = decoder.decode(&mut bytes) else {
            panic!("CONNECT")
        };
        let id = self.shards[peer.shard].handle_connect(self.now, *connect, decoder).unwrap();
        peer.connection = Some((id, client));
        peer.to_client.clear();
        self.counts.connects += 1;
        // A resumed client finds out what its server still knows before it does anything else.
        self.settle_connack(index);
    }

    /// Lets the new connection's CONNACK arrive.
    fn settle_connack(&mut self, index: usize) {
        for _ in 0..4 {
            self.turn_disk(true);
            self.flush_shard(self.peers[index].shard);
            self.read_client(index);
        }
        assert!(self.peers[index].connection.as_ref().is_some_and(|(_, client)| client.is_connected()));
    }

    pub(crate) fn drop_connection(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        if let Some((_, client)) = peer.connection.take() {
            peer.earlier = (!peer.clean).then_some(client);
            if peer.clean {
                peer.subscriptions.clear();
                peer.owed.clear();
                self.abandon(index);
            }
        }
    }

    /// What a client published and will not send again need not arrive after a crash.
    fn abandon(&mut self, index: usize) {
        let abandoned = std::mem::take(&mut self.peers[index].unacknowledged);
        if !self.has_disk {
            return;
        }
        for (_, payload) in abandoned {
            self.owed_to_group.remove(&payload);
            self.peers.iter_mut().for_each(|peer| _ = peer.owed.remove(&payload));
        }
    }

    fn lose(&mut self, index: usize) {
        if let Some((id, _)) = self.peers[index].connection {
            self.shards[self.peers[index].shard].handle_closed(self.now, id);
            self.drop_connection(index);
            self.counts.losses += 1;
        }
    }

    fn say_goodbye(&mut self, index: usize) {
        if let Some((id, client)) = &mut self.peers[index].connection {
            let id = *id;
            client.disconnect(self.now, mqtt_wire::ReasonCode::NORMAL_DISCONNECTION);
            let Some(mut bytes) = client.poll_transmit() else { return self.lose(index) };
            let shard = self.peers[index].shard;
            self.shards[shard].handle_bytes(self.now, id, &mut bytes);
            self.shards[shard].handle_closed(self.now, id);
            self.drop_connection(index);
            self.counts.goodbyes += 1;
        }
    }

    fn subscribe(&mut self, index: usize) {
        let (filter, qos) = (FILTERS[self.below(FILTERS.len())], self.qos());
        let now = self.now;
        let Some((_, client)) = &mut self.peers[index].connection else { return };
        let options = SubscriptionOptions::at_most(qos);
        let filters = [filter, UNREADABLE]
            .map(|filter| SubscribeFilter { filter: TopicFilter::new(filter).unwrap(), options })
            .to_vec();
        client.subscribe(now, filters).unwrap();
        self.empty_disk();
        self.counts.subscribes += 1;
        // What is owed begins with SUBACK, so that it is waited for here.
        self.settle(index);
        self.peers[index].subscriptions.insert(filter.to_owned(), qos);
        self.peers[index].forgive();
    }

    fn unsubscribe(&mut self, index: usize) {
        let filter = FILTERS[self.below(FILTERS.len())];
        let now = self.now;
        self.empty_disk();
        let Some((_, client)) = &mut self.peers[index].connection else { return };
        client.unsubscribe(now, vec![TopicFilter::new(filter).unwrap()]).unwrap();
        self.counts.unsubscribes += 1;
        self.peers[index].subscriptions.remove(filter);
        self.peers[index].forgive();
        self.settle(index);
    }

    fn settle(&mut self, index: usize) {
        for _ in 0..4 {
            self.write_client(index);
            self.turn_disk(true);
            self.flush_shard(self.peers[index].shard);
            self.read_client(index);
        }
    }

    fn publish(&mut self, index: usize) {
        let (topic, qos, retain) = (TOPICS[self.below(TOPICS.len())], self.qos(), self.below(3) == 0);
        let deletes = retain && self.below(4) == 0;
        let now = self.now;
        let peer = &mut self.peers[index];
        let Some((_, client)) = &mut peer.connection else { return };
        peer.published += 1;
        let mark = if retain { 'r' } else { '-' };
        let payload = format!("{} {} {topic} {mark} {}", peer.name, peer.published, qos as u8);
        let bytes = if deletes { String::new() } else { payload.clone() };
        let mut publish = Publish::new(TopicName::new(topic).unwrap(), qos, bytes);
        publish.retain = retain;
        let Ok(packet_id) = client.publish(now, publish) else { return };
        if !deletes {
            peer.has_sent(packet_id, &payload, qos);
        }
        self.counts.publishes[qos as usize] += 1;
        self.counts.retained += usize::from(retain);
        self.counts.deletions += usize::from(deletes);
        // Owed from when the server has it; until then its publisher may still lose it.
        self.write_client(index);
        if deletes {
            return;
        }
        if qos != QoS::AtMostOnce {
            self.owed_to_group.insert(payload.clone());
        }
        let name = TopicName::new(topic).unwrap();
        for receiver in &mut self.peers[..CLIENTS] {
            let granted = (receiver.subscriptions.iter())
                .filter(|(filter, _)| TopicFilter::new(filter).unwrap().matches(&name))
                .map(|(_, granted)| *granted)
                .max();
            if let Some(granted) =
                granted.map(|granted| granted.min(qos)).filter(|&qos| qos != QoS::AtMostOnce)
            {
                receiver.owed.insert(payload.clone(), granted);
            }
        }
    }

    /// A client publishes what it may not, and the broker itself what nobody may read.
    fn trespass(&mut self, index: usize) {
        let now = self.now;
        let message = |topic| Publish::new(TopicName::new(topic).unwrap(), QoS::AtMostOnce, "forbidden");
        let Some((_, client)) = &mut self.peers[index].connection else { return };
        client.publish(now, message(UNWRITABLE)).unwrap();
        self.write_client(index);
        self.shards[index % SHARDS].publish_system(now, message(UNREADABLE));
        self.counts.trespasses += 1;
    }

    fn write_client(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        let Some((id, client)) = &mut peer.connection else { return };
        while let Some(mut bytes) = client.poll_transmit() {
            self.shards[peer.shard].handle_bytes(self.now, *id, &mut bytes);
        }
    }

    fn flush_shard(&mut self, shard: usize) {
        while let Some((id, output)) = self.shards[shard].poll_transmit() {
            if let Some(peer) = self.peers.iter_mut().find(|peer| {
                peer.shard == shard && peer.connection.as_ref().is_some_and(|(used, _)| *used == id)
            }) {
                peer.to_client.extend_from_slice(&output.bytes);
                assert!(!output.close, "no client here breaks a rule");
            } else if output.close {
                self.shards[shard].handle_closed(self.now, id);
            }
        }
        while let Some((to, batch)) = self.shards[shard].poll_peer() {
            self.counts.crossings += batch.len();
            self.network.entry((shard, to)).or_default().push_back(batch);
        }
    }

    fn read_client(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        let Some((_, client)) = &mut peer.connection else { return };
        client.handle_bytes(self.now, &mut peer.to_client).unwrap();
        let mut published = Vec::new();
        while let Some(event) = client.poll_event() {
            if let Event::Published(packet_id, _) = event {
                published.push(packet_id);
            }
            if let Event::Message(publish) = event {
                self.counts.delivered += 1;
                let topic = publish.topic.as_str();
                assert!(topic != UNWRITABLE, "{} got what nobody may publish", peer.name);
                assert!(topic != UNREADABLE, "{} got what nobody may subscribe to", peer.name);
                if topic == "wills" {
                    self.counts.wills += 1;
                    continue;
                }
                let payload = String::from_utf8(publish.payload.to_vec()).unwrap();
                let topic = publish.topic.as_str().to_owned();
                if payload.is_empty() || payload.contains(" r ") {
                    peer.values.insert(topic, payload.clone());
                }
                if payload.is_empty() {
                    continue;
                }
                let is_again = peer.seen.iter().any(|(seen, _)| *seen == payload);
                if is_again && !publish.retain && !publish.dup && !payload.ends_with(" 1") {
                    peer.unmarked.push(payload.clone());
                }
                // A retained message is a copy of what may have come before.
                if !publish.retain {
                    peer.seen.push((payload.clone(), publish.qos));
                }
                peer.owed.remove(&payload);
            }
        }
        published.into_iter().for_each(|packet_id| peer.acknowledge(packet_id));
    }

    /// Moves bytes and batches; some batches stay on their way unless all are to arrive.
    fn exchange(&mut self, all: bool) {
        for index in 0..self.peers.len() {
            self.write_client(index);
        }
        self.turn_disk(all);
        for shard in 0..SHARDS {
            self.shards[shard].handle_timeout(self.now);
            self.flush_shard(shard);
        }
        let links: Vec<(usize, usize)> = self.network.keys().copied().collect();
        for link in links {
            if !all && self.below(3) == 0 {
                self.counts.delayed_batches += 1;
                continue;
            }
            if let Some(batch) = self.network.get_mut(&link).and_then(VecDeque::pop_front) {
                self.shards[link.1].handle_peer(self.now, batch);
            }
        }
        for index in 0..self.peers.len() {
            self.read_client(index);
        }
    }

    /// Everybody who has a session comes back, and everything arrives.
    pub(crate) fn finish(&mut self) {
        self.empty_disk();
        for index in 0..CLIENTS + WORKERS {
            if self.peers[index].connection.is_none() && !self.peers[index].clean {
                self.open(index, false);
            }
        }
        for _ in 0..400 {
            self.exchange(true);
        }
        let workers = CLIENTS..CLIENTS + WORKERS;
        self.counts.shared += self.peers[workers].iter().map(|peer| peer.seen.len()).sum::<usize>();
    }

    /// What is retained, by topic.
    pub(crate) fn retained_values(&self) -> Vec<Option<String>> {
        TOPICS.iter().map(|topic| self.retained(topic)).collect()
    }

    /// What is retained for a topic.
    pub(crate) fn retained(&self, topic: &str) -> Option<String> {
        let found = self.shared.retained.matching(self.now, &TopicFilter::new(topic).unwrap());
        assert!(found.len() <= 1);
        found.first().map(|message| String::from_utf8(message.payload.to_vec()).unwrap())
    }
}
