//! The lighting models (MMDL §6).

mod handle;
mod light;
mod status;

pub use light::{Light, LightKind};

/// The temperatures that Light CTL knows, in kelvin (MMDL §6.1.3.1).
pub const TEMPERATURES: core::ops::RangeInclusive<u16> = 800..=20_000;

/// Light Lightness Linear of a Light Lightness Actual: what measures as much light as the other looks like
/// (MMDL §6.1.2.1.1).
pub fn linear_of(actual: u16) -> u16 {
    let square = u32::from(actual) * u32::from(actual);
    u16::try_from(square.div_ceil(0xffff)).unwrap_or(u16::MAX)
}

/// Light Lightness Actual of a Light Lightness Linear.
pub fn actual_of(linear: u16) -> u16 {
    let square = u32::from(linear) * 0xffff;
    let root = square.isqrt();
    let root = if root * root < square { root + 1 } else { root };
    u16::try_from(root).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_and_actual_agree_at_the_ends_and_in_the_middle() {
        assert_eq!([0, 1, 0x8000, 0xffff].map(linear_of), [0, 1, 0x4001, 0xffff]);
        assert_eq!([0, 1, 0x4001, 0xffff].map(actual_of), [0, 256, 0x8001, 0xffff]);
        assert!((0..=u16::MAX).all(|linear| linear_of(actual_of(linear)).abs_diff(linear) <= 2));
    }
}
