//! Any bytes are packets or an error; what is a packet can be written and read again.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use mqtt_wire::{Decoder, Packet, Version};

fuzz_target!(|input: (u8, &[u8])| {
    let (version, bytes) = input;
    let new = |version| match version {
        Some(version) => Decoder::new(version, 1 << 16),
        None => Decoder::for_server(1 << 16),
    };
    let version =
        [Some(Version::V3_1), Some(Version::V3_1_1), Some(Version::V5), None][usize::from(version % 4)];
    let mut decoder = new(version);
    let mut rest = BytesMut::from(bytes);
    while let Ok(Some(packet)) = decoder.decode(&mut rest) {
        let is_connect = matches!(packet, Packet::Connect(_));
        let version = match &packet {
            Packet::Connect(connect) => connect.version,
            _ => decoder.version().expect("a packet after CONNECT has a version"),
        };
        let mut again = BytesMut::new();
        packet.encode(version, &mut again).expect("what was read can be written");
        let mut reader = if is_connect { new(None) } else { new(Some(version)) };
        assert_eq!(reader.decode(&mut again), Ok(Some(packet)));
        assert!(again.is_empty());
    }
});
