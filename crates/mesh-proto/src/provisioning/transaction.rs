//! The transactions of generic provisioning (MshPRT §5.3.3): one provisioning PDU each, one after the other.

use alloc::vec;
use alloc::vec::Vec;

use mesh_wire::bearer::pb_adv::{GenericPdu, fcs, segment, segment_length, segment_start};

/// The numbers of one end's transactions: 00 to 7F of the provisioner, 80 to FF of the device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    next: u8,
}

/// A transaction that is being sent.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) number: u8,
    pub(super) segments: Vec<GenericPdu>,
    /// The segment that is to be sent next.
    pub(super) next: usize,
}

/// What an end receives: the other end's transactions in the order of their numbers.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    expected: Numbers,
    /// The number of the transaction that was received last.
    last: Option<u8>,
    partial: Option<Partial>,
}

#[derive(Clone, Debug)]
struct Partial {
    seg_n: u8,
    fcs: u8,
    /// Bit n: segment n is there.
    received: u64,
    octets: Vec<u8>,
}

/// What a segment brings about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing yet, or nothing at all.
    None,
    /// The transaction was received before: it is to be acknowledged again.
    Repeated,
    /// The transaction is whole: it is to be acknowledged, and this is the PDU.
    Whole(Vec<u8>),
}

impl Numbers {
    pub(super) const PROVISIONER: Self = Self { next: 0 };
    pub(super) const DEVICE: Self = Self { next: 0x80 };

    /// The next number, which wraps within the end's half.
    pub(super) fn take(&mut self) -> u8 {
        let number = self.next;
        self.next = self.next & 0x80 | self.next.wrapping_add(1) & 0x7f;
        number
    }
}

impl Outgoing {
    pub(super) fn new(number: u8, pdu: &[u8]) -> Self {
        Self { number, segments: segment(pdu), next: 0 }
    }
}

impl Incoming {
    pub(super) fn from(numbers: Numbers) -> Self {
        Self { expected: numbers, last: None, partial: None }
    }

    /// Takes a segment. One that does not fit those before it changes nothing.
    pub(super) fn handle(&mut self, number: u8, content: &GenericPdu) -> Progress {
        if number != self.expected.next {
            return if self.last == Some(number) { Progress::Repeated } else { Progress::None };
        }
        match content {
            GenericPdu::TransactionStart { seg_n, total_length, fcs, octets } => {
                let partial = self.partial.get_or_insert_with(|| Partial {
                    seg_n: *seg_n,
                    fcs: *fcs,
                    received: 0,
                    octets: vec![0; usize::from(*total_length)],
                });
                if partial.octets.len() != usize::from(*total_length) || partial.fcs != *fcs {
                    // Another PDU under the same number: what is there is of no use.
                    self.partial = None;
                    return self.handle(number, content);
                }
                partial.add(0, octets);
            }
            GenericPdu::TransactionContinuation { index, octets } => match &mut self.partial {
                Some(partial) => partial.add(*index, octets),
                // Its length is not known before the start, which is repeated with it.
                None => return Progress::None,
            },
            GenericPdu::TransactionAck | GenericPdu::BearerControl(_) => return Progress::None,
        }
        match self.partial.take_if(|partial| partial.is_whole()) {
            Some(partial) if fcs(&partial.octets) == partial.fcs => {
                self.last = Some(self.expected.take());
                Progress::Whole(partial.octets)
            }
            // All segments are there and one is wrong: the sender repeats them all.
            _ => Progress::None,
        }
    }
}

impl Partial {
    fn is_whole(&self) -> bool {
        self.received == u64::MAX >> (63 - u32::from(self.seg_n))
    }

    fn add(&mut self, index: u8, octets: &[u8]) {
        if index > self.seg_n || octets.len() != segment_length(self.octets.len(), index) {
            return;
        }
        let start = segment_start(index);
        if let Some(place) = self.octets.get_mut(start..start + octets.len()) {
            place.copy_from_slice(octets);
            self.received |= 1 << index;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_wrap_within_their_half() {
        let mut numbers = Numbers::DEVICE;
        let taken: Vec<u8> = (0..129).map(|_| numbers.take()).collect();
        assert_eq!((taken[0], taken[127], taken[128]), (0x80, 0xff, 0x80));
        let mut numbers = Numbers::PROVISIONER;
        assert_eq!((0..129).map(|_| numbers.take()).last(), Some(0));
    }

    #[test]
    fn segments_in_any_order_make_the_pdu_once() {
        let pdu: Vec<u8> = (0..65).collect();
        let sent = Outgoing::new(0, &pdu);
        let mut received = Incoming::from(Numbers::PROVISIONER);
        assert_eq!(received.handle(0x7f, &sent.segments[0]), Progress::None, "nothing came before the first");
        // A continuation before the start is lost, and comes again.
        for (segment, expected) in [(2, None), (0, None), (2, None), (2, None), (1, Some(&pdu))] {
            let progress = received.handle(0, &sent.segments[segment]);
            match expected {
                None => assert_eq!(progress, Progress::None),
                Some(pdu) => assert_eq!(progress, Progress::Whole(pdu.clone())),
            }
        }
        assert_eq!(received.handle(0, &sent.segments[1]), Progress::Repeated);
        assert_eq!(received.handle(2, &sent.segments[0]), Progress::None, "not the next number");
    }

    #[test]
    fn a_wrong_check_sequence_makes_no_pdu() {
        let mut sent = Outgoing::new(0, &[1, 2, 3]);
        let mut received = Incoming::from(Numbers::PROVISIONER);
        if let GenericPdu::TransactionStart { fcs, .. } = &mut sent.segments[0] {
            *fcs ^= 1;
        }
        assert_eq!(received.handle(0, &sent.segments[0]), Progress::None);
        let sent = Outgoing::new(0, &[1, 2, 3]);
        assert_eq!(received.handle(0, &sent.segments[0]), Progress::Whole(vec![1, 2, 3]));
    }

    #[test]
    fn segments_that_do_not_belong_to_the_length_are_left_out() {
        let mut received = Incoming::from(Numbers::PROVISIONER);
        let long: Vec<u8> = vec![7; 65];
        let [start, ..] = &Outgoing::new(0, &long).segments[..] else { panic!("segments") };
        received.handle(0, start);
        for (index, length) in [(3, 23), (63, 23), (1, 1), (2, 23)] {
            let octets = vec![9; length].into();
            let progress = received.handle(0, &GenericPdu::TransactionContinuation { index, octets });
            assert_eq!(progress, Progress::None);
        }
        assert_eq!(received.partial.as_ref().map(|x| (x.received, x.octets.len())), Some((1, 65)));
    }
}
