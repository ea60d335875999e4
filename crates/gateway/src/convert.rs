//! People's numbers, and the mesh's. What was set reads back equal: each conversion there and back is the identity.

/// The largest brightness.
pub(crate) const BRIGHTNESS_MAX: u8 = 254;

/// Light Lightness Actual of a brightness of 0 to 254.
pub(crate) fn lightness_of(brightness: u8) -> u16 {
    scale(u32::from(brightness), u32::from(BRIGHTNESS_MAX), 0xffff)
}

/// The brightness of a Light Lightness Actual; only 0 is 0.
pub(crate) fn brightness_of(lightness: u16) -> u8 {
    let brightness = scale(u32::from(lightness), 0xffff, u32::from(BRIGHTNESS_MAX));
    u8::try_from(brightness).unwrap_or(BRIGHTNESS_MAX).max(u8::from(lightness > 0))
}

/// Kelvin of mireds (a million divided by either is the other).
pub(crate) fn kelvin_of(mireds: u16) -> u16 {
    reciprocal(mireds)
}

/// Mireds of kelvin.
pub(crate) fn mireds_of(kelvin: u16) -> u16 {
    reciprocal(kelvin)
}

/// A Light HSL Hue of degrees from 0 to 360.
pub(crate) fn hue_of(degrees: f64) -> u16 {
    share(degrees / 360.0)
}

/// Degrees of a Light HSL Hue, in hundredths.
pub(crate) fn degrees_of(hue: u16) -> f64 {
    hundredths(f64::from(hue) / 65_535.0 * 360.0)
}

/// A Light HSL Saturation of a percentage.
pub(crate) fn saturation_of(percent: f64) -> u16 {
    share(percent / 100.0)
}

/// The percentage of a Light HSL Saturation, in hundredths.
pub(crate) fn percent_of(saturation: u16) -> f64 {
    hundredths(f64::from(saturation) / 65_535.0 * 100.0)
}

fn scale(value: u32, from: u32, to: u32) -> u16 {
    u16::try_from((value * to + from / 2) / from).unwrap_or(u16::MAX)
}

fn reciprocal(value: u16) -> u16 {
    let value = u32::from(value.max(1));
    u16::try_from((1_000_000 + value / 2) / value).unwrap_or(u16::MAX)
}

fn share(share: f64) -> u16 {
    let scaled = (share.clamp(0.0, 1.0) * 65_535.0).round();
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it lies between 0 and 65,535"
    )]
    {
        scaled as u16
    }
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_reads_back_equal() {
        assert!((0..=BRIGHTNESS_MAX).all(|brightness| brightness_of(lightness_of(brightness)) == brightness));
        assert!((50..=1_000).all(|mireds| mireds_of(kelvin_of(mireds)) == mireds));
        for tenth in 0..=3_600_u16 {
            let degrees = f64::from(tenth) / 10.0;
            assert!((degrees_of(hue_of(degrees)) - degrees).abs() < 0.0051, "{degrees}");
        }
        assert!(
            (0..=360_u16)
                .all(|degrees| (degrees_of(hue_of(degrees.into())) - f64::from(degrees)).abs() < 0.005)
        );
        assert!((0..=100_u16).all(|percent| (percent_of(saturation_of(percent.into())) - f64::from(percent)).abs() < 0.005));
    }

    #[test]
    fn the_ends_are_the_ends() {
        assert_eq!([0, 254].map(lightness_of), [0, 0xffff]);
        assert_eq!((brightness_of(1), kelvin_of(370), mireds_of(2_700)), (1, 2_703, 370));
        assert_eq!((hue_of(400.0), saturation_of(-1.0)), (0xffff, 0));
    }
}
