use core::fmt;

use crate::kdf;

/// 128 bits of key material, before it is said what for.
pub type Key128 = [u8; 16];

macro_rules! key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name(Key128);

        impl $name {
            /// Takes 16 octets, in the order in which the specification prints them.
            pub const fn new(key: Key128) -> Self {
                Self(key)
            }

            /// The octets, for a store or a cipher; never for a log.
            pub const fn as_bytes(&self) -> &Key128 {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

key! {
    /// A network key: who has it belongs to the subnet (MshPRT §3.9.6.3).
    NetKey
}
key! {
    /// An application key: who has it takes part in an application (MshPRT §3.9.6.2).
    AppKey
}
key! {
    /// A device key: known to one node and to the Configuration Client (MshPRT §3.9.6.1).
    DevKey
}

impl NetKey {
    /// The Network ID, a public name of the subnet: k3 (MshPRT §3.9.6.3.2).
    pub fn network_id(&self) -> [u8; 8] {
        kdf::k3(&self.0)
    }

    /// IdentityKey, for Node Identity advertising (MshPRT §3.9.6.3.3).
    pub fn identity_key(&self) -> Key128 {
        self.derive(b"nkik")
    }

    /// BeaconKey, for the Secure Network beacon (MshPRT §3.9.6.3.4).
    pub fn beacon_key(&self) -> Key128 {
        self.derive(b"nkbk")
    }

    /// PrivateBeaconKey, for the Mesh Private beacon (MshPRT §3.9.6.3.5).
    pub fn private_beacon_key(&self) -> Key128 {
        self.derive(b"nkpk")
    }

    fn derive(&self, label: &[u8]) -> Key128 {
        kdf::k1(&self.0, &kdf::s1(label), b"id128\x01")
    }
}

impl AppKey {
    /// AID, the 6-bit hint in a message of which key secured it: k4 (MshPRT §3.9.6.2).
    pub fn aid(&self) -> u8 {
        kdf::k4(&self.0)
    }
}

/// A Label UUID: the full name behind a virtual address (MshPRT §3.4.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LabelUuid(pub [u8; 16]);

impl LabelUuid {
    /// The 16-bit virtual address, 0x8000 to 0xBFFF; 14 bits of a hash, so that several labels share one.
    pub fn hash(&self) -> u16 {
        let hash = kdf::cmac(&kdf::s1(b"vtad"), &[&self.0]);
        0x8000 | (u16::from_be_bytes([hash[14], hash[15]]) & 0x3fff)
    }
}
