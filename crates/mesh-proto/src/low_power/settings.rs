use core::time::Duration;

use mesh_wire::NetKeyIndex;
use mesh_wire::friendship::{Criteria, PollTimeout};

/// The shortest ReceiveDelay (MshPRT table 3.37).
const MIN_RECEIVE_DELAY_MS: u8 = 10;

/// What a Low Power node asks of its Friend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LowPowerSettings {
    /// The subnet in which it has a Friend; it sleeps through the traffic of others too.
    pub net_key_index: NetKeyIndex,
    /// How Friends are weighed against each other, and the least queue. A queue of 32 holds the longest message.
    pub criteria: Criteria,
    /// ReceiveDelay in milliseconds, 10 to 255: how long the radio sleeps between a question and its answer.
    pub receive_delay_ms: u8,
    /// PollTimeout: after so long a silence there is no friendship any more.
    pub poll_timeout: PollTimeout,
    /// How long it sleeps when there is nothing to be had: the longest that a message waits. Below the Poll Timeout;
    /// where that leaves no time for a few repetitions, it sleeps less.
    pub poll_interval: Duration,
}

/// Why there can be no friendship with some settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LowPowerSettingsError {
    /// Table 3.37.
    #[error("a Receive Delay of {0:?} cannot be asked for; it is 10 to 255 ms")]
    ReceiveDelay(Duration),
    /// Table 3.38.
    #[error("a Poll Timeout of {0:?} cannot be asked for; it is 1 s to 95 h 59 min 59.9 s")]
    PollTimeout(Duration),
    /// A node has to ask before the Poll Timeout (MshPRT §3.6.6.4.2).
    #[error(
        "a node that asks every {interval:?} loses a Friend with a Poll Timeout of {timeout:?} each time; shorten the interval or extend the timeout"
    )]
    PollInterval {
        /// How seldom it would ask.
        interval: Duration,
        /// PollTimeout.
        timeout: Duration,
    },
}

impl Default for LowPowerSettings {
    fn default() -> Self {
        Self {
            net_key_index: NetKeyIndex::ZERO,
            criteria: Criteria::new(0, 0, 5).unwrap_or_else(|| unreachable!("in range")),
            receive_delay_ms: 100,
            poll_timeout: PollTimeout::of(Duration::from_secs(60)),
            poll_interval: Duration::from_secs(10),
        }
    }
}

impl LowPowerSettings {
    /// The usual ones with other times; the Poll Timeout is rounded down to its steps of 100 ms.
    ///
    /// # Errors
    /// What is wrong with one of the times.
    pub fn with_times(
        receive_delay: Duration,
        poll_timeout: Duration,
        poll_interval: Duration,
    ) -> Result<Self, LowPowerSettingsError> {
        let delay = u8::try_from(receive_delay.as_millis());
        let receive_delay_ms = delay.map_err(|_| LowPowerSettingsError::ReceiveDelay(receive_delay))?;
        let steps = u32::try_from(poll_timeout.as_millis() / 100).ok().and_then(PollTimeout::new);
        let poll_timeout = steps.ok_or(LowPowerSettingsError::PollTimeout(poll_timeout))?;
        let settings = Self { receive_delay_ms, poll_timeout, poll_interval, ..Self::default() };
        settings.check().map(|()| settings)
    }

    /// Whether a friendship can be asked for so, and lasts.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), LowPowerSettingsError> {
        let (interval, timeout) = (self.poll_interval, self.poll_timeout.duration());
        if self.receive_delay_ms < MIN_RECEIVE_DELAY_MS {
            return Err(LowPowerSettingsError::ReceiveDelay(self.receive_delay()));
        }
        if interval >= timeout {
            return Err(LowPowerSettingsError::PollInterval { interval, timeout });
        }
        Ok(())
    }

    pub(super) fn receive_delay(&self) -> Duration {
        Duration::from_millis(self.receive_delay_ms.into())
    }
}
