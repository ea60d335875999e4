//! The answer to CONNECT (§3.2).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mqtt_wire::{ConnAck, Connect, Packet, Properties, QoS, ReasonCode, Text, Version};

use crate::Settings;

/// What a CONNACK that accepts says beside the limits.
pub(super) struct Accepted {
    pub(super) session_present: bool,
    pub(super) granted_expiry: Duration,
    pub(super) is_assigned: bool,
    /// The server's proof, where the client authenticated with a method.
    pub(super) proof: Option<Bytes>,
}

/// The CONNACK that accepts. It says what this server does not have (§3.2.2.3), and nothing that the client
/// takes for granted anyway.
pub(super) fn accept(connect: &Connect, accepted: &Accepted, settings: &Settings) -> ConnAck {
    let limits = &settings.limits;
    let asked = connect.properties.session_expiry_interval.unwrap_or(0);
    let granted = u32::try_from(accepted.granted_expiry.as_secs()).unwrap_or(u32::MAX);
    let wants_information = connect.properties.request_response_information == Some(true);
    let no = |is_available: bool| (!is_available).then_some(false);
    let properties = Properties {
        session_expiry_interval: (granted != asked).then_some(granted),
        assigned_client_identifier: accepted.is_assigned.then(|| connect.client_id.clone()),
        receive_maximum: Some(limits.max_awaiting_rel),
        maximum_packet_size: Some(limits.max_packet_size),
        topic_alias_maximum: (limits.max_topic_alias > 0).then_some(limits.max_topic_alias),
        maximum_qos: match limits.max_qos_allowed {
            QoS::ExactlyOnce => None,
            QoS::AtLeastOnce => Some(true),
            QoS::AtMostOnce => Some(false),
        },
        retain_available: no(limits.retain_available),
        wildcard_subscription_available: no(limits.wildcard_subscription),
        shared_subscription_available: no(limits.shared_subscription),
        server_keep_alive: limits.server_keepalive.filter(|&seconds| seconds != connect.keep_alive),
        // [MQTT-4.12.0-5], [MQTT-4.12.0-6]
        authentication_method: (accepted.proof.as_ref())
            .and_then(|_| connect.properties.authentication_method.clone()),
        authentication_data: accepted.proof.clone(),
        response_information: settings.response_information.clone().filter(|_| wants_information),
        ..Properties::default()
    };
    ConnAck { session_present: accepted.session_present, reason_code: ReasonCode::Success, properties }
}

/// The CONNACK that refuses, as bytes.
pub(super) fn refuse(connect: &Connect, code: ReasonCode, why: &str, server: Option<&Text>) -> BytesMut {
    let explained = Properties {
        reason_string: Text::new(why).ok(),
        server_reference: server.cloned(),
        ..Properties::default()
    };
    let most = connect.properties.maximum_packet_size.and_then(|size| usize::try_from(size).ok());
    let plain = encode(connect.version, code, Properties::default());
    let explained = encode(connect.version, code, explained);
    if most.is_some_and(|most| explained.len() > most) { plain } else { explained }
}

fn encode(version: Version, reason_code: ReasonCode, properties: Properties) -> BytesMut {
    let mut out = BytesMut::new();
    // A CONNACK of a few bytes can always be written.
    let _ =
        Packet::from(ConnAck { session_present: false, reason_code, properties }).encode(version, &mut out);
    out
}
