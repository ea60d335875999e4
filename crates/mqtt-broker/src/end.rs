use mqtt_proto::server::ProtocolError;
use mqtt_wire::{ReasonCode, Text, Version};

/// A connection that ended, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which connection.
    pub connection: crate::ConnectionId,
    /// Whose it was.
    pub client_id: Text,
    /// The version that the client spoke.
    pub version: Version,
    /// Why.
    pub reason: EndReason,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    /// The client said goodbye.
    #[error("the client disconnected: {0}")]
    Client(ReasonCode),
    /// The network connection was lost.
    #[error("the connection was lost")]
    Lost,
    /// Another connection has the same Client Identifier now.
    #[error("another connection took over the session")]
    TakenOver,
    /// The client broke a rule.
    #[error("{0}")]
    Protocol(ProtocolError),
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Shutdown,
    /// The server sends its clients to another one.
    #[error("the server sends its clients elsewhere: {0}")]
    Drained(ReasonCode),
    /// An operator ended it.
    #[error("an operator ended it")]
    Administrative,
    /// The client does not read what it gets.
    #[error("the client does not read its acknowledgments")]
    SlowConsumer,
}

/// The kinds of reason that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the counters")]
pub enum EndKind {
    Normal,
    ClientError,
    Lost,
    TakenOver,
    KeepAlive,
    Malformed,
    Protocol,
    Quota,
    Shutdown,
    Drained,
    Administrative,
    SlowConsumer,
}

impl EndKind {
    /// All of them, in the order of [`crate::Stats::ended`].
    pub const ALL: [Self; 12] = [
        Self::Normal,
        Self::ClientError,
        Self::Lost,
        Self::TakenOver,
        Self::KeepAlive,
        Self::Malformed,
        Self::Protocol,
        Self::Quota,
        Self::Shutdown,
        Self::Drained,
        Self::Administrative,
        Self::SlowConsumer,
    ];

    /// Its name in metrics, `$SYS` and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::ClientError => "client_error",
            Self::Lost => "lost",
            Self::TakenOver => "takenover",
            Self::KeepAlive => "keepalive_timeout",
            Self::Malformed => "malformed_packet",
            Self::Protocol => "protocol_error",
            Self::Quota => "quota_exceeded",
            Self::Shutdown => "shutdown",
            Self::Drained => "drained",
            Self::Administrative => "kicked",
            Self::SlowConsumer => "slow_consumer",
        }
    }
}

impl EndReason {
    /// What it is counted as.
    pub fn kind(&self) -> EndKind {
        use ProtocolError as P;
        match self {
            Self::Client(code) if code.is_error() => EndKind::ClientError,
            Self::Client(_) => EndKind::Normal,
            Self::Lost => EndKind::Lost,
            Self::TakenOver => EndKind::TakenOver,
            Self::Protocol(P::KeepAlive | P::ConnectTimeout) => EndKind::KeepAlive,
            Self::Protocol(P::Decode(_)) => EndKind::Malformed,
            Self::Protocol(
                P::TooManySessions | P::TooManyFilters | P::Memory | P::ReceiveMaximum | P::AnswerTooLarge,
            ) => EndKind::Quota,
            Self::Protocol(_) => EndKind::Protocol,
            Self::Shutdown => EndKind::Shutdown,
            Self::Drained(_) => EndKind::Drained,
            Self::Administrative => EndKind::Administrative,
            Self::SlowConsumer => EndKind::SlowConsumer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_place_in_the_counters() {
        for (index, kind) in EndKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index, "{}", kind.name());
        }
    }
}
