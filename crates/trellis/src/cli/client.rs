//! What `conn`, `pub` and `sub` have in common: how they connect. The flags are MQTTX CLI's.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use mqtt_client::{Broker, Client, Messages, Options, Reconnect, Scheme, Tls};
use mqtt_wire::{Properties, QoS, Text, TopicName, Version, Will};

/// Flags of MQTTX that have one hyphen and several letters, and the long ones that they stand for.
const SHORT: [(&str, &str); 23] = [
    ("-wh", "--ws-headers"),
    ("-rp", "--reconnect-period"),
    ("-se", "--session-expiry-interval"),
    ("-up", "--user-properties"),
    ("-Cup", "--conn-user-properties"),
    ("-Wt", "--will-topic"),
    ("-Wm", "--will-message"),
    ("-Wq", "--will-qos"),
    ("-Wr", "--will-retain"),
    ("-Wd", "--will-delay-interval"),
    ("-Wpf", "--will-payload-format-indicator"),
    ("-We", "--will-message-expiry-interval"),
    ("-Wct", "--will-content-type"),
    ("-Wrt", "--will-response-topic"),
    ("-Wcd", "--will-correlation-data"),
    ("-Wup", "--will-user-properties"),
    ("-pf", "--payload-format-indicator"),
    ("-rt", "--response-topic"),
    ("-cd", "--correlation-data"),
    ("-si", "--subscription-identifier"),
    ("-ct", "--content-type"),
    ("-nl", "--no_local"),
    ("-rap", "--retain-as-published"),
];

/// Puts the long flags in the place of MQTTX's short ones, which no common parser takes.
pub(crate) fn with_long_flags(
    arguments: impl Iterator<Item = std::ffi::OsString>,
) -> Vec<std::ffi::OsString> {
    let mut arguments: Vec<_> = arguments.collect();
    if arguments.get(1).is_some_and(|command| ["conn", "pub", "sub"].iter().any(|name| command == name)) {
        for argument in arguments.iter_mut().skip(2) {
            let long = SHORT.iter().find(|(short, _)| argument == short);
            if let Some((_, long)) = long {
                *argument = long.into();
            }
            if argument == "-rh" {
                *argument = "--retain-handling".into();
            }
        }
    }
    arguments
}

/// How to reach the broker
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Connection {
    /// The broker
    #[arg(short = 'h', long, default_value = "localhost")]
    hostname: String,
    /// Its port [default: 1883; mqtts 8883, ws 8083, wss 8084]
    #[arg(short, long)]
    port: Option<u16>,
    /// What carries MQTT: mqtt, mqtts, ws or wss
    #[arg(short = 'l', long, default_value = "mqtt")]
    protocol: Scheme,
    /// The path of a WebSocket
    #[arg(long, default_value = "/mqtt")]
    path: String,
    /// Headers of a WebSocket's request, as `name: value` (-wh)
    #[arg(long, num_args = 1.., value_parser = key_value)]
    ws_headers: Vec<(String, String)>,
    /// The authorities to trust, a PEM file [default: the system's]
    #[arg(long)]
    ca: Option<PathBuf>,
    /// The client's certificate, a PEM file
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    /// The certificate's key, a PEM file
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
    /// Do not verify the broker's certificate
    #[arg(long)]
    insecure: bool,
    /// Protocols to offer in TLS
    #[arg(long, num_args = 1..)]
    alpn: Vec<String>,
    /// The version of MQTT: 3.1, 3.1.1 or 5
    #[arg(short = 'V', long, default_value = "5", value_parser = version)]
    mqtt_version: Version,
    /// The Client Identifier [default: made up]
    #[arg(short = 'i', long)]
    client_id: Option<String>,
    /// Go on with the session of an earlier connection
    #[arg(long)]
    no_clean: bool,
    /// Seconds between signs of life
    #[arg(short, long, default_value = "30")]
    keepalive: u16,
    /// User name
    #[arg(short, long)]
    username: Option<String>,
    /// Password
    #[arg(short = 'P', long)]
    password: Option<String>,
    /// Prove the password instead of sending it: SCRAM-SHA-256 (MQTT 5.0)
    #[arg(long, value_parser = ["SCRAM-SHA-256"], requires = "username")]
    auth_method: Option<String>,
    /// Milliseconds before a lost connection is made again; 0: it is not (-rp)
    #[arg(long, default_value = "1000")]
    reconnect_period: u64,
    /// How often it is tried
    #[arg(long, default_value = "10")]
    maximum_reconnect_times: u32,
    #[command(flatten)]
    properties: ConnectProperties,
    #[command(flatten)]
    will: WillFlags,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// Properties of CONNECT (MQTT 5.0)
#[derive(Clone, Debug, clap::Args)]
struct ConnectProperties {
    /// Seconds that the session outlives its connection (-se)
    #[arg(long)]
    session_expiry_interval: Option<u32>,
    /// Unacknowledged messages that the broker may send
    #[arg(long, visible_alias = "rcv-max")]
    receive_maximum: Option<u16>,
    /// The largest packet that is accepted, in bytes
    #[arg(long)]
    maximum_packet_size: Option<u32>,
    /// Ask for Response Information
    #[arg(long)]
    req_response_info: bool,
    /// Ask for no Reason Strings
    #[arg(long)]
    no_req_problem_info: bool,
    /// User Properties of CONNECT, as `name: value` (-Cup)
    #[arg(long, num_args = 1.., value_parser = key_value)]
    conn_user_properties: Vec<(String, String)>,
}

/// What the broker publishes when the connection is lost
#[derive(Clone, Debug, clap::Args)]
struct WillFlags {
    /// The will's topic (-Wt)
    #[arg(long)]
    will_topic: Option<String>,
    /// The will's payload (-Wm)
    #[arg(long, default_value = "", requires = "will_topic", hide_default_value = true)]
    will_message: String,
    /// The will's Quality of Service (-Wq)
    #[arg(long, default_value = "0", value_parser = qos)]
    will_qos: QoS,
    /// Have the broker retain the will (-Wr)
    #[arg(long)]
    will_retain: bool,
    /// Seconds before it is published (-Wd)
    #[arg(long)]
    will_delay_interval: Option<u32>,
    /// Say that it is UTF-8 (-Wpf)
    #[arg(long)]
    will_payload_format_indicator: bool,
    /// Seconds that it is of use (-We)
    #[arg(long)]
    will_message_expiry_interval: Option<u32>,
    /// What kind of content it is (-Wct)
    #[arg(long)]
    will_content_type: Option<String>,
    /// Where an answer to it is wanted (-Wrt)
    #[arg(long)]
    will_response_topic: Option<String>,
    /// What the answer has to carry (-Wcd)
    #[arg(long)]
    will_correlation_data: Option<String>,
    /// Its User Properties, as `name: value` (-Wup)
    #[arg(long, num_args = 1.., value_parser = key_value)]
    will_user_properties: Vec<(String, String)>,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(&self) -> anyhow::Result<(Client, Messages)> {
        Ok(Client::open(self.broker(), self.options()?).await?)
    }

    /// Where the broker is.
    pub(crate) fn broker(&self) -> Broker {
        let certificate = self.cert.clone().zip(self.key.clone());
        let tls = Tls { ca: self.ca.clone(), certificate, insecure: self.insecure, alpn: self.alpn.clone() };
        Broker {
            port: self.port.unwrap_or(self.protocol.usual_port()),
            path: self.path.clone(),
            headers: self.ws_headers.clone(),
            tls,
            ..Broker::new(self.protocol, &self.hostname)
        }
    }

    fn options(&self) -> anyhow::Result<Options> {
        let made_up = || getrandom::u64().map(|random| format!("trellis-{random:016x}"));
        let client_id = self.client_id.clone().map_or_else(made_up, Ok)?;
        let asked = &self.properties;
        let properties = Properties {
            receive_maximum: asked.receive_maximum,
            request_response_information: asked.req_response_info.then_some(true),
            request_problem_information: asked.no_req_problem_info.then_some(false),
            user_properties: user_properties(&asked.conn_user_properties)?,
            ..Properties::default()
        };
        let period = Duration::from_millis(self.reconnect_period);
        let reconnect = Reconnect {
            first_pause: period,
            longest_pause: period.max(Duration::from_secs(30)),
            attempts: Some(self.maximum_reconnect_times),
        };
        let options = Options::new(&client_id);
        Ok(Options {
            version: self.mqtt_version,
            clean_start: !self.no_clean,
            session_expiry_interval: asked.session_expiry_interval,
            keep_alive: self.keepalive,
            username: self.username.clone(),
            password: self.password.clone().map(String::into_bytes),
            scram: self.auth_method.is_some(),
            will: self.will.will()?,
            max_packet_size: asked.maximum_packet_size.unwrap_or(options.max_packet_size),
            properties,
            reconnect: (!period.is_zero()).then_some(reconnect),
            ..options
        })
    }
}

impl WillFlags {
    fn will(&self) -> anyhow::Result<Option<Will>> {
        let Some(topic) = &self.will_topic else { return Ok(None) };
        let properties = Properties {
            will_delay_interval: self.will_delay_interval,
            payload_format_indicator: self.will_payload_format_indicator.then_some(true),
            message_expiry_interval: self.will_message_expiry_interval,
            content_type: self.will_content_type.as_deref().map(Text::new).transpose()?,
            response_topic: self.will_response_topic.as_deref().map(Text::new).transpose()?,
            correlation_data: self.will_correlation_data.clone().map(Bytes::from),
            user_properties: user_properties(&self.will_user_properties)?,
            ..Properties::default()
        };
        Ok(Some(Will {
            topic: TopicName::new(topic).with_context(|| format!("{topic:?} is no topic"))?,
            payload: self.will_message.clone().into(),
            qos: self.will_qos,
            retain: self.will_retain,
            properties,
        }))
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

/// `name: value` as a flag has it.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| "it has the form `name: value`".to_owned())?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// User Properties of flags.
pub(crate) fn user_properties(pairs: &[(String, String)]) -> anyhow::Result<Vec<(Text, Text)>> {
    pairs.iter().map(|(name, value)| Ok((Text::new(name)?, Text::new(value)?))).collect()
}
