//! Trellis: an MQTT platform and a Bluetooth Mesh gateway in one binary.

fn main() {}
