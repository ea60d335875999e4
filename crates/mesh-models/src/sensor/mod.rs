//! Sensors (MMDL §4): what they measure, how often they say it, and the properties with their units.
//!
//! A measurement is of a device property, which the table of [`PropertyId`] tells how to read. What is not in it is
//! carried as it came.

mod cadence;
mod descriptor;
mod format;
mod measurement;
mod properties;
mod property;
mod series;
mod server;
mod settings;

pub use crate::messages::{
    SENSOR_CLIENT, SENSOR_SERVER, SENSOR_SETUP_SERVER, SensorCadenceGet, SensorDescriptorGet, SensorGet,
    SensorSettingGet, SensorSettingsGet,
};
pub use cadence::{Cadence, SensorCadenceSet, SensorCadenceStatus, Trigger};
pub use descriptor::{SamplingFunction, SensorDescriptor, SensorDescriptorStatus};
pub use format::{Format, Integer, TimeExponential, Value};
pub use measurement::{Measurement, Reading, SensorStatus};
pub use property::{Characteristic, Field, Property, PropertyId};
pub use series::{SensorColumn, SensorColumnGet, SensorColumnStatus, SensorSeriesGet, SensorSeriesStatus};
pub use server::{Sensor, SensorServer};
pub use settings::{SensorSettingSet, SensorSettingStatus, SensorSettingsStatus, SettingAccess};
