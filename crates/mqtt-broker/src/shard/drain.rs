//! Ending connections for reasons of the server's own (§4.11, §4.13).

use clock::Instant;
use mqtt_wire::{Disconnect, ReasonCode, Text};

use super::admission::Principal;
use super::{ConnectionId, Shard};
use crate::end::EndReason;

/// Where clients are sent instead (§4.11).
#[derive(Clone, Debug)]
pub(super) struct Drain {
    pub(super) code: ReasonCode,
    pub(super) server: Option<Text>,
}

impl Shard {
    /// Sends all clients, and those that come later, to another server: for now (`is_permanent` false, reason
    /// code 0x9C) or for good (0x9D). Clients that are part of this program stay. `server` is the Server Reference that tells clients of MQTT 5.0 where.
    pub fn drain(&mut self, now: Instant, server: Option<Text>, is_permanent: bool) {
        self.now = now;
        let code = if is_permanent { ReasonCode::ServerMoved } else { ReasonCode::UseAnotherServer };
        for id in self.open_connections() {
            if self.access.principals.get(&id) == Some(&Principal::Trusted) {
                continue;
            }
            let mut disconnect = Disconnect::new(code);
            disconnect.properties.server_reference = server.clone();
            self.disconnect_with(now, id, disconnect, EndReason::Drained(code));
        }
        self.drained = Some(Drain { code, server });
    }

    /// Takes clients again.
    pub fn undrain(&mut self) {
        self.drained = None;
    }

    /// Ends the connection that a client has, as an operator wants it; says whether it had one.
    pub fn kick(&mut self, now: Instant, client_id: &Text) -> bool {
        self.now = now;
        let connection = self.clients.get(client_id).and_then(|client| client.connection);
        if let Some(id) = connection {
            self.disconnect(now, id, ReasonCode::AdministrativeAction, EndReason::Administrative);
        }
        connection.is_some()
    }

    /// Ends every connection, telling clients of MQTT 5.0 why.
    pub fn shutdown(&mut self, now: Instant) {
        self.now = now;
        for id in self.open_connections() {
            self.disconnect(now, id, ReasonCode::ServerShuttingDown, EndReason::Shutdown);
        }
    }

    fn open_connections(&self) -> Vec<ConnectionId> {
        self.connections
            .iter()
            .map(|(slot, connection)| ConnectionId { slot, epoch: connection.epoch })
            .collect()
    }
}
