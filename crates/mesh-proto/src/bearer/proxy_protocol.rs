use alloc::vec::Vec;
use core::time::Duration;

use clock::Instant;
use mesh_wire::DecodeError;
use mesh_wire::bearer::proxy::{MessageType, ProxyPdu, Sar};

/// How long the parts of a message may take (MshPRT §6.3.2.2).
pub const SAR_TIMEOUT: Duration = Duration::from_secs(20);

/// Puts the messages of the Proxy protocol together again (MshPRT §6.3.2.2), on one connection.
#[derive(Clone, Debug, Default)]
pub struct ProxyReassembler {
    partial: Option<Partial>,
}

#[derive(Clone, Debug)]
struct Partial {
    message_type: MessageType,
    octets: Vec<u8>,
    /// When the connection is to be ended if the message is not whole.
    deadline: Instant,
}

/// The peer broke the protocol; the connection is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyProtocolError {
    /// A part came out of its order, or of another message.
    #[error("a part of a message came out of its order")]
    Order,
    /// The message is longer than any of its type.
    #[error("a message is longer than its type allows")]
    TooLong,
    /// The parts of a message took more than 20 seconds.
    #[error("the parts of a message took more than 20 seconds")]
    Timeout,
}

impl ProxyReassembler {
    /// Takes a Proxy PDU. Returns the message that it makes whole, if it does; a type that is reserved is ignored.
    ///
    /// # Errors
    /// When the connection is to be ended.
    pub fn handle_pdu(
        &mut self,
        now: Instant,
        octets: &[u8],
    ) -> Result<Option<(MessageType, Vec<u8>)>, ProxyProtocolError> {
        let pdu = match ProxyPdu::decode(octets) {
            Ok(pdu) => pdu,
            Err(DecodeError::UnknownOpcode) => return Ok(None),
            Err(_) => return Err(ProxyProtocolError::Order),
        };
        let partial = match (pdu.sar, self.partial.take()) {
            (Sar::Complete | Sar::First, None) => Partial {
                message_type: pdu.message_type,
                octets: pdu.data.to_vec(),
                deadline: now + SAR_TIMEOUT,
            },
            (Sar::Continuation | Sar::Last, Some(mut partial))
                if partial.message_type == pdu.message_type =>
            {
                partial.octets.extend_from_slice(pdu.data);
                partial
            }
            _ => return Err(ProxyProtocolError::Order),
        };
        if partial.octets.len() > partial.message_type.max_length() {
            return Err(ProxyProtocolError::TooLong);
        }
        if matches!(pdu.sar, Sar::Complete | Sar::Last) {
            return Ok(Some((partial.message_type, partial.octets)));
        }
        self.partial = Some(partial);
        Ok(None)
    }

    /// Whether the message has had its time.
    ///
    /// # Errors
    /// When the connection is to be ended.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), ProxyProtocolError> {
        match &self.partial {
            Some(partial) if partial.deadline <= now => {
                self.partial = None;
                Err(ProxyProtocolError::Timeout)
            }
            _ => Ok(()),
        }
    }

    /// When [`ProxyReassembler::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.partial.as_ref().map(|partial| partial.deadline)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    const NOW: Instant = Instant::ORIGIN;

    #[test]
    fn parts_come_in_order_or_the_connection_ends() {
        let mut whole = ProxyReassembler::default();
        assert_eq!(whole.handle_pdu(NOW, &[0x43, 1]), Ok(None));
        assert_eq!(whole.handle_pdu(NOW, &[0x83, 2]), Ok(None));
        assert_eq!(
            whole.handle_pdu(NOW, &[0xc3, 3]),
            Ok(Some((MessageType::ProvisioningPdu, vec![1, 2, 3])))
        );
        assert_eq!(whole.handle_pdu(NOW, &[0x04, 1]), Ok(None), "a reserved type is ignored");
        // A part without a first, a first within a message, a part of another message, nothing at all.
        for pdus in [&[&[0x83, 1][..]][..], &[&[0x43, 1], &[0x43, 1]], &[&[0x43, 1], &[0xc0, 1]], &[&[]]] {
            let mut broken = ProxyReassembler::default();
            let results: Vec<_> = pdus.iter().map(|pdu| broken.handle_pdu(NOW, pdu)).collect();
            assert_eq!(results.last(), Some(&Err(ProxyProtocolError::Order)), "{pdus:?}");
        }
    }

    #[test]
    fn a_message_is_neither_longer_nor_slower_than_allowed() {
        let mut long = ProxyReassembler::default();
        assert_eq!(long.handle_pdu(NOW, &[0; 31]), Err(ProxyProtocolError::TooLong));
        let mut slow = ProxyReassembler::default();
        assert_eq!(slow.handle_pdu(NOW, &[0x40, 1]), Ok(None));
        assert_eq!(slow.poll_timeout(), Some(NOW + SAR_TIMEOUT));
        assert_eq!(slow.handle_timeout(NOW + SAR_TIMEOUT), Err(ProxyProtocolError::Timeout));
    }
}
