//! The configuration file of `trellis serve`: one TOML file in which unknown keys are errors.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::durability_config::Durability;
use crate::mqtt_config::Mqtt;
use serde::{Deserialize, Deserializer, de};

use crate::listener_config::{Access, Listener, Transport};
use crate::mesh_config::MeshConfig;

/// Everything that a server can be told. What a file leaves out has the default given here.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where the server keeps what it must remember.
    pub(crate) data_dir: PathBuf,
    /// Where clients connect. Without any, one on 127.0.0.1:1883.
    pub(crate) listeners: Vec<Listener>,
    /// Who may connect, and what they may do.
    pub(crate) access: Access,
    pub(crate) mqtt: Mqtt,
    pub(crate) durability: Durability,
    pub(crate) console: Console,
    /// Where clients go when this server is taken out of service.
    pub(crate) drain: Option<Drain>,
    /// The mesh networks that it serves; at most one yet.
    pub(crate) mesh: Vec<MeshConfig>,
}

/// The status page.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Console {
    pub(crate) bind: SocketAddr,
}

/// Where clients are sent when the server drains: before it stops, or when it is told to by SIGUSR1.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Drain {
    /// The Server Reference for clients of MQTT 5.0: `host`, `host:port`, or several of these with a space between.
    #[serde(deserialize_with = "text")]
    pub(crate) server_reference: mqtt_wire::Text,
    /// Whether they are to go there for good (0x9D, Server moved) or for now (0x9C, Use another server).
    #[serde(default)]
    pub(crate) permanent: bool,
    /// How many seconds a server that is to stop goes on to send away those who come.
    #[serde(default)]
    pub(crate) linger_s: u64,
}

/// A number of bytes, written as a number or as text such as `"64KB"` or `"1MB"` (of 1024 each).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteSize(pub(crate) u32);

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the configuration file {} cannot be used:\n{source}", path.display())]
    Parse { path: PathBuf, source: toml::de::Error },
    #[error("the configuration file {} cannot be used: {problem}", path.display())]
    Mesh { path: PathBuf, problem: String },
}

impl Config {
    /// Reads and checks the file at `path`.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let config: Self =
            toml::from_str(&text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source })?;
        config.check_mesh().map_err(|problem| ConfigError::Mesh { path: path.to_owned(), problem })?;
        Ok(config.with_listener())
    }

    fn check_mesh(&self) -> Result<(), String> {
        if self.mesh.len() > 1 {
            return Err("there are several [[mesh]] sections; one program serves one mesh".to_owned());
        }
        self.mesh.iter().try_for_each(MeshConfig::check)
    }

    /// What holds without a file.
    pub(crate) fn defaults() -> Self {
        Self::default().with_listener()
    }

    fn with_listener(mut self) -> Self {
        if self.listeners.is_empty() {
            self.listeners.push(Listener::local(1883));
        }
        self
    }
}

impl Listener {
    /// The listener of a server that was told nothing: loopback only.
    pub(crate) fn local(port: u16) -> Self {
        Self {
            name: "default".to_owned(),
            transport: Transport::Tcp,
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            allow_anonymous: None,
            tls: None,
            path: None,
            allowed_origins: None,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("trellis-data"),
            listeners: Vec::new(),
            access: Access::default(),
            mqtt: Mqtt::default(),
            durability: Durability::default(),
            console: Console::default(),
            drain: None,
            mesh: Vec::new(),
        }
    }
}

impl Default for Console {
    fn default() -> Self {
        Self { bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 18083)) }
    }
}

/// Text as MQTT has it.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<mqtt_wire::Text, D::Error> {
    mqtt_wire::Text::new(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

impl ByteSize {
    fn from_text(text: &str) -> Option<Self> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let factor = match text[digits.len()..].to_ascii_uppercase().as_str() {
            "" | "B" => 1,
            "KB" => 1024,
            "MB" => 1024 * 1024,
            _ => return None,
        };
        digits.trim().parse::<u32>().ok()?.checked_mul(factor).map(Self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes below 4 GB, such as 65536, \"64KB\" or \"1MB\"")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<ByteSize, E> {
                let size = u32::try_from(value);
                size.map(ByteSize).map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                ByteSize::from_text(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_documented_form_is_understood() {
        let config: Config = toml::from_str(
            r#"
            data_dir = "/var/lib/trellis"
            [[listeners]]
            name = "default"
            type = "tcp"
            bind = "0.0.0.0:1883"
            allow_anonymous = true
            [mqtt]
            max_packet_size = "64KB"
            [console]
            bind = "127.0.0.1:8080"
            [drain]
            server_reference = "other.example:8883"
            "#,
        )
        .unwrap();
        assert_eq!(config.listeners[0].allow_anonymous, Some(true));
        assert_eq!(config.mqtt.max_packet_size, ByteSize(65_536));
        assert_eq!(config.console.bind.port(), 8080);
        let drain = config.drain.unwrap();
        assert_eq!(
            (&*drain.server_reference, drain.permanent, drain.linger_s),
            ("other.example:8883", false, 0)
        );
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        for text in ["datadir = 'x'", "[mqtt]\nmax_packet = 1", "[[listeners]]\nname='a'\nbnd='127.0.0.1:1'"]
        {
            let error = toml::from_str::<Config>(text).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{error}");
        }
        let error = toml::from_str::<Config>("[[listeners]]\ntype = 'quic'").unwrap_err().to_string();
        assert!(error.contains("unknown variant `quic`, expected one of `tcp`"), "{error}");
    }

    #[test]
    fn byte_sizes_have_units_of_1024() {
        assert_eq!(ByteSize::from_text("1MB"), Some(ByteSize(1_048_576)));
        assert_eq!(ByteSize::from_text("2 kb"), Some(ByteSize(2048)));
        assert_eq!(ByteSize::from_text("17"), Some(ByteSize(17)));
        for bad in ["", "MB", "1TB", "-1", "5000MB", "1.5MB"] {
            assert_eq!(ByteSize::from_text(bad), None, "{bad}");
        }
    }
}
