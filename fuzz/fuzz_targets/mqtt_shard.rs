//! Whatever clients send, the shard goes on: an honest client that comes afterwards is served.
#![no_main]

use bytes::BytesMut;
use clock::Instant;
use libfuzzer_sys::fuzz_target;
use mqtt_broker::{Limits, Shard, Shared};
use mqtt_wire::{
    Connect, Decoder, Packet, Publish, QoS, SubscribeFilter, SubscriptionOptions, Text, TopicFilter,
    TopicName, Version,
};

fuzz_target!(|input: Vec<(u8, &[u8])>| {
    let now = Instant::ORIGIN;
    let mut shard = Shard::new(0, Shared::new(1, Limits::default()));
    let versions = [Version::V3_1, Version::V3_1_1, Version::V5];
    let open = |shard: &mut Shard, name: &str, version| {
        let mut connect = Connect::new(version, Text::new(name).expect("a text"));
        connect.clean_start = false;
        let id =
            shard.handle_connect(now, connect, Decoder::new(version, 1 << 16)).expect("an honest CONNECT");
        while shard.poll_transmit().is_some() {}
        id
    };
    let mut connections: Vec<_> =
        (0..3).map(|i| (open(&mut shard, &format!("c{i}"), versions[i]), BytesMut::new())).collect();
    for (index, data) in input {
        let index = usize::from(index) % connections.len();
        let (id, rest) = &mut connections[index];
        rest.extend_from_slice(data);
        shard.handle_bytes(now, *id, rest);
        while let Some((id, output)) = shard.poll_transmit() {
            if output.close {
                shard.handle_closed(now, id);
                if let Some(gone) = connections.iter().position(|(other, _)| *other == id) {
                    connections[gone] =
                        (open(&mut shard, &format!("c{gone}"), versions[gone]), BytesMut::new());
                }
            }
        }
    }
    let honest = open(&mut shard, "honest", Version::V5);
    let mut bytes = BytesMut::new();
    let packet_id = mqtt_wire::PacketId::ONE;
    let filters = vec![SubscribeFilter {
        filter: TopicFilter::new("honest/topic").expect("a filter"),
        options: SubscriptionOptions::at_most(QoS::AtMostOnce),
    }];
    let subscribe = mqtt_wire::Subscribe { packet_id, properties: Default::default(), filters };
    Packet::from(subscribe).encode(Version::V5, &mut bytes).expect("a SUBSCRIBE");
    let publish =
        Publish::new(TopicName::new("honest/topic").expect("a topic"), QoS::AtMostOnce, "still here");
    Packet::from(publish).encode(Version::V5, &mut bytes).expect("a PUBLISH");
    shard.handle_bytes(now, honest, &mut bytes);
    let mut output = BytesMut::new();
    while let Some((id, part)) = shard.poll_transmit() {
        if id == honest {
            output.extend_from_slice(&part.bytes);
        }
    }
    let mut decoder = Decoder::new(Version::V5, 1 << 20);
    let packets: Vec<Packet> =
        std::iter::from_fn(|| decoder.decode(&mut output).expect("what we send is MQTT")).collect();
    assert!(
        packets
            .iter()
            .any(|x| matches!(x, Packet::Publish(publish) if &publish.payload[..] == b"still here"))
    );
});
