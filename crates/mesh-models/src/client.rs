//! The client models: what each understands. Their host decodes the messages, with [`crate::messages`].

use mesh_wire::ModelId;
use mesh_wire::access::Opcode;

use crate::generic::BatteryStatus;
use crate::messages::{
    BATTERY_CLIENT, CTL_CLIENT, CtlDefaultStatus, CtlStatus, CtlTemperatureRangeStatus, CtlTemperatureStatus,
    DEFAULT_TRANSITION_TIME_CLIENT, DefaultTransitionTimeStatus, HSL_CLIENT, HslDefaultStatus, HslHueStatus,
    HslRangeStatus, HslSaturationStatus, HslStatus, HslTargetStatus, LEVEL_CLIENT, LIGHTNESS_CLIENT,
    LevelStatus, LightnessDefaultStatus, LightnessLastStatus, LightnessLinearStatus, LightnessRangeStatus,
    LightnessStatus, ON_OFF_CLIENT, OnOffStatus, OnPowerUpStatus, POWER_ON_OFF_CLIENT,
};
use crate::sensor::{
    SENSOR_CLIENT, SensorCadenceStatus, SensorColumnStatus, SensorDescriptorStatus, SensorSeriesStatus,
    SensorSettingStatus, SensorSettingsStatus, SensorStatus,
};

/// The client models with what they understand.
pub const CLIENTS: [(ModelId, &[Opcode]); 9] = [
    (ON_OFF_CLIENT, &[OnOffStatus::OPCODE]),
    (LEVEL_CLIENT, &[LevelStatus::OPCODE]),
    (DEFAULT_TRANSITION_TIME_CLIENT, &[DefaultTransitionTimeStatus::OPCODE]),
    (POWER_ON_OFF_CLIENT, &[OnPowerUpStatus::OPCODE]),
    (BATTERY_CLIENT, &[BatteryStatus::OPCODE]),
    (
        SENSOR_CLIENT,
        &[
            SensorDescriptorStatus::OPCODE,
            SensorStatus::OPCODE,
            SensorColumnStatus::OPCODE,
            SensorSeriesStatus::OPCODE,
            SensorCadenceStatus::OPCODE,
            SensorSettingsStatus::OPCODE,
            SensorSettingStatus::OPCODE,
        ],
    ),
    (
        LIGHTNESS_CLIENT,
        &[
            LightnessStatus::OPCODE,
            LightnessLinearStatus::OPCODE,
            LightnessLastStatus::OPCODE,
            LightnessDefaultStatus::OPCODE,
            LightnessRangeStatus::OPCODE,
        ],
    ),
    (
        CTL_CLIENT,
        &[
            CtlStatus::OPCODE,
            CtlTemperatureStatus::OPCODE,
            CtlTemperatureRangeStatus::OPCODE,
            CtlDefaultStatus::OPCODE,
        ],
    ),
    (
        HSL_CLIENT,
        &[
            HslStatus::OPCODE,
            HslTargetStatus::OPCODE,
            HslHueStatus::OPCODE,
            HslSaturationStatus::OPCODE,
            HslDefaultStatus::OPCODE,
            HslRangeStatus::OPCODE,
        ],
    ),
];

/// What a client model understands; nothing, if it is none of this crate's.
pub fn opcodes(client: ModelId) -> &'static [Opcode] {
    CLIENTS.iter().find(|(id, _)| *id == client).map_or(&[], |(_, opcodes)| opcodes)
}
