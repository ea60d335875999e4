use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use clock::Instant;
use mesh_wire::SeqAuth;
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::lower_transport::{Segment, SegmentAck};
use mesh_wire::network::NetworkPdu;

use crate::lower_transport::{Ack, Reassembler, SarReceiver, SegmentSource};
use crate::network::Arrived;

/// Segments as they are to be stored, by their number.
type Numbered = Vec<(u8, NetworkPdu)>;

/// Segments for Low Power nodes, which enter the Friend Queue once their message is whole and acknowledged
/// (MshPRT §3.5.5).
#[derive(Clone, Debug)]
pub(super) struct Segments {
    reassembler: Reassembler,
    pending: BTreeMap<(UnicastAddress, Address), (SeqAuth, Numbered)>,
    refused: Vec<Ack>,
}

impl Segments {
    pub(super) fn new(sar: SarReceiver) -> Self {
        Self { reassembler: Reassembler::new(sar), pending: BTreeMap::new(), refused: Vec::new() }
    }

    /// Replaces the states by which segments are acknowledged.
    pub(super) fn set_sar(&mut self, sar: SarReceiver) {
        self.reassembler.set_sar(sar);
    }

    /// Takes a segment, `pdu` as it is to be stored; returns those of a message that it makes whole, in their order.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        arrived: &Arrived,
        segment: &Segment,
        pdu: NetworkPdu,
        fits: bool,
    ) -> Vec<NetworkPdu> {
        let source = SegmentSource::from(arrived);
        if !fits {
            self.refuse(&source, segment);
            return Vec::new();
        }
        let Some(seq_auth) = SeqAuth::of_segment(source.seq_auth, segment.seq_zero) else {
            return Vec::new();
        };
        let Ok(whole) = self.reassembler.handle_segment(now, source, segment) else { return Vec::new() };
        let reassembler = &self.reassembler;
        self.pending.retain(|&path, (seq_auth, _)| reassembler.is_receiving(path, *seq_auth));
        let path = (source.src, source.dst);
        let (of, segments) = self.pending.entry(path).or_insert((seq_auth, Vec::new()));
        if *of != seq_auth {
            (*of, *segments) = (seq_auth, Vec::new());
        }
        segments.push((segment.seg_o, pdu));
        if whole.is_none() {
            return Vec::new();
        }
        let (_, mut segments) = self.pending.remove(&path).unwrap_or((seq_auth, Vec::new()));
        segments.sort_by_key(|(seg_o, _)| *seg_o);
        segments.into_iter().map(|(_, pdu)| pdu).collect()
    }

    fn refuse(&mut self, source: &SegmentSource, segment: &Segment) {
        let Some(own) = source.dst.unicast() else { return };
        let ack = SegmentAck { on_behalf: true, seq_zero: segment.seq_zero, block_ack: 0 };
        let net_key_index = source.net_key_index;
        self.refused.push(Ack { net_key_index, src: own, dst: source.src, received_ttl: source.ttl, ack });
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.reassembler.handle_timeout(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.reassembler.poll_timeout()
    }

    pub(super) fn poll_ack(&mut self) -> Option<Ack> {
        let ack = self.refused.pop().or_else(|| self.reassembler.poll_ack())?;
        Some(Ack { ack: SegmentAck { on_behalf: true, ..ack.ack }, ..ack })
    }
}
