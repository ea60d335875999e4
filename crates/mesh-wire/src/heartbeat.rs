//! How heartbeats write large numbers in one octet (MshPRT §4.1.2).

/// The log of a count or period: the smallest n with `value <= 2^(n-1)`; 0 for 0, 0xFF for 0xFFFF
/// ("indefinitely").
pub fn to_log(value: u16) -> u8 {
    match value {
        0 => 0,
        0xffff => 0xff,
        value => {
            let [.., log] = (u32::from(value).next_power_of_two().trailing_zeros() + 1).to_be_bytes();
            log
        }
    }
}

/// What a log of 0 to 17 stands for: 0 for 0, else `2^(n-1)`.
pub fn from_log(log: u8) -> Option<u32> {
    match log {
        0 => Some(0),
        1..=17 => Some(1 << (log - 1)),
        _ => None,
    }
}
