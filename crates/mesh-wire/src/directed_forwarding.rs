//! Numbers of directed forwarding (MshPRT §3.6.8).

/// Whether forwarding number `b` is newer than `a`: it lies less than half of their circle of 256 ahead
/// (MshPRT §3.6.8.4).
pub const fn is_newer(a: u8, b: u8) -> bool {
    matches!(b.wrapping_sub(a), 1..=127)
}
