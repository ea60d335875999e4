use std::path::PathBuf;

/// Run a broker, a gateway and a simulated building of eight lamps
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Demo {
    /// Where the network database is written
    #[arg(long, default_value = "./trellis-data")]
    pub(crate) data_dir: PathBuf,
    /// The port of the MQTT broker
    #[arg(long, default_value = "1883")]
    pub(crate) mqtt_port: u16,
    /// The port of the status page
    #[arg(long, default_value = "18083")]
    pub(crate) http_port: u16,
    /// What all randomness of the building comes from
    #[arg(long, default_value = "1")]
    pub(crate) seed: u64,
    /// Write what is on the air to a file that Wireshark reads; FILE.keys says how to decrypt it
    #[arg(long, value_name = "FILE")]
    pub(crate) pcap: Option<PathBuf>,
}

impl Default for Demo {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./trellis-data"),
            mqtt_port: 1883,
            http_port: 18083,
            seed: 1,
            pcap: None,
        }
    }
}

/// Runs the demo until SIGINT or SIGTERM.
pub(crate) async fn run(args: Demo) -> anyhow::Result<()> {
    super::start_logging("warn");
    crate::demo::run(&args).await
}
