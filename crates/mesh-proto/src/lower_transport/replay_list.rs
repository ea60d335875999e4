use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use mesh_wire::address::UnicastAddress;
use mesh_wire::{IvIndex, SeqAuth};

use crate::discard::Discard;

/// The replay protection list (MshPRT §3.9.8): of each source the newest that was taken.
///
/// Looking ([`ReplayList::check`]) and noting ([`ReplayList::note`]) are two steps, because only what turned out
/// to be authentic, and for a segmented message whole, may be noted.
#[derive(Clone, Debug)]
pub struct ReplayList {
    newest: BTreeMap<UnicastAddress, SeqAuth>,
    /// Of each source the newest segmented message that became whole.
    whole: BTreeMap<UnicastAddress, SeqAuth>,
    capacity: usize,
}

impl ReplayList {
    /// A list for so many sources: the CRPL of the composition data.
    pub fn new(capacity: usize) -> Self {
        Self { newest: BTreeMap::new(), whole: BTreeMap::new(), capacity }
    }

    /// What is noted of a source: its newest PDU, and its newest segmented message that became whole.
    pub fn entry(&self, src: UnicastAddress) -> Option<(SeqAuth, Option<SeqAuth>)> {
        Some((*self.newest.get(&src)?, self.whole.get(&src).copied()))
    }

    /// The sources of which something is noted.
    pub fn sources(&self) -> impl Iterator<Item = UnicastAddress> {
        self.newest.keys().copied()
    }

    /// Forgets the sources whose newest PDU is of an IV Index that is not accepted any more, to make room for others;
    /// returns them.
    pub fn forget_before(&mut self, iv_index: IvIndex) -> Vec<UnicastAddress> {
        let old: Vec<UnicastAddress> = (self.newest.iter())
            .filter(|(_, newest)| newest.iv_index.0.saturating_add(1) < iv_index.0)
            .map(|(&src, _)| src)
            .collect();
        for src in &old {
            self.newest.remove(src);
            self.whole.remove(src);
        }
        old
    }

    /// Notes what was noted before a restart.
    pub fn restore(&mut self, src: UnicastAddress, newest: SeqAuth, whole: Option<SeqAuth>) {
        self.newest.insert(src, newest);
        if let Some(whole) = whole {
            self.whole.insert(src, whole);
        }
    }

    /// Whether a PDU may be taken: it is newer than all of its source before, and can be noted.
    pub fn check(&self, src: UnicastAddress, seq_auth: SeqAuth) -> Result<(), Discard> {
        match self.newest.get(&src) {
            Some(newest) if seq_auth <= *newest => Err(Discard::Replayed),
            Some(_) => Ok(()),
            // Without room a source could be played back at will, so it is not listened to.
            None if self.newest.len() >= self.capacity => Err(Discard::ReplayListFull),
            None => Ok(()),
        }
    }

    /// Notes what was taken. What is older than what is noted already changes nothing: parts of two
    /// messages may come to their end in another order than they were sent.
    pub fn note(&mut self, src: UnicastAddress, seq_auth: SeqAuth) {
        let newest = self.newest.entry(src).or_insert(seq_auth);
        *newest = (*newest).max(seq_auth);
    }

    /// Whether the segmented message with this SeqAuth may begin: no newer one of its source became whole.
    /// Its segments, if they are repeated, have newer sequence numbers of their own.
    pub fn check_segmented(&self, src: UnicastAddress, seq_auth: SeqAuth) -> Result<(), Discard> {
        let is_old = self.whole.get(&src).is_some_and(|newest| seq_auth <= *newest);
        if is_old { Err(Discard::OldSegment) } else { Ok(()) }
    }

    /// Notes a segmented message that became whole and was authentic; `last` is its last segment's place.
    pub fn note_segmented(&mut self, src: UnicastAddress, seq_auth: SeqAuth, last: SeqAuth) {
        self.note(src, last);
        let newest = self.whole.entry(src).or_insert(seq_auth);
        *newest = (*newest).max(seq_auth);
    }
}

#[cfg(test)]
mod tests {
    use mesh_wire::Seq;

    use super::*;

    fn at(iv_index: u32, seq: u32) -> SeqAuth {
        SeqAuth { iv_index: IvIndex(iv_index), seq: Seq::new(seq).unwrap() }
    }

    #[test]
    fn only_what_is_newer_is_taken_and_a_new_iv_index_begins_anew() {
        let mut list = ReplayList::new(1);
        let src = UnicastAddress::new(1).unwrap();
        assert_eq!(list.check(src, at(5, 10)), Ok(()));
        assert_eq!(list.check(src, at(5, 10)), Ok(()), "looking is not noting");
        list.note(src, at(5, 10));
        assert_eq!(list.check(src, at(5, 10)), Err(Discard::Replayed));
        assert_eq!(list.check(src, at(4, 99)), Err(Discard::Replayed));
        assert_eq!(list.check(src, at(6, 0)), Ok(()));
        list.note(src, at(5, 9));
        assert_eq!(list.check(src, at(5, 10)), Err(Discard::Replayed));
    }

    #[test]
    fn what_the_iv_index_keeps_out_needs_no_entry() {
        let mut list = ReplayList::new(2);
        let [one, two] = [1, 2].map(|address| UnicastAddress::new(address).unwrap());
        list.note(one, at(5, 9));
        list.note(two, at(6, 9));
        assert_eq!(list.forget_before(IvIndex(7)), [one]);
        assert_eq!(list.check(two, at(6, 9)), Err(Discard::Replayed));
    }

    #[test]
    fn a_full_list_takes_no_new_source() {
        let mut list = ReplayList::new(1);
        let [one, two] = [1, 2].map(|address| UnicastAddress::new(address).unwrap());
        list.note(one, at(0, 0));
        assert_eq!(list.check(two, at(0, 0)), Err(Discard::ReplayListFull));
        assert_eq!(list.check(one, at(0, 1)), Ok(()));
    }
}
