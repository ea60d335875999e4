//! Key derivation, nonces, CCM and obfuscation of Bluetooth Mesh.
