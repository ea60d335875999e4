//! How fast the mesh stack is, and how much memory a node takes: `cargo xtask bench mesh`. Prints the rows of a table.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement tells what it measured")]
#![allow(unsafe_code, reason = "an allocator that counts is one")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant as Clock};

use clock::Instant;
use mesh_crypto::{AppKey, DevKey, Mic, NetKey, NetworkKeys};
use mesh_proto::access::Element;
use mesh_proto::bearer::Received;
use mesh_proto::foundation::Product;
use mesh_proto::keys::{Keys, MessageKey};
use mesh_proto::network::Relay;
use mesh_proto::node::{Command, Node, NodeConfig, NodeOptions, Provisioned};
use mesh_proto::upper_transport::{Destination, Envelope, secure};
use mesh_wire::access::Opcode;
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::bearer::AdType;
use mesh_wire::foundation::{ConfigMessage, ModelRef};
use mesh_wire::lower_transport::{LowerTransportPdu, Segment, SegmentedKind};
use mesh_wire::network::{Header, NetworkPdu, Octets, TransportPdu};
use mesh_wire::{CompanyId, IvIndex, KeyIndex, ModelId, Seq, SeqAuth, Transmit, Ttl};

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

const IV_INDEX: IvIndex = IvIndex(1);
const NET_KEY: NetKey = NetKey::new([1; 16]);
const APP_KEY: AppKey = AppKey::new([3; 16]);
const DEV_KEY: DevKey = DevKey::new([2; 16]);
const COMPANY: CompanyId = CompanyId(0xffff);
const MODEL: ModelId = ModelId::Vendor(COMPANY, 1);
const OPCODE: Opcode = Opcode::Vendor(1, COMPANY);

/// Segments of the longest message: 380 octets and a TransMIC.
const SEGMENTS: u32 = 32;

fn node() -> Node {
    let transmit = Transmit::from_octet(0);
    let address = UnicastAddress::new(2).unwrap();
    let (net_key_index, index) = (KeyIndex::ZERO, KeyIndex::ZERO);
    let mut node = Node::new(
        Provisioned { net_key: NET_KEY, net_key_index, iv_index: IV_INDEX, address, dev_key: DEV_KEY },
        NodeConfig {
            product: Product { company: COMPANY, product: 1, version: 1 },
            elements: vec![Element::new(0).with_host(MODEL, &[OPCODE])],
            network_transmit: transmit,
            relay: Relay { enabled: true, retransmit: transmit },
            default_ttl: Ttl::MAX,
            seed: [0; 32],
            options: NodeOptions::default(),
        },
    );
    let model = ModelRef { element: address, model: MODEL };
    for request in [
        ConfigMessage::AppKeyAdd { net_key_index, index, key: APP_KEY },
        ConfigMessage::ModelAppBind { index, model },
    ] {
        node.handle_command(Instant::ORIGIN, Command::Configure(request)).unwrap();
    }
    node
}

fn pdu(src: u16, seq: u32, dst: u16, transport_pdu: &[u8]) -> NetworkPdu {
    NetworkPdu {
        ctl: false,
        ttl: Ttl::new(5).unwrap(),
        seq: Seq::new(seq).unwrap(),
        src: UnicastAddress::new(src).unwrap(),
        dst: Address::from(dst),
        transport_pdu: transport_pdu.into(),
    }
}

/// Runs `round` until it has run for a second, three times, and takes the fastest; each does `count` things.
fn per_second(count: u32, mut round: impl FnMut() -> Duration) -> f64 {
    let mut best = 0.0_f64;
    for _ in 0..3 {
        let (mut spent, mut done) = (Duration::ZERO, 0.0);
        while spent < Duration::from_secs(1) {
            spent += round();
            done += f64::from(count);
        }
        best = best.max(done / spent.as_secs_f64());
    }
    best
}

fn timed(work: impl FnOnce()) -> Duration {
    let begin = Clock::now();
    work();
    begin.elapsed()
}

fn row(what: &str, number: f64) {
    println!("| {what} | {number:.0} |");
}

/// Hands a node PDUs, and lets it do what is due.
fn hear(node: &mut Node, now: Instant, pdus: &[Octets]) -> usize {
    for data in pdus {
        node.handle_pdu(now, &Received { ad_type: AdType::MeshMessage, data, rssi: -60 });
        while node.poll_event().is_some() {}
    }
    std::iter::from_fn(|| node.poll_transmit()).count()
}

fn network(keys: &NetworkKeys) {
    let plain: Vec<NetworkPdu> = (0..4096).map(|seq| pdu(1, seq, 9, &[7; 16])).collect();
    let secured: Vec<Octets> = plain.iter().map(|pdu| pdu.secure(keys, IV_INDEX)).collect();
    let rate = per_second(4096, || {
        timed(|| plain.iter().for_each(|pdu| drop(black_box(pdu.secure(keys, IV_INDEX)))))
    });
    row("network PDUs of 29 octets encrypted a second", rate);
    let rate = per_second(4096, || {
        timed(|| {
            for octets in &secured {
                let header = Header::deobfuscate(octets, keys, IV_INDEX).unwrap();
                drop(black_box(header.decrypt(octets, keys, IV_INDEX)));
            }
        })
    });
    row("network PDUs of 29 octets decrypted a second", rate);
}

fn relay(keys: &NetworkKeys) {
    let secured: Vec<Octets> = (0..4096).map(|seq| pdu(1, seq, 9, &[7; 16]).secure(keys, IV_INDEX)).collect();
    let rate = per_second(4096, || {
        let mut relay = node();
        let mut relayed = 0;
        let spent = timed(|| relayed = hear(&mut relay, Instant::ORIGIN, &secured));
        assert!(relayed >= 4096, "all are relayed, beside a beacon");
        spent
    });
    row("PDUs relayed by one node a second", rate);
}

/// Messages of 380 octets, each in 32 segments, to the node's model.
fn segmented(keys: &NetworkKeys, messages: u32) -> Vec<Octets> {
    let mut node_keys = Keys::new(DEV_KEY, KeyIndex::ZERO, NET_KEY);
    node_keys.add_application(KeyIndex::ZERO, KeyIndex::ZERO, APP_KEY);
    let (src, dst) = (UnicastAddress::new(1).unwrap(), Address::from(2));
    let mut pdus = Vec::new();
    for message in 0..messages {
        let seq = Seq::new(message * SEGMENTS).unwrap();
        let seq_auth = SeqAuth { iv_index: IV_INDEX, seq };
        let envelope = Envelope { net_key_index: KeyIndex::ZERO, src, dst, seq_auth };
        let payload = OPCODE.with(&[7; 377]);
        let key = MessageKey::App(KeyIndex::ZERO);
        let to = Destination::Address(dst);
        let secured = secure(&node_keys, key, &to, &envelope, &payload, Mic::Bits32).unwrap();
        for (seg_o, octets) in (0..).zip(secured.upper.chunks(12)) {
            let kind = SegmentedKind::Access { key: secured.hint, szmic: false };
            let segment = Segment { kind, seq_zero: seq.zero(), seg_o, seg_n: 31, octets: octets.into() };
            let transport = LowerTransportPdu::Segment(segment).encode();
            pdus.push(pdu(1, message * SEGMENTS + u32::from(seg_o), 2, &transport).secure(keys, IV_INDEX));
        }
    }
    pdus
}

fn reassembly(keys: &NetworkKeys) {
    let pdus = segmented(keys, 128);
    let rate = per_second(128 * SEGMENTS, || {
        let mut receiver = node();
        let spent = timed(|| {
            hear(&mut receiver, Instant::ORIGIN, &pdus);
        });
        assert_eq!(receiver.discards().iter().count(), 0);
        spent
    });
    row("segments reassembled a second (network PDU opened, message of 380 octets delivered)", rate);
}

/// An unsegmented message to the node's model.
fn hello(keys: &Keys, source: u16, seq: u32) -> TransportPdu {
    let (src, seq) = (UnicastAddress::new(source).unwrap(), Seq::new(seq).unwrap());
    let seq_auth = SeqAuth { iv_index: IV_INDEX, seq };
    let envelope = Envelope { net_key_index: KeyIndex::ZERO, src, dst: Address::from(2), seq_auth };
    let (key, to) = (MessageKey::App(KeyIndex::ZERO), Destination::Address(envelope.dst));
    let secured = secure(keys, key, &to, &envelope, &OPCODE.with(&[7; 8]), Mic::Bits32).unwrap();
    LowerTransportPdu::UnsegmentedAccess(secured.hint, secured.upper.into()).encode()
}

fn memory(keys: &NetworkKeys) {
    let before = ALLOCATED.load(Ordering::Relaxed);
    let size = std::mem::size_of::<Node>();
    let mut node = Box::new(node());
    let new = ALLOCATED.load(Ordering::Relaxed) - before;
    // 256 sources fill the replay list, 512 PDUs the message cache.
    let mut node_keys = Keys::new(DEV_KEY, KeyIndex::ZERO, NET_KEY);
    node_keys.add_application(KeyIndex::ZERO, KeyIndex::ZERO, APP_KEY);
    let mut pdus: Vec<Octets> = Vec::with_capacity(2048);
    let prepared = ALLOCATED.load(Ordering::Relaxed) - before - new;
    for number in 0..2048_u16 {
        let (source, seq) = (0x100 + number % 256, u32::from(number));
        let transport = hello(&node_keys, source, seq);
        pdus.push(pdu(source, seq, 2, &transport).secure(keys, IV_INDEX));
    }
    hear(&mut node, Instant::ORIGIN, &pdus);
    let busy = ALLOCATED.load(Ordering::Relaxed) - before - prepared;
    assert_eq!(node.discards().iter().count(), 0);
    row("bytes of memory of a new node with one model, all in", new as f64);
    row("of which the node's own struct", size as f64);
    row("bytes once 256 sources have been heard (replay list and message cache full)", busy as f64);
}

fn main() {
    let keys = NetworkKeys::flooding(&NET_KEY);
    println!("| what | number |\n| --- | --- |");
    network(&keys);
    relay(&keys);
    reassembly(&keys);
    memory(&keys);
}
