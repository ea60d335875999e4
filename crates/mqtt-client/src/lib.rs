//! Async MQTT client library.
