//! Trellis: an MQTT platform and a Bluetooth Mesh gateway in one binary.

mod allocator;
mod cli;
mod config;
mod demo;
mod durability_config;
mod gateway_shell;
mod listener_config;
mod mesh_config;
mod mesh_node;
mod metrics;
mod mqtt_config;
mod simulation;
mod status_page;
mod stop;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(error) => {
            cli::complain(&error);
            ExitCode::FAILURE
        }
    }
}
