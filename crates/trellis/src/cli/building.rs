//! What `demo` and `gateway` have in common: the simulated building, and where its state is kept.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use crate::config::Config;
use crate::demo::{Living, Options, Plan};
use crate::mesh_config::MeshConfig;

/// The simulated building
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Building {
    /// Where the state of the building and of the gateway is kept
    #[arg(long, default_value = "./trellis-data")]
    pub(crate) data_dir: PathBuf,
    /// Forget what is kept there, and begin anew with other keys
    #[arg(long)]
    pub(crate) fresh: bool,
    /// The configuration file whose [[mesh]] section says how the gateway runs
    #[arg(short, long)]
    pub(crate) config: Option<PathBuf>,
    /// An office of so many nodes instead of the home
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=2000))]
    pub(crate) nodes: Option<u16>,
    /// How often each node publishes its state; 0s: only when it changes. Large buildings do it more rarely
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) status_period: Duration,
    /// A node whose radio is cut from the start, by its name; may be given several times
    #[arg(long, value_name = "NODE")]
    pub(crate) radio_cut: Vec<String>,
    /// The time of day at which life in the building begins
    #[arg(long, default_value = "07:30", value_parser = time_of_day)]
    pub(crate) time_of_day: Duration,
    /// How many seconds of life go by in one
    #[arg(long, default_value = "1", value_parser = speed)]
    pub(crate) life_speed: f64,
    /// Nobody walks about or presses switches
    #[arg(long)]
    pub(crate) still: bool,
    /// What keys and the medium's randomness come from [default: the system's random device]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Write what is on the air to a file that Wireshark reads; FILE.keys says how to decrypt it
    #[arg(long, value_name = "FILE")]
    pub(crate) pcap: Option<PathBuf>,
}

impl Default for Building {
    fn default() -> Self {
        let Living { time_of_day, speed, with_people } = Living::default();
        Self {
            data_dir: PathBuf::from("./trellis-data"),
            fresh: false,
            config: None,
            nodes: None,
            status_period: Duration::from_secs(30),
            radio_cut: Vec::new(),
            time_of_day,
            life_speed: speed,
            still: !with_people,
            seed: None,
            pcap: None,
        }
    }
}

impl Building {
    /// What is started. Without a configuration file the keys may be exported where only this machine can ask.
    pub(crate) fn options(&self, is_local: bool) -> anyhow::Result<Options> {
        let config = match &self.config {
            Some(path) => {
                let config = Config::load(path)?;
                config
                    .mesh
                    .into_iter()
                    .next()
                    .with_context(|| format!("{} has no [[mesh]] section", path.display()))?
            }
            None => MeshConfig { export_keys: is_local, ..MeshConfig::default() },
        };
        Ok(Options {
            data_dir: self.data_dir.clone(),
            fresh: self.fresh,
            plan: Plan { nodes: self.nodes.map(usize::from), status_period: self.status_period },
            living: Living {
                time_of_day: self.time_of_day,
                speed: self.life_speed,
                with_people: !self.still,
            },
            seed: self.seed,
            pcap: self.pcap.clone(),
            cuts: self.radio_cut.clone(),
            config,
        })
    }
}

fn time_of_day(text: &str) -> Result<Duration, String> {
    let parsed = text.split_once(':').and_then(|(hours, minutes)| {
        let (hours, minutes): (u64, u64) = (hours.parse().ok()?, minutes.parse().ok()?);
        (hours < 24 && minutes < 60).then(|| Duration::from_secs(hours * 3_600 + minutes * 60))
    });
    parsed.ok_or_else(|| "it is hours and minutes, such as 07:30".to_owned())
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok().filter(|speed| (0.1..=1_000.0).contains(speed));
    speed.ok_or_else(|| "it goes from 0.1 to 1000".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_has_hours_and_minutes() {
        assert_eq!(time_of_day("07:30"), Ok(Duration::from_secs(27_000)));
        assert!(["24:00", "7", "12:60", "a:b", ""].iter().all(|text| time_of_day(text).is_err()));
        assert!(speed("0").is_err() && speed("60") == Ok(60.0));
    }
}
