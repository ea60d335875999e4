//! What `pub` and `sub` have in common: how they connect. The flags are MQTTX CLI's.

use std::num::NonZeroU16;

use mqtt_client::Options;
use mqtt_wire::{QoS, Version};

/// How to reach the broker
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Connection {
    /// The broker
    #[arg(short = 'h', long, default_value = "localhost")]
    hostname: String,
    /// Its port
    #[arg(short, long, default_value = "1883")]
    port: NonZeroU16,
    /// The version of MQTT: 3.1, 3.1.1 or 5
    #[arg(short = 'V', long, default_value = "5", value_parser = version)]
    mqtt_version: Version,
    /// The Client Identifier [default: made up]
    #[arg(short = 'i', long)]
    client_id: Option<String>,
    /// User name
    #[arg(short, long)]
    username: Option<String>,
    /// Password
    #[arg(short = 'P', long)]
    password: Option<String>,
    /// Seconds between signs of life
    #[arg(short, long, default_value = "30")]
    keepalive: u16,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

impl Connection {
    /// The broker's address.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.hostname, self.port)
    }

    pub(crate) fn options(&self) -> anyhow::Result<Options> {
        let made_up = || getrandom::u64().map(|random| format!("trellis-{random:016x}"));
        let client_id = self.client_id.clone().map_or_else(made_up, Ok)?;
        Ok(Options {
            version: self.mqtt_version,
            keep_alive: self.keepalive,
            username: self.username.clone(),
            password: self.password.clone().map(String::into_bytes),
            ..Options::new(&client_id)
        })
    }
}

pub(crate) fn version(text: &str) -> Result<Version, String> {
    match text {
        "3.1" => Ok(Version::V3_1),
        "3.1.1" => Ok(Version::V3_1_1),
        "5" | "5.0" => Ok(Version::V5),
        _ => Err("it can be 3.1, 3.1.1 or 5".to_owned()),
    }
}

/// A QoS as a flag has it.
pub(crate) fn qos(text: &str) -> Result<QoS, String> {
    text.parse::<u8>()
        .ok()
        .and_then(|qos| QoS::try_from(qos).ok())
        .ok_or_else(|| "it can be 0, 1 or 2".to_owned())
}
