//! The generic models (MMDL §3).

mod battery;
pub(crate) mod level;
mod on_off;
mod outlet;
pub(crate) mod power;

pub use battery::{BatteryServer, BatteryStatus};
pub use level::LevelServer;
pub(crate) use on_off::ON_OFF_OPCODES;
pub use on_off::OnOffServer;
pub use outlet::Outlet;
pub use power::OnPowerUp;
