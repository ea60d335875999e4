//! What the gateway publishes of itself, its devices and its groups, and what it takes back.

use std::collections::BTreeSet;
use std::time::Duration;

use clock::Instant;
use mesh_wire::address::{Address, UnicastAddress};
use serde_json::{Map, Value, json};

use super::{Bridge, Inbox, Publication};
use crate::devices::{Device, Endpoint};
use crate::discovery::{self, Announced};
use crate::exposes;

/// How long news of the network are collected before they are published together.
const COLLECT: Duration = Duration::from_secs(1);

/// What is published again soon, because something in it has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Notice {
    Info,
    Devices,
    Health,
}

impl Bridge {
    /// Publishes all that is retained: a broker is there, and may have forgotten, or remember too much.
    pub(crate) fn handle_connected(&mut self, now: Instant) {
        self.is_connected = true;
        self.publish_retained(self.topics.bridge("state"), &json!({"state": "online"}));
        self.publish_info();
        self.publish_devices();
        self.publish_groups();
        self.publish_health(now);
        let nodes: Vec<UnicastAddress> = self.devices.iter().map(|device| device.address).collect();
        for node in nodes {
            self.announce_node(node);
        }
        let groups: Vec<Address> = self.groups.iter().map(|group| group.address).collect();
        for group in groups {
            self.announce_group(group);
        }
        self.sweep();
        let ghosts: Vec<String> =
            self.retained.iter().filter(|(_, is_ghost)| **is_ghost).map(|(topic, _)| topic.clone()).collect();
        for topic in ghosts {
            self.publish_nothing(topic);
        }
        for complaint in std::mem::take(&mut self.complaints) {
            self.log_error(&complaint);
        }
    }

    /// Takes note that the broker is gone. What is retained is published anew when it is back.
    pub(crate) fn handle_disconnected(&mut self) {
        self.is_connected = false;
        self.outbox.retain(|publication| !publication.retain);
    }

    /// Whether Home Assistant has just started, and wants to be told everything.
    pub(super) fn is_birth(&self, inbox: &Inbox<'_>) -> bool {
        self.birth_topic().as_deref() == Some(inbox.topic) && inbox.payload == b"online"
    }

    /// Publishes what Home Assistant makes its entities of, and their states after it.
    pub(super) fn publish_discovery(&mut self) {
        let nodes: Vec<UnicastAddress> = self.devices.iter().map(|device| device.address).collect();
        for node in nodes {
            self.announce_node(node);
        }
        let groups: Vec<Address> = self.groups.iter().map(|group| group.address).collect();
        for group in groups {
            self.announce_group(group);
        }
    }

    /// Publishes all that there is of a node: it was interviewed, renamed, or has another range.
    pub(super) fn announce_device(&mut self, element: UnicastAddress) {
        let Some(node) = self.devices.of_element(element).map(|device| device.address) else { return };
        self.publish_devices();
        self.announce_node(node);
        let Some(device) = self.devices.get(node) else { return };
        // What a group can do is what its members can.
        let groups: BTreeSet<Address> = (device.endpoints.iter())
            .flat_map(|endpoint| self.groups.of(endpoint.address).map(|group| group.address))
            .collect();
        if !groups.is_empty() {
            self.publish_groups();
        }
        for group in groups {
            self.announce_group(group);
        }
    }

    fn announce_node(&mut self, node: UnicastAddress) {
        let Some(device) = self.devices.get(node) else { return };
        let announced = self.entities_of_device(device);
        let elements: Vec<UnicastAddress> =
            device.endpoints.iter().map(|endpoint| endpoint.address).collect();
        for Announced { topic, config } in announced {
            self.publish_retained(topic, &config);
        }
        self.publish_availability(node);
        for element in elements {
            self.publish_endpoint_state(element);
        }
    }

    pub(super) fn announce_group(&mut self, address: Address) {
        let Some(group) = self.groups.get(address) else { return };
        let (topic, state) = (self.topics.state(&group.name), self.group_state(&group.name));
        if let Some(Announced { topic, config }) = self.entity_of_group(address) {
            self.publish_retained(topic, &config);
        }
        self.publish_retained(topic, &state);
    }

    fn entities_of_device(&self, device: &Device) -> Vec<Announced> {
        let Some(prefix) = &self.settings.discovery_prefix else { return Vec::new() };
        discovery::of_device(prefix, &self.topics, device)
    }

    fn entity_of_group(&self, address: Address) -> Option<Announced> {
        let prefix = self.settings.discovery_prefix.as_ref()?;
        let group = self.groups.get(address)?;
        let capabilities = self.groups.capabilities(group, &self.devices);
        let network = self.database.mesh_uuid.to_string();
        discovery::of_group(prefix, &self.topics, &network, group, &capabilities)
    }

    /// Takes back everything retained that no longer is anybody's.
    pub(super) fn sweep(&mut self) {
        let mut live: BTreeSet<String> =
            ["state", "info", "devices", "groups", "health"].map(|leaf| self.topics.bridge(leaf)).into();
        for device in self.devices.iter() {
            live.insert(self.topics.availability(&device.name));
            live.extend(device.endpoints.iter().map(|endpoint| self.topics.state(&endpoint.name)));
            live.extend(self.entities_of_device(device).into_iter().map(|announced| announced.topic));
        }
        for group in self.groups.iter() {
            live.insert(self.topics.state(&group.name));
            live.extend(self.entity_of_group(group.address).map(|announced| announced.topic));
        }
        let dead: Vec<String> = (self.retained.iter())
            .filter(|(topic, is_ghost)| !**is_ghost && !live.contains(*topic))
            .map(|(topic, _)| topic.clone())
            .collect();
        for topic in dead {
            self.retained.insert(topic.clone(), true);
            self.changes.insert(crate::record::retained(&topic), Some(vec![1]));
            self.publish_nothing(topic);
        }
    }

    /// The broker has taken an empty message on a topic, and so has forgotten what was retained there.
    pub(crate) fn handle_forgotten(&mut self, topic: &str) {
        if self.retained.get(topic) == Some(&true) {
            self.retained.remove(topic);
            self.changes.insert(crate::record::retained(topic), None);
        }
    }

    /// Publishes the state of the endpoint that an element is or belongs to, and of its groups.
    pub(super) fn publish_state(&mut self, element: UnicastAddress) {
        self.publish_endpoint_state(element);
        let Some(main) = self.devices.endpoint(element).map(|endpoint| endpoint.address) else { return };
        let groups: Vec<(String, Value)> = (self.groups.of(main))
            .map(|group| (self.topics.state(&group.name), self.group_state(&group.name)))
            .collect();
        for (topic, state) in groups {
            self.publish_when_new(topic, &state);
        }
    }

    fn publish_endpoint_state(&mut self, element: UnicastAddress) {
        let state = self.state_of(element);
        let Some(endpoint) = self.devices.endpoint(element) else { return };
        self.publish_retained(self.topics.state(&endpoint.name), &state);
    }

    pub(super) fn publish_availability(&mut self, node: UnicastAddress) {
        let Some(device) = self.devices.get(node) else { return };
        // A node that was never heard is not there, as far as anybody knows.
        let state = if device.online == Some(true) { "online" } else { "offline" };
        self.publish_retained(self.topics.availability(&device.name), &json!({"state": state}));
    }

    /// The state of an endpoint, as it is published.
    pub(super) fn state_json(&self, device: &Device, endpoint: &Endpoint) -> Value {
        let mut members: Map<String, Value> = endpoint.shadow.to_json(&endpoint.capabilities);
        members.insert("linkquality".to_owned(), json!(device.link_quality()));
        members.insert("last_seen".to_owned(), json!(device.last_seen.map(|at| self.unix_ms(at))));
        Value::Object(members)
    }

    fn unix_ms(&self, at: Instant) -> u64 {
        self.settings.origin_unix_ms + at.as_micros() / 1_000
    }

    pub(super) fn info_changed(&mut self, now: Instant) {
        self.notice(now, Notice::Info);
    }

    pub(super) fn devices_changed(&mut self, now: Instant) {
        self.notice(now, Notice::Devices);
    }

    fn notice(&mut self, now: Instant, notice: Notice) {
        if self.notices.get(&notice).is_none() {
            self.notices.set(notice, now + COLLECT);
        }
    }

    pub(super) fn publish_notices(&mut self, now: Instant) {
        while let Some(notice) = self.notices.pop_expired(now) {
            match notice {
                Notice::Info => self.publish_info(),
                Notice::Devices => self.publish_devices(),
                Notice::Health => self.publish_health(now),
            }
        }
    }

    fn publish_info(&mut self) {
        let farthest = (self.devices.farthest())
            .map(|(device, hops)| json!({"name": device.name, "address": device.address.to_string(), "hops": hops}));
        let airtime = self.settings.airtime;
        let info = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "network": {
                "name": self.database.mesh_name,
                "uuid": self.database.mesh_uuid.to_string(),
                "gateway_address": self.settings.own.to_string(),
            },
            "farthest": farthest,
            "config": {
                "base_topic": self.settings.base,
                "airtime": {"pdus_per_second": airtime.per_second, "burst": airtime.burst},
                "availability_periods": self.settings.availability_periods,
                "discovery_prefix": self.settings.discovery_prefix,
            },
        });
        self.publish_retained(self.topics.bridge("info"), &info);
    }

    fn publish_devices(&mut self) {
        let devices = Value::Array(self.devices.iter().map(exposes::device_to_json).collect());
        self.publish_retained(self.topics.bridge("devices"), &devices);
    }

    pub(super) fn publish_groups(&mut self) {
        let groups = self.groups.iter().map(|group| {
            let members = group.members.iter().filter_map(|&member| self.devices.endpoint(member));
            let members: Vec<&str> = members.map(|endpoint| endpoint.name.as_str()).collect();
            json!({"friendly_name": group.name, "address": group.hex(), "members": members})
        });
        let groups = Value::Array(groups.collect());
        self.publish_retained(self.topics.bridge("groups"), &groups);
    }

    pub(super) fn health(&self) -> Value {
        let statistics = self.statistics();
        let online = self.devices.iter().filter(|device| device.online == Some(true)).count();
        json!({
            "healthy": true,
            "devices": self.devices.iter().count(),
            "online": online,
            "commands": statistics.commands,
            "confirmed": statistics.confirmed,
            "failed": statistics.failed,
            "retries": statistics.retries,
            "pdus": statistics.pdus,
            "waiting": statistics.waiting,
        })
    }

    fn publish_health(&mut self, now: Instant) {
        self.notices.set(Notice::Health, now + super::HEALTH_PERIOD);
        let health = self.health();
        self.publish_retained(self.topics.bridge("health"), &health);
    }

    pub(super) fn publish_retained(&mut self, topic: String, payload: &Value) {
        if self.retained.insert(topic.clone(), false) != Some(false) {
            // Before it is on the broker, it has to be known that it may be.
            self.changes.insert(crate::record::retained(&topic), Some(vec![0]));
        }
        if self.is_connected {
            let payload = payload.to_string().into_bytes();
            self.outbox.push_back(Publication { topic, payload, retain: true, correlation_data: None });
        }
    }

    /// The same, unless the last message on the topic that is still waiting says it already.
    fn publish_when_new(&mut self, topic: String, payload: &Value) {
        let text = payload.to_string().into_bytes();
        if self.last_group_states.get(&topic) == Some(&text) && self.is_connected {
            return;
        }
        self.publish_retained(topic.clone(), payload);
        self.last_group_states.insert(topic, text);
    }

    /// Has the broker forget what is retained on a topic.
    fn publish_nothing(&mut self, topic: String) {
        self.last_group_states.remove(&topic);
        if self.is_connected {
            self.outbox.push_back(Publication {
                topic,
                payload: Vec::new(),
                retain: true,
                correlation_data: None,
            });
        }
    }
}
