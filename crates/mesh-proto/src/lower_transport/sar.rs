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
///
/// Acknowledgments are not repeated: SAR Acknowledgment Retransmissions Count is 0, its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SarReceiver {
    /// How many halves of a segment reception interval an acknowledgment waits for more segments.
    pub acknowledgment_delay_halves: u8,
    /// The time in which the next segment is expected.
    pub segment_reception_interval: Duration,
    /// How long an unfinished message is kept after its last new segment.
    pub discard_timeout: Duration,
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
        }
    }
}

impl SarTransmitter {
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
