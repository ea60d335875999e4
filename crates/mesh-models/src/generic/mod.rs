//! The generic models (MMDL §3).

mod on_off;

pub use on_off::{
    ON_OFF_CLIENT, ON_OFF_CLIENT_OPCODES, ON_OFF_SERVER, OnOffGet, OnOffServer, OnOffSet, OnOffStatus,
};
