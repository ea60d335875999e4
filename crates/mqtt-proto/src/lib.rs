//! One MQTT connection and its session, both roles, without I/O.
