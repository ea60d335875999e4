//! The `[[mesh]]` sections of the configuration file: a mesh network, and how the gateway serves it.

use std::time::Duration;

use gateway::{Airtime, GatewayConfig, MqttDevice, MqttDeviceKind};
use serde::{Deserialize, Deserializer, de};

use crate::demo::Plan;

/// A mesh network. What a file leaves out has the default given here.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MeshConfig {
    /// What it is reached through; `trellis serve` needs it.
    pub(crate) radio: Option<RadioConfig>,
    /// The first levels of the gateway's topics.
    pub(crate) base_topic: String,
    /// After how many missed status periods a node is offline.
    pub(crate) availability_periods: u32,
    pub(crate) airtime: AirtimeConfig,
    /// The first level of Home Assistant's discovery topics; empty: nothing is published for it.
    pub(crate) discovery_prefix: String,
    /// Whether whoever may publish on `bridge/request/…` may have the network's keys.
    pub(crate) export_keys: bool,
    /// Things that speak MQTT, as elements of the gateway's node.
    pub(crate) devices: Vec<DeviceConfig>,
}

/// What a mesh is reached through.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum RadioConfig {
    /// A building on a simulated radio, as in the demo.
    Simulated {
        /// An office of so many nodes instead of the home.
        nodes: Option<u16>,
        /// How often each node publishes its state; zero: only when it changes.
        #[serde(default = "RadioConfig::default_status_period", deserialize_with = "duration")]
        status_period: Duration,
    },
}

/// How much the gateway may send.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AirtimeConfig {
    /// Network PDUs a second, for as long as one likes.
    pub(crate) pdus_per_second: f64,
    /// Network PDUs at once, after a silence.
    pub(crate) burst: f64,
}

/// A thing with a pair of topics.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceConfig {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: DeviceKind,
    /// Where it takes its orders.
    pub(crate) command_topic: String,
    /// Where it says what it is.
    pub(crate) state_topic: Option<String>,
    /// Names of the groups that it listens to.
    #[serde(default)]
    pub(crate) groups: Vec<String>,
    /// For a level: the number of the highest.
    #[serde(default = "DeviceConfig::default_max")]
    pub(crate) max: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DeviceKind {
    /// `ON` and `OFF`.
    OnOff,
    /// A whole number from 0 to `max`.
    Level,
}

impl RadioConfig {
    const fn default_status_period() -> Duration {
        Duration::from_secs(30)
    }

    /// The building behind it.
    pub(crate) fn plan(&self) -> Plan {
        let Self::Simulated { nodes, status_period } = *self;
        Plan { nodes: nodes.map(usize::from), status_period }
    }

    fn check(&self) -> Result<(), String> {
        let Self::Simulated { nodes, .. } = self;
        match nodes {
            Some(nodes) if !(1..=2000).contains(nodes) => Err("radio: nodes goes from 1 to 2000".to_owned()),
            _ => Ok(()),
        }
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|error| de::Error::custom(format!("{text:?} is no duration, such as \"30s\": {error}")))
}

impl DeviceConfig {
    const fn default_max() -> u16 {
        254
    }

    fn to_device(&self) -> MqttDevice {
        MqttDevice {
            name: self.name.clone(),
            kind: match self.kind {
                DeviceKind::OnOff => MqttDeviceKind::OnOff,
                DeviceKind::Level => MqttDeviceKind::Level { max: self.max },
            },
            command_topic: self.command_topic.clone(),
            state_topic: self.state_topic.clone(),
            groups: self.groups.clone(),
        }
    }
}

impl Default for AirtimeConfig {
    fn default() -> Self {
        let Airtime { per_second, burst } = Airtime::default();
        Self { pdus_per_second: per_second, burst }
    }
}

impl Default for MeshConfig {
    fn default() -> Self {
        let GatewayConfig { base_topic, availability_periods, discovery_prefix, export_keys, .. } =
            GatewayConfig::new([0; 32]);
        Self {
            radio: None,
            base_topic,
            availability_periods,
            airtime: AirtimeConfig::default(),
            discovery_prefix: discovery_prefix.unwrap_or_default(),
            export_keys,
            devices: Vec::new(),
        }
    }
}

impl MeshConfig {
    /// Checks what no type can.
    ///
    /// # Errors
    /// Which setting is wrong, and what it can be.
    pub(crate) fn check(&self) -> Result<(), String> {
        let topic = |what: &str, topic: &str| {
            mqtt_wire::TopicName::new(topic).map(|_| ()).map_err(|error| format!("{what} {topic:?}: {error}"))
        };
        self.radio.as_ref().map_or(Ok(()), RadioConfig::check)?;
        topic("base_topic", &self.base_topic)?;
        if !self.discovery_prefix.is_empty() {
            topic("discovery_prefix", &self.discovery_prefix)?;
        }
        if self.availability_periods == 0 {
            return Err("availability_periods is 0; it is at least 1".to_owned());
        }
        let AirtimeConfig { pdus_per_second, burst } = self.airtime;
        if !(0.1..=100.0).contains(&pdus_per_second) || !(1.0..=1_000.0).contains(&burst) {
            return Err("airtime: pdus_per_second goes from 0.1 to 100, burst from 1 to 1000".to_owned());
        }
        for device in &self.devices {
            topic("command_topic", &device.command_topic)?;
            device.state_topic.as_deref().map_or(Ok(()), |state| topic("state_topic", state))?;
            let is_own =
                |topic: &str| topic.strip_prefix(&self.base_topic).is_some_and(|x| x.starts_with('/'));
            if is_own(&device.command_topic) || device.state_topic.as_deref().is_some_and(is_own) {
                return Err(format!(
                    "the topics of {:?} lie below {}, where the gateway's are",
                    device.name, self.base_topic
                ));
            }
            if device.state_topic.as_ref() == Some(&device.command_topic) {
                return Err(format!("{:?} has one topic for orders and states; it needs two", device.name));
            }
            if device.max == 0 {
                return Err(format!("max of {:?} is 0; it is at least 1", device.name));
            }
        }
        Ok(())
    }

    /// The gateway's configuration for a start with this seed at this time.
    pub(crate) fn to_gateway(&self, seed: [u8; 32], origin_unix_ms: u64) -> GatewayConfig {
        let prefix = &self.discovery_prefix;
        GatewayConfig {
            base_topic: self.base_topic.clone(),
            airtime: Airtime { per_second: self.airtime.pdus_per_second, burst: self.airtime.burst },
            availability_periods: self.availability_periods,
            discovery_prefix: (!prefix.is_empty()).then(|| prefix.clone()),
            export_keys: self.export_keys,
            origin_unix_ms,
            devices: self.devices.iter().map(DeviceConfig::to_device).collect(),
            ..GatewayConfig::new(seed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), String> {
        toml::from_str::<MeshConfig>(text).map_err(|error| error.to_string())?.check()
    }

    #[test]
    fn a_device_needs_topics_of_its_own() {
        let device = |command: &str, state: &str| {
            check(&format!(
                "[[devices]]\nname = \"garden\"\ntype = \"onoff\"\ncommand_topic = \"{command}\"\nstate_topic = \"{state}\"\n"
            ))
        };
        assert_eq!(device("garden/set", "garden/state"), Ok(()));
        assert!(device("garden", "garden").unwrap_err().contains("it needs two"));
        assert!(device("mesh/x/set", "garden").unwrap_err().contains("where the gateway's are"));
        assert!(device("garden/+", "garden").is_err());
    }

    #[test]
    fn a_simulated_radio_has_a_building_behind_it() {
        let radio = |text: &str| toml::from_str::<MeshConfig>(text).unwrap().radio.unwrap().plan();
        let home = Plan { nodes: None, status_period: Duration::from_secs(30) };
        assert_eq!(radio("radio = { type = \"simulated\" }"), home);
        let office = Plan { nodes: Some(100), status_period: Duration::from_secs(60) };
        assert_eq!(radio("radio = { type = \"simulated\", nodes = 100, status_period = \"1m\" }"), office);
    }

    #[test]
    fn settings_have_their_ranges() {
        assert_eq!(check(""), Ok(()));
        assert!(check("availability_periods = 0").unwrap_err().contains("at least 1"));
        assert!(check("airtime = { pdus_per_second = 0 }").unwrap_err().contains("from 0.1 to 100"));
        assert!(check("base_topic = \"a/#\"").is_err());
        assert!(check("colour = 1").is_err());
        assert!(check("radio = { type = \"simulated\", nodes = 0 }").unwrap_err().contains("from 1 to 2000"));
        assert!(check("radio = { type = \"hci\", device = \"hci0\" }").unwrap_err().contains("`simulated`"));
    }
}
