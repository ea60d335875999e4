//! Faults that can be put into a node, to see that the simulation finds them (`cargo xtask sabotage`).
//!
//! Without the feature `sabotage`, which no release build has, [`is`] is `false` at compile time and nothing of
//! this is left.

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// None.
    None = 0,
    /// The replay list takes what a PDU says of itself before its MIC is checked: who sends nonsense in the name of
    /// another has the other refused.
    ReplayListBeforeMic,
    /// Sequence numbers are used that no record has reserved, and again after a restart.
    SequenceNotReserved,
}

impl Fault {
    /// All that can be switched on.
    pub const ALL: [Self; 2] = [Self::ReplayListBeforeMic, Self::SequenceNotReserved];
}

#[cfg(feature = "sabotage")]
std::thread_local! {
    /// Of the thread, not of the process: the test beside this one has to find nothing.
    static FAULT: core::cell::Cell<u8> = const { core::cell::Cell::new(0) };
}

/// Whether a fault is switched on.
#[cfg(feature = "sabotage")]
pub fn is(fault: Fault) -> bool {
    FAULT.get() == fault as u8
}

/// Whether a fault is switched on: never.
#[cfg(not(feature = "sabotage"))]
pub(crate) const fn is(_fault: Fault) -> bool {
    false
}

/// Switches a fault on, in all nodes of this thread, and the one before off.
#[cfg(feature = "sabotage")]
pub fn switch_on(fault: Fault) {
    FAULT.set(fault as u8);
}
