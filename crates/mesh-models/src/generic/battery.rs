use alloc::vec::Vec;

use clock::Instant;
use mesh_proto::access::{Context, Place, ReceivedMessage, Server};
use mesh_wire::access::Opcode;
use mesh_wire::{DecodeError, ModelId, Reader};

use crate::messages::{BATTERY_SERVER, BatteryGet};

/// Generic Battery Status: `Level:8 TimeToDischarge:24 TimeToCharge:24 Flags:8`, little-endian (MMDL §3.2.7.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatteryStatus {
    /// Charge, 0 to 100 %; `None`: unknown.
    pub level: Option<u8>,
    /// Minutes until it is empty; `None`: unknown.
    pub time_to_discharge: Option<u32>,
    /// Minutes until it is full; `None`: unknown.
    pub time_to_charge: Option<u32>,
    /// `presence:2 indicator:2 charging:2 serviceability:2` from the least significant bit (MMDL §3.1.6.4).
    pub flags: u8,
}

/// What stands for an unknown time.
const UNKNOWN_TIME: u32 = 0x00ff_ffff;

impl BatteryStatus {
    /// Its opcode.
    pub const OPCODE: Opcode = Opcode::Two(0x8224);

    /// Opcode and parameters. A level above 100 and times of more than 24 bits are said to be unknown.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = Self::OPCODE.with(&[self.level.filter(|&level| level <= 100).unwrap_or(0xff)]);
        for time in [self.time_to_discharge, self.time_to_charge] {
            let [a, b, c, _] = time.filter(|&time| time < UNKNOWN_TIME).unwrap_or(UNKNOWN_TIME).to_le_bytes();
            payload.extend([a, b, c]);
        }
        payload.push(self.flags);
        payload
    }

    /// Reads the parameters.
    ///
    /// # Errors
    /// When they have another length, or the level is prohibited.
    pub fn decode(parameters: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(parameters);
        let level = match reader.u8()? {
            0xff => None,
            level @ 0..=100 => Some(level),
            _ => return Err(DecodeError::Prohibited("Battery Level")),
        };
        let time = |time| (time != UNKNOWN_TIME).then_some(time);
        let time_to_discharge = time(reader.u24_le()?);
        let time_to_charge = time(reader.u24_le()?);
        let flags = reader.u8()?;
        reader.finish(Self { level, time_to_discharge, time_to_charge, flags })
    }
}

/// Generic Battery Server (MMDL §3.3.7).
#[derive(Clone, Debug, Default)]
pub struct BatteryServer {
    status: BatteryStatus,
}

impl BatteryServer {
    /// A server for a battery in this state.
    pub fn new(status: BatteryStatus) -> Self {
        Self { status }
    }

    /// Takes what the device measures of its battery, and publishes it when it is news.
    pub fn set_status(&mut self, status: BatteryStatus, context: &mut Context) {
        if self.status != status {
            self.status = status;
            context.changed();
            context.publish(Place::first(BATTERY_SERVER), status.encode());
        }
    }
}

impl Server for BatteryServer {
    fn models(&self) -> Vec<Place> {
        Vec::from([Place::first(BATTERY_SERVER)])
    }

    fn understands(&self, _model: ModelId, opcode: Opcode) -> bool {
        opcode == BatteryGet::OPCODE
    }

    fn handle_message(
        &mut self,
        _now: Instant,
        _place: Place,
        message: &ReceivedMessage,
        context: &mut Context,
    ) -> Result<(), DecodeError> {
        BatteryGet::decode(&message.parameters)?;
        context.reply(self.status.encode());
        Ok(())
    }

    fn status(&self, _now: Instant, _place: Place) -> Option<Vec<u8>> {
        Some(self.status.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_is_said_to_be() {
        let status =
            BatteryStatus { level: Some(93), time_to_discharge: Some(1), time_to_charge: None, flags: 0x2a };
        let payload = status.encode();
        assert_eq!(payload, [0x82, 0x24, 93, 1, 0, 0, 0xff, 0xff, 0xff, 0x2a]);
        assert_eq!(BatteryStatus::decode(&payload[2..]), Ok(status));
        let unknown =
            BatteryStatus { level: Some(101), time_to_charge: Some(1 << 24), ..BatteryStatus::default() };
        assert_eq!(BatteryStatus::decode(&unknown.encode()[2..]), Ok(BatteryStatus::default()));
        assert_eq!(
            BatteryStatus::decode(&[101, 0, 0, 0, 0, 0, 0, 0]),
            Err(DecodeError::Prohibited("Battery Level"))
        );
    }
}
