//! A list of operations on a client's connection, with whatever a server may send in between.
#![no_main]

use std::time::Duration;

use bytes::BytesMut;
use clock::Instant;
use libfuzzer_sys::arbitrary::{Arbitrary, Error, Unstructured};
use libfuzzer_sys::fuzz_target;
use mqtt_proto::client::ClientConnection;
use mqtt_wire::{
    Connect, Publish, QoS, SubscribeFilter, SubscriptionOptions, Text, TopicFilter, TopicName, Version,
};

#[derive(Debug)]
enum Operation<'a> {
    Publish(QoS),
    Subscribe,
    Receive(&'a [u8]),
    Wait(u16),
}

impl<'a> Arbitrary<'a> for Operation<'a> {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self, Error> {
        Ok(match input.int_in_range(0..=7)? {
            qos @ 0..=2 => Self::Publish(QoS::try_from(qos).expect("0 to 2")),
            3 => Self::Subscribe,
            4 => Self::Wait(u16::arbitrary(input)?),
            _ => Self::Receive(<&[u8]>::arbitrary(input)?),
        })
    }
}

fuzz_target!(|input: (u8, Vec<Operation<'_>>)| {
    let (version, operations) = input;
    let version = [Version::V3_1, Version::V3_1_1, Version::V5][usize::from(version % 3)];
    let mut now = Instant::ORIGIN;
    let connect = Connect::new(version, Text::new("fuzz").expect("a text"));
    let mut client = ClientConnection::new(now, &connect, 1 << 16, Duration::from_secs(10))
        .expect("a CONNECT can be written");
    let mut bytes =
        BytesMut::from(if version == Version::V5 { &b"\x20\x03\0\0\0"[..] } else { &b"\x20\x02\0\0"[..] });
    client.handle_bytes(now, &mut bytes).expect("a CONNACK");
    for operation in operations {
        let is_alive = match operation {
            Operation::Publish(qos) => {
                let topic = TopicName::new("a/b").expect("a topic");
                // Without room it is refused, and the connection goes on.
                let _ = client.publish(now, Publish::new(topic, qos, "payload"));
                true
            }
            Operation::Subscribe => {
                let filter = TopicFilter::new("a/#").expect("a filter");
                let filters = vec![SubscribeFilter { filter, options: SubscriptionOptions::default() }];
                client.subscribe(now, filters).is_ok()
            }
            Operation::Receive(data) => {
                bytes.extend_from_slice(data);
                client.handle_bytes(now, &mut bytes).is_ok()
            }
            Operation::Wait(ms) => {
                now += Duration::from_millis(ms.into());
                client.handle_timeout(now).is_ok()
            }
        };
        while client.poll_transmit().is_some() {}
        while client.poll_event().is_some() {}
        if !is_alive {
            return;
        }
    }
});
