//! Three shards and their clients in virtual time, from one seed: clients of all versions connect, subscribe,
//! publish, vanish and come back; a checker watches what each of them gets.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use clock::Instant;
use mqtt_broker::{ConnectionId, Limits, PeerMessage, Shard, Shared};
use mqtt_proto::client::{ClientConnection, Event};
use mqtt_wire::{
    Connect, Decoder, Publish, QoS, SubscribeFilter, SubscriptionOptions, Text, TopicFilter, TopicName,
    Version, Will,
};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

const SHARDS: usize = 3;
const CLIENTS: usize = 6;
const OPERATIONS: usize = 200;
const SEEDS: u64 = 200;
const TOPICS: [&str; 4] = ["a", "a/b", "a/c", "d/e"];
const FILTERS: [&str; 6] = ["a", "a/+", "a/#", "#", "d/e", "+/e"];

/// One end of the network: a client, its session over several connections, and what it has seen.
struct Peer {
    name: String,
    version: Version,
    shard: usize,
    connection: Option<(ConnectionId, ClientConnection)>,
    earlier: Option<ClientConnection>,
    clean: bool,
    subscriptions: BTreeMap<String, QoS>,
    /// Payloads of QoS 1 and 2 that must arrive, as far as the session was there when they were published.
    owed: BTreeMap<String, QoS>,
    seen: Vec<(String, QoS)>,
    published: u32,
    to_client: BytesMut,
}

#[derive(Debug, Default)]
struct Counts {
    publishes: [usize; 3],
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
}

struct World {
    rng: ChaCha8Rng,
    now: Instant,
    shared: Arc<Shared>,
    shards: Vec<Shard>,
    /// Batches between shards, in order for each pair, delivered when the dice say so.
    network: BTreeMap<(usize, usize), VecDeque<Vec<PeerMessage>>>,
    peers: Vec<Peer>,
    counts: Counts,
}

impl World {
    fn new(seed: u64) -> Self {
        let shared = Shared::new(SHARDS, Limits { max_mqueue_len: 100_000, ..Limits::default() });
        let versions = [Version::V3_1, Version::V3_1_1, Version::V5];
        let peers = (0..CLIENTS)
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
                }
            })
            .collect();
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            now: Instant::ORIGIN,
            shards: (0..SHARDS).map(|id| Shard::new(id, Arc::clone(&shared))).collect(),
            shared,
            network: BTreeMap::new(),
            peers,
            counts: Counts::default(),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.next_u64() % bound as u64).unwrap()
    }

    fn qos(&mut self) -> QoS {
        [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][self.below(3)]
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(10);
        let peer = self.below(CLIENTS);
        match self.below(12) {
            0 => self.connect(peer),
            1 => self.lose(peer),
            2 => self.say_goodbye(peer),
            3 | 4 => self.subscribe(peer),
            5 => self.unsubscribe(peer),
            _ => self.publish(peer),
        }
        for _ in 0..self.below(6) {
            self.exchange(false);
        }
    }

    fn connect(&mut self, index: usize) {
        let clean = self.below(4) == 0;
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
        }
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
            self.flush_shard(self.peers[index].shard);
            self.read_client(index);
        }
        assert!(self.peers[index].connection.as_ref().is_some_and(|(_, client)| client.is_connected()));
    }

    fn drop_connection(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        if let Some((_, client)) = peer.connection.take() {
            peer.earlier = (!peer.clean).then_some(client);
            if peer.clean {
                peer.subscriptions.clear();
                peer.owed.clear();
            }
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
            let mut bytes = client.poll_transmit().unwrap();
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
        let filters = vec![SubscribeFilter {
            filter: TopicFilter::new(filter).unwrap(),
            options: SubscriptionOptions::at_most(qos),
        }];
        client.subscribe(now, filters).unwrap();
        self.counts.subscribes += 1;
        // What is owed begins with SUBACK, so that it is waited for here.
        self.settle(index);
        self.peers[index].subscriptions.insert(filter.to_owned(), qos);
    }

    fn unsubscribe(&mut self, index: usize) {
        let filter = FILTERS[self.below(FILTERS.len())];
        let now = self.now;
        let Some((_, client)) = &mut self.peers[index].connection else { return };
        client.unsubscribe(now, vec![TopicFilter::new(filter).unwrap()]).unwrap();
        self.counts.unsubscribes += 1;
        self.peers[index].subscriptions.remove(filter);
        self.settle(index);
    }

    fn settle(&mut self, index: usize) {
        for _ in 0..4 {
            self.write_client(index);
            self.flush_shard(self.peers[index].shard);
            self.read_client(index);
        }
    }

    fn publish(&mut self, index: usize) {
        let (topic, qos, retain) = (TOPICS[self.below(TOPICS.len())], self.qos(), self.below(4) == 0);
        let now = self.now;
        let peer = &mut self.peers[index];
        let Some((_, client)) = &mut peer.connection else { return };
        peer.published += 1;
        let payload = format!("{} {} {topic} {}", peer.name, peer.published, qos as u8);
        let mut publish = Publish::new(TopicName::new(topic).unwrap(), qos, payload.clone());
        publish.retain = retain;
        if client.publish(now, publish).is_err() {
            return;
        }
        self.counts.publishes[qos as usize] += 1;
        // Owed from when the server has it; until then its publisher may still lose it.
        self.write_client(index);
        let name = TopicName::new(topic).unwrap();
        for receiver in &mut self.peers {
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
        while let Some(event) = client.poll_event() {
            if let Event::Message(publish) = event {
                self.counts.delivered += 1;
                if publish.topic.as_str() == "wills" {
                    self.counts.wills += 1;
                    continue;
                }
                let payload = String::from_utf8(publish.payload.to_vec()).unwrap();
                // A retained message is a copy of what may have come before.
                if !publish.retain {
                    peer.seen.push((payload.clone(), publish.qos));
                }
                peer.owed.remove(&payload);
            }
        }
    }

    /// Moves bytes and batches; some batches stay on their way unless all are to arrive.
    fn exchange(&mut self, all: bool) {
        for index in 0..CLIENTS {
            self.write_client(index);
        }
        for shard in 0..SHARDS {
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
        for index in 0..CLIENTS {
            self.read_client(index);
        }
    }

    /// Everybody who has a session comes back, and everything arrives.
    fn finish(&mut self, seed: u64) {
        for index in 0..CLIENTS {
            if self.peers[index].connection.is_none() && !self.peers[index].clean {
                let peer = &mut self.peers[index];
                let mut connect = Connect::new(peer.version, Text::new(&peer.name).unwrap());
                connect.clean_start = false;
                connect.keep_alive = 0;
                connect.properties.session_expiry_interval = (peer.version == Version::V5).then_some(3600);
                let mut client =
                    ClientConnection::new(self.now, &connect, 1 << 20, Duration::from_secs(60)).unwrap();
                if let Some(earlier) = peer.earlier.take() {
                    client = client.resuming(earlier);
                }
                let mut bytes = client.poll_transmit().unwrap();
                let mut decoder = Decoder::for_server(1 << 20);
                decoder.decode(&mut bytes).unwrap();
                let id = self.shards[peer.shard].handle_connect(self.now, connect, decoder).unwrap();
                peer.connection = Some((id, client));
                peer.to_client.clear();
                self.settle_connack(index);
            }
        }
        for _ in 0..400 {
            self.exchange(true);
        }
        for peer in &self.peers {
            assert!(peer.owed.is_empty(), "seed {seed}: {} never got {:?}", peer.name, peer.owed);
            self.check_duplicates(peer, seed);
            self.check_order(peer, seed);
        }
        self.check_retained(seed);
    }

    /// Only QoS 1, on the way in or out, may bring a message twice.
    fn check_duplicates(&self, peer: &Peer, seed: u64) {
        let mut once = BTreeSet::new();
        for (payload, qos) in &peer.seen {
            let may_repeat = *qos == QoS::AtLeastOnce || payload.ends_with(" 1");
            assert!(once.insert(payload) || may_repeat, "seed {seed}: {} got {payload} twice", peer.name);
        }
    }

    /// What one publisher sends to one topic with one QoS arrives in its order, repetitions aside (§4.6).
    fn check_order(&self, peer: &Peer, seed: u64) {
        let mut newest: BTreeMap<(String, String, QoS), u32> = BTreeMap::new();
        let mut known = BTreeSet::new();
        for (payload, qos) in &peer.seen {
            if !known.insert(payload) {
                continue;
            }
            let [publisher, number, topic, _] = payload.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{payload}")
            };
            let number: u32 = number.parse().unwrap();
            let last = newest.entry((publisher.to_owned(), topic.to_owned(), *qos)).or_default();
            assert!(*last < number, "seed {seed}: {} got {payload} after {last}", peer.name);
            *last = number;
        }
    }

    /// A new subscriber gets the retained message that the index has.
    fn check_retained(&mut self, seed: u64) {
        for topic in TOPICS {
            let filter = TopicFilter::new(topic).unwrap();
            let messages = self.shared.retained.matching(self.now, &filter);
            assert!(messages.len() <= 1, "seed {seed}");
        }
    }
}

#[test]
fn nothing_is_lost_doubled_or_reordered_across_three_shards() {
    let mut total = Counts::default();
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        for _ in 0..OPERATIONS {
            world.step();
        }
        world.finish(seed);
        let counts = world.counts;
        for (sum, count) in total.publishes.iter_mut().zip(counts.publishes) {
            *sum += count;
        }
        total.subscribes += counts.subscribes;
        total.unsubscribes += counts.unsubscribes;
        total.connects += counts.connects;
        total.losses += counts.losses;
        total.goodbyes += counts.goodbyes;
        total.takeovers += counts.takeovers;
        total.delayed_batches += counts.delayed_batches;
        total.crossings += counts.crossings;
        total.wills += counts.wills;
        total.delivered += counts.delivered;
    }
    println!("{total:?}");
    let Counts { publishes: [q0, q1, q2], subscribes, unsubscribes, connects, losses, goodbyes, .. } = total;
    let Counts { takeovers, delayed_batches, crossings, wills, delivered, .. } = total;
    let all = [q0, q1, q2, subscribes, unsubscribes, connects, losses, goodbyes, takeovers, delayed_batches];
    assert!(
        all.into_iter().chain([crossings, wills, delivered]).all(|count| count > 0),
        "every kind happened"
    );
}
