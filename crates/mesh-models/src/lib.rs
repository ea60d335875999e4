//! The models of the Bluetooth Mesh Model specification.
