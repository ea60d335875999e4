//! The smallest broker: `cargo run --release --example broker -- 127.0.0.1:1883`.

use mqtt_server::{Config, ListenerConfig, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bind = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:1883".to_owned()).parse()?;
    let listeners = vec![ListenerConfig::new("default", bind)];
    let _server = Server::start(Config { listeners, ..Config::default() }).await?;
    std::future::pending::<()>().await;
    Ok(())
}
