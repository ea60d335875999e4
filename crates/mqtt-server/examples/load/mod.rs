//! Clients of MQTT 3.1.1 that cost little beside the server that is measured.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use mqtt_wire::{
    Ack, Connect, Decoder, Packet, PacketId, Publish, QoS, Subscribe, SubscribeFilter, SubscriptionOptions,
    Text, TopicFilter, TopicName, Version,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub(crate) const PAYLOAD: usize = 200;

pub(crate) fn packet(packet: &Packet) -> BytesMut {
    let mut bytes = BytesMut::new();
    packet.encode(Version::V3_1_1, &mut bytes).unwrap();
    bytes
}

pub(crate) fn open(address: SocketAddr, id: &str, is_clean: bool) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut connect = Connect::new(Version::V3_1_1, Text::new(id).unwrap());
    (connect.clean_start, connect.keep_alive) = (is_clean, 0);
    stream.write_all(&packet(&connect.into())).unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    stream
}

/// Makes a session that subscribes with QoS 1, and leaves it.
pub(crate) fn subscribe(address: SocketAddr, id: &str, filter: &str) {
    let mut stream = open(address, id, false);
    let options = SubscriptionOptions::at_most(QoS::AtLeastOnce);
    let filters = vec![SubscribeFilter { filter: TopicFilter::new(filter).unwrap(), options }];
    let subscribe = Subscribe { packet_id: PacketId::ONE, properties: Default::default(), filters };
    stream.write_all(&packet(&subscribe.into())).unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    // DISCONNECT, which has no more to say before MQTT 5.0.
    stream.write_all(&[0xe0, 0]).unwrap();
}

/// Waits until something can be read, or until it is time; whether something can be read.
fn is_readable(stream: &TcpStream, until: Instant) -> bool {
    // In whole milliseconds, rounded up: what is due by then is sent together.
    let ms = until.saturating_duration_since(Instant::now()).as_micros().div_ceil(1_000);
    let mut sockets = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    poll(&mut sockets, PollTimeout::try_from(ms).unwrap()).unwrap() > 0
}

/// Publishes with QoS 1, each message when it is due, so many messages on their way at most; how long each took until it was acknowledged.
pub(crate) fn publish(
    address: SocketAddr,
    id: &str,
    window: usize,
    messages: impl Iterator<Item = Outgoing>,
) -> Vec<Duration> {
    let mut messages = messages.peekable();
    let mut stream = open(address, id, true);
    let (mut sent, mut latencies) = (std::collections::VecDeque::new(), Vec::new());
    let (mut next, mut rest, mut acks) = (0_u16, 0, [0; 64 * 1024]);
    loop {
        let mut bytes = BytesMut::new();
        while sent.len() < window {
            let begin = Instant::now();
            let is_due = |message: &Outgoing| message.due.is_none_or(|due| due <= begin);
            let Some(Outgoing { topic, retain, due }) = messages.next_if(is_due) else { break };
            next = next % 60_000 + 1;
            let topic = TopicName::new(&topic).unwrap();
            let mut message = Publish::new(topic, QoS::AtLeastOnce, vec![7_u8; PAYLOAD]);
            (message.packet_id, message.retain) = (PacketId::new(next), retain);
            message.encode(Version::V3_1_1, &mut bytes).unwrap();
            // What was late to be sent was late for its receiver, too.
            sent.push_back(due.unwrap_or(begin));
        }
        stream.write_all(&bytes).unwrap();
        // Without room in the window, only an acknowledgment helps.
        let upcoming = messages.peek().filter(|_| sent.len() < window);
        match upcoming.and_then(|message| message.due) {
            Some(due) if !is_readable(&stream, due) => continue,
            None if sent.is_empty() => return latencies,
            _ => {}
        }
        rest += stream.read(&mut acks).unwrap();
        // A PUBACK has four bytes.
        for _ in 0..rest / 4 {
            latencies.extend(sent.pop_front().map(|at| at.elapsed()));
        }
        rest %= 4;
    }
}

/// A message to publish, at once or when it is due.
pub(crate) struct Outgoing {
    pub(crate) topic: String,
    pub(crate) retain: bool,
    pub(crate) due: Option<Instant>,
}

/// Takes so many messages that wait for a session, and acknowledges them.
pub(crate) fn drain(address: SocketAddr, id: &str, count: usize) -> Duration {
    let start = Instant::now();
    let mut stream = open(address, id, false);
    let (mut decoder, mut input, mut got) = (Decoder::new(Version::V3_1_1, 1 << 20), BytesMut::new(), 0);
    let mut chunk = vec![0; 64 * 1024];
    while got < count {
        let length = stream.read(&mut chunk).unwrap();
        input.extend_from_slice(&chunk[..length]);
        let mut answers = BytesMut::new();
        while let Some(packet) = decoder.decode(&mut input).unwrap() {
            if let Packet::Publish(publish) = packet {
                got += 1;
                let ack = Packet::PubAck(Ack::new(publish.packet_id.unwrap()));
                ack.encode(Version::V3_1_1, &mut answers).unwrap();
            }
        }
        stream.write_all(&answers).unwrap();
    }
    start.elapsed()
}
