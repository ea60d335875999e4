//! Bluetooth Mesh on MQTT topics, without I/O.
