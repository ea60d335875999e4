//! Faults that can be put into the broker, to see that the simulation finds them (`cargo xtask sabotage`).
//!
//! Without the feature `sabotage`, which no release build has, [`is`] is `false` at compile time and nothing of
//! this is left.

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// None.
    None = 0,
    /// A message of QoS 2 is taken without a receipt, so that it is taken again when it is sent again.
    NoQoS2Receipt,
    /// What is sent again lacks DUP.
    LostDup,
    /// SUBACK leaves although the route is not written.
    RouteAfterSubAck,
    /// Retained messages are taken up in the order in which they happen to come.
    RetainedWithoutVersion,
    /// What a member of a shared subscription did not acknowledge is lost with its session.
    ShareWithoutRedelivery,
    /// A message is forgotten when it is sent, not when it is acknowledged.
    ForgottenWhenSent,
    /// Whether a client may publish to a topic is not asked.
    SkippedPublishRight,
    /// Whether a client may subscribe to a filter is not asked.
    SkippedSubscribeRight,
    /// PUBACK and its like leave before what they promise is durable.
    AckBeforeSync,
    /// The receipt of a message of QoS 2 is not written down with it.
    ReceiptNotStored,
}

impl Fault {
    /// All that can be switched on.
    pub const ALL: [Self; 10] = [
        Self::NoQoS2Receipt,
        Self::LostDup,
        Self::RouteAfterSubAck,
        Self::RetainedWithoutVersion,
        Self::ShareWithoutRedelivery,
        Self::ForgottenWhenSent,
        Self::SkippedPublishRight,
        Self::SkippedSubscribeRight,
        Self::AckBeforeSync,
        Self::ReceiptNotStored,
    ];
}

impl Fault {
    /// Whether it shows only where there is a disk.
    pub fn needs_disk(self) -> bool {
        matches!(self, Self::AckBeforeSync | Self::ReceiptNotStored)
    }
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

/// Switches a fault on, in all brokers of this thread, and the one before off.
#[cfg(feature = "sabotage")]
pub fn switch_on(fault: Fault) {
    FAULT.set(fault as u8);
}

#[cfg(feature = "sabotage")]
thread_local! {
    static POSTPONED: std::cell::RefCell<Vec<(crate::ShardId, mqtt_wire::TopicFilter)>> = Default::default();
}

/// Whether the route of a filter is not to be written yet; it is remembered then.
#[cfg(feature = "sabotage")]
pub(crate) fn postpones_route(shard: crate::ShardId, filter: &mqtt_wire::TopicFilter) -> bool {
    let is_late = is(Fault::RouteAfterSubAck);
    if is_late {
        POSTPONED.with_borrow_mut(|all| all.push((shard, filter.clone())));
    }
    is_late
}

#[cfg(not(feature = "sabotage"))]
pub(crate) const fn postpones_route(_shard: crate::ShardId, _filter: &mqtt_wire::TopicFilter) -> bool {
    false
}

/// The routes that a shard has to write now.
#[cfg(feature = "sabotage")]
pub(crate) fn postponed_routes(shard: crate::ShardId) -> Vec<mqtt_wire::TopicFilter> {
    POSTPONED
        .with_borrow_mut(|all| all.extract_if(.., |(of, _)| *of == shard).map(|(_, filter)| filter).collect())
}

#[cfg(not(feature = "sabotage"))]
pub(crate) const fn postponed_routes(_shard: crate::ShardId) -> [mqtt_wire::TopicFilter; 0] {
    []
}
