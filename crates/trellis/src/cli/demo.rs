use super::building::Building;

/// Run a broker, a gateway and a simulated building
///
/// While it runs, a message on `demo/radio-cut` with the name of a node cuts that node's radio, and one on
/// `demo/radio-mend` mends it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Demo {
    /// The port of the MQTT broker
    #[arg(long, default_value = "1883")]
    pub(crate) mqtt_port: u16,
    /// The port of the status page
    #[arg(long, default_value = "18083")]
    pub(crate) http_port: u16,
    #[command(flatten)]
    pub(crate) building: Building,
}

impl Default for Demo {
    fn default() -> Self {
        Self { mqtt_port: 1883, http_port: 18083, building: Building::default() }
    }
}

/// Runs the demo until SIGINT or SIGTERM.
pub(crate) async fn run(args: Demo) -> anyhow::Result<()> {
    super::start_logging("warn");
    crate::demo::run(&args).await
}
