use mqtt_client::Status;

use super::client::Connection;

/// Connect, and stay until stopped
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Connect {
    #[command(flatten)]
    connection: Connection,
}

/// Connects, says how the broker took it, and how the connection goes on.
pub(crate) async fn run(args: Connect) -> anyhow::Result<()> {
    let (client, mut messages) = args.connection.open().await?;
    let broker = args.connection.broker();
    let connack = client.connack();
    super::print(&format!("Connected to {broker}; session present: {}\n", connack.session_present))?;
    if let Some(id) = &connack.properties.assigned_client_identifier {
        super::print(&format!("Client Identifier: {id}\n"))?;
    }
    if let Some(information) = &connack.properties.response_information {
        super::print(&format!("Response Information: {information}\n"))?;
    }
    let mut status = client.status();
    status.mark_unchanged();
    loop {
        tokio::select! {
            stopped = crate::stop::requested() => {
                stopped?;
                break;
            }
            // A session that goes on may have messages.
            message = messages.next() => {
                message?;
            }
            Ok(()) = status.changed() => {
                let text = match &*status.borrow_and_update() {
                    Status::Connected(connack) => {
                        format!("Connected again; session present: {}\n", connack.session_present)
                    }
                    Status::Reconnecting { error, attempt } => format!("{error}; attempt {attempt} follows\n"),
                    Status::Ended => continue,
                };
                super::print(&text)?;
            }
        }
    }
    client.disconnect().await;
    Ok(())
}
