/// How often each kind of fault, and what has to go on in spite of it, happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) late: u64,
    pub(crate) corrupted: u64,
    /// Sent to a node whose radio was off.
    pub(crate) unheard: u64,
    pub(crate) crashes: u64,
    pub(crate) crashes_before_storing: u64,
    pub(crate) clock_jumps: u64,
    pub(crate) iv_updates: u64,
    pub(crate) key_refreshes: u64,
    pub(crate) friendships_begun: u64,
    pub(crate) friendships_ended: u64,
    pub(crate) accepted: u64,
    pub(crate) accepted_from_friend: u64,
    pub(crate) delivered_segmented: u64,
    pub(crate) reported_failed: u64,
}

#[cfg(not(feature = "sabotage"))]
impl Faults {
    pub(crate) fn all(&self) -> [u64; 16] {
        [
            self.lost,
            self.doubled,
            self.late,
            self.corrupted,
            self.unheard,
            self.crashes,
            self.crashes_before_storing,
            self.clock_jumps,
            self.iv_updates,
            self.key_refreshes,
            self.friendships_begun,
            self.friendships_ended,
            self.accepted,
            self.accepted_from_friend,
            self.delivered_segmented,
            self.reported_failed,
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.late += other.late;
        self.corrupted += other.corrupted;
        self.unheard += other.unheard;
        self.crashes += other.crashes;
        self.crashes_before_storing += other.crashes_before_storing;
        self.clock_jumps += other.clock_jumps;
        self.iv_updates += other.iv_updates;
        self.key_refreshes += other.key_refreshes;
        self.friendships_begun += other.friendships_begun;
        self.friendships_ended += other.friendships_ended;
        self.accepted += other.accepted;
        self.accepted_from_friend += other.accepted_from_friend;
        self.delivered_segmented += other.delivered_segmented;
        self.reported_failed += other.reported_failed;
    }
}
