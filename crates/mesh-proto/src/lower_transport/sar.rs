use core::time::Duration;

/// The SAR Transmitter state (MshPRT §4.2.48), as its fields mean it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SarTransmitter {
    /// Time between two segments of a message.
    pub segment_interval: Duration,
    /// Retransmissions of the segments of a message to a unicast address.
    pub unicast_retransmissions: u8,
    /// The same while no acknowledgment brings anything new.
    pub unicast_retransmissions_without_progress: u8,
    /// How long an acknowledgment is waited for.
    pub unicast_retransmissions_interval: Duration,
    /// How much longer for each hop that the TTL allows beyond the first.
    pub unicast_retransmissions_increment: Duration,
    /// Repetitions of a message to a group or virtual address, which nobody acknowledges.
    pub multicast_retransmissions: u8,
    /// Time between two of them.
    pub multicast_retransmissions_interval: Duration,
}

/// The SAR Receiver state (MshPRT §4.2.49), as its fields mean it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SarReceiver {
    /// How many halves of a segment reception interval an acknowledgment waits for more segments.
    pub acknowledgment_delay_halves: u8,
    /// The time in which the next segment is expected.
    pub segment_reception_interval: Duration,
    /// How long an unfinished message is kept after its last new segment.
    pub discard_timeout: Duration,
    /// The number of the last segment up to which an acknowledgment is not repeated.
    pub segments_threshold: u8,
    /// How often the acknowledgment of a longer message is repeated, a segment reception interval apart.
    pub acknowledgment_retransmissions: u8,
}

impl Default for SarTransmitter {
    fn default() -> Self {
        Self {
            segment_interval: Duration::from_millis(60),
            unicast_retransmissions: 2,
            unicast_retransmissions_without_progress: 2,
            unicast_retransmissions_interval: Duration::from_millis(200),
            unicast_retransmissions_increment: Duration::from_millis(50),
            multicast_retransmissions: 2,
            multicast_retransmissions_interval: Duration::from_millis(250),
        }
    }
}

impl Default for SarReceiver {
    fn default() -> Self {
        Self {
            acknowledgment_delay_halves: 5,
            segment_reception_interval: Duration::from_millis(60),
            discard_timeout: Duration::from_secs(10),
            segments_threshold: 3,
            acknowledgment_retransmissions: 0,
        }
    }
}

/// The steps of 10 ms, 25 ms or 5 s that a duration is, less one, as the states write them in so many bits; the nearest
/// that there is.
fn steps(duration: Duration, step: Duration, bits: u32) -> u32 {
    let steps = duration.as_millis().div_ceil(step.as_millis()).saturating_sub(1);
    u32::try_from(steps).unwrap_or(u32::MAX).min((1 << bits) - 1)
}

fn duration(steps: u32, step: Duration) -> Duration {
    step * (steps + 1)
}

/// A count in so many bits; the nearest that there is.
fn count(count: u8, bits: u32) -> u32 {
    u32::from(count).min((1 << bits) - 1)
}

fn low_bits(field: u32, bits: u32) -> u8 {
    let [low, ..] = (field & ((1 << bits) - 1)).to_le_bytes();
    low
}

const TEN_MS: Duration = Duration::from_millis(10);
const QUARTER_DECISECOND: Duration = Duration::from_millis(25);
const FIVE_SECONDS: Duration = Duration::from_secs(5);

impl SarTransmitter {
    /// The state in 32 bits, little-endian: seven fields of 4 bits from the least significant one on, in the order of
    /// §4.2.48; the last 4 bits are reserved. What is out of range becomes the nearest that is not.
    pub fn to_octets(&self) -> [u8; 4] {
        let fields = [
            steps(self.segment_interval, TEN_MS, 4),
            count(self.unicast_retransmissions, 4),
            count(self.unicast_retransmissions_without_progress, 4),
            steps(self.unicast_retransmissions_interval, QUARTER_DECISECOND, 4),
            steps(self.unicast_retransmissions_increment, QUARTER_DECISECOND, 4),
            count(self.multicast_retransmissions, 4),
            steps(self.multicast_retransmissions_interval, QUARTER_DECISECOND, 4),
        ];
        fields.iter().rev().fold(0u32, |octets, field| octets << 4 | field).to_le_bytes()
    }

    /// The state with these octets; every value is one.
    pub fn from_octets(octets: [u8; 4]) -> Self {
        let octets = u32::from_le_bytes(octets);
        let field = |number: u32| low_bits(octets >> (4 * number), 4);
        let interval = |number, step| duration(field(number).into(), step);
        Self {
            segment_interval: interval(0, TEN_MS),
            unicast_retransmissions: field(1),
            unicast_retransmissions_without_progress: field(2),
            unicast_retransmissions_interval: interval(3, QUARTER_DECISECOND),
            unicast_retransmissions_increment: interval(4, QUARTER_DECISECOND),
            multicast_retransmissions: field(5),
            multicast_retransmissions_interval: interval(6, QUARTER_DECISECOND),
        }
    }

    /// How long a sender waits for an acknowledgment (MshPRT §3.5.3.3.2).
    pub fn unicast_interval(&self, ttl: u8) -> Duration {
        match ttl.checked_sub(1) {
            None => self.unicast_retransmissions_interval,
            Some(further) => {
                self.unicast_retransmissions_interval
                    + self.unicast_retransmissions_increment * u32::from(further)
            }
        }
    }
}

impl SarReceiver {
    /// The state in 24 bits, little-endian, from the least significant one on: Segments Threshold in 5, Acknowledgment
    /// Delay Increment in 3, Discard Timeout in 4, Receiver Segment Interval Step in 4, Acknowledgment Retransmissions
    /// Count in 2 bits; the others are reserved. What is out of range becomes the nearest that is not.
    pub fn to_octets(&self) -> [u8; 3] {
        let increment = (self.acknowledgment_delay_halves.saturating_sub(3) / 2).min(7);
        let state = count(self.segments_threshold, 5)
            | u32::from(increment) << 5
            | steps(self.discard_timeout, FIVE_SECONDS, 4) << 8
            | steps(self.segment_reception_interval, TEN_MS, 4) << 12
            | count(self.acknowledgment_retransmissions, 2) << 16;
        let [a, b, c, _] = state.to_le_bytes();
        [a, b, c]
    }

    /// The state with these octets; every value is one.
    pub fn from_octets([a, b, c]: [u8; 3]) -> Self {
        let state = u32::from_le_bytes([a, b, c, 0]);
        Self {
            segments_threshold: low_bits(state, 5),
            acknowledgment_delay_halves: 2 * low_bits(state >> 5, 3) + 3,
            discard_timeout: duration(low_bits(state >> 8, 4).into(), FIVE_SECONDS),
            segment_reception_interval: duration(low_bits(state >> 12, 4).into(), TEN_MS),
            acknowledgment_retransmissions: low_bits(state >> 16, 2),
        }
    }

    /// How long an acknowledgment waits for more segments: min(SegN + 0.5, acknowledgment delay increment)
    /// segment reception intervals (MshPRT §3.5.3.4).
    pub fn acknowledgment_delay(&self, seg_n: u8) -> Duration {
        let halves = self.acknowledgment_delay_halves.min(2 * seg_n + 1);
        self.segment_reception_interval * u32::from(halves) / 2
    }

    /// How often at most a message that is whole is acknowledged again.
    pub fn acknowledgment_pause(&self) -> Duration {
        self.segment_reception_interval * u32::from(self.acknowledgment_delay_halves) / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_states_are_read_as_they_are_written() {
        // The defaults of §4.2.48 and §4.2.49: 5 2 2 7 1 2 9, and 3 1 1 5 0.
        assert_eq!(SarTransmitter::default().to_octets(), [0x25, 0x72, 0x21, 0x09]);
        assert_eq!(SarReceiver::default().to_octets(), [0x23, 0x51, 0x00]);
        for octet in 0..=0xff {
            let transmitter = [octet, !octet, octet ^ 0x5a, octet & 0x0f];
            assert_eq!(SarTransmitter::from_octets(transmitter).to_octets(), transmitter);
            let receiver = [octet, !octet, octet & 0x03];
            assert_eq!(SarReceiver::from_octets(receiver).to_octets(), receiver);
        }
        let long = Duration::from_secs(3600);
        let beyond = SarTransmitter { segment_interval: long, ..SarTransmitter::default() };
        assert_eq!(
            SarTransmitter::from_octets(beyond.to_octets()).segment_interval,
            Duration::from_millis(160)
        );
    }

    #[test]
    fn the_default_timers_are_those_of_the_specification() {
        let transmitter = SarTransmitter::default();
        assert_eq!(transmitter.unicast_interval(0), Duration::from_millis(200));
        assert_eq!(transmitter.unicast_interval(1), Duration::from_millis(200));
        assert_eq!(transmitter.unicast_interval(5), Duration::from_millis(400));
        let receiver = SarReceiver::default();
        assert_eq!(receiver.acknowledgment_delay(0), Duration::from_millis(30));
        assert_eq!(receiver.acknowledgment_delay(1), Duration::from_millis(90));
        assert_eq!(receiver.acknowledgment_delay(2), Duration::from_millis(150));
        assert_eq!(receiver.acknowledgment_delay(31), Duration::from_millis(150));
    }
}
