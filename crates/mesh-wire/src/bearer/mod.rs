//! What bearers carry: AD structures of the advertising bearer, the transactions of PB-ADV on it, and the PDUs of
//! the Proxy protocol on a GATT connection.

mod advertising;
pub mod pb_adv;
pub mod proxy;
pub mod proxy_service;

pub use advertising::{AdType, MAX_DATA};
