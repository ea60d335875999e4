//! Connects over TLS with a will, greets, and prints what arrives:
//! `cargo run -p mqtt-client --example greet HOST PORT CA-FILE USERNAME PASSWORD`

use std::error::Error;

use mqtt_client::{Broker, Client, Options, Reconnect, Scheme, Tls};
use mqtt_wire::{
    Properties, Publish, QoS, SubscribeFilter, SubscriptionOptions, TopicFilter, TopicName, Will,
};

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout, reason = "it prints what arrives")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, port, ca, username, password] = &arguments[..] else {
        return Err("usage: greet HOST PORT CA-FILE USERNAME PASSWORD".into());
    };
    let tls = Tls { ca: Some(ca.into()), ..Tls::default() };
    let broker = Broker { port: port.parse()?, tls, ..Broker::new(Scheme::Mqtts, host) };
    let will = Will {
        topic: TopicName::new("clients/rust/gone")?,
        payload: "gone".into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: Properties::default(),
    };
    let options = Options {
        username: Some(username.clone()),
        password: Some(password.clone().into_bytes()),
        will: Some(will),
        reconnect: Some(Reconnect::default()),
        ..Options::new("greet-rust")
    };
    let (client, mut messages) = Client::open(broker, options).await?;
    let filter = TopicFilter::new("clients/rust/#")?;
    let options = SubscriptionOptions::at_most(QoS::AtLeastOnce);
    for reason in client.subscribe(vec![SubscribeFilter { filter, options }]).await? {
        if reason.is_error() {
            return Err(reason.to_string().into());
        }
    }
    let topic = TopicName::new("clients/rust/greeting")?;
    client.publish(Publish::new(topic, QoS::AtLeastOnce, "hello from Rust")).await?;
    loop {
        let message = messages.next().await?;
        println!("{} {}", message.topic, String::from_utf8_lossy(&message.payload));
    }
}
