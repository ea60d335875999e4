//! A Bluetooth Mesh node, from the bearer to the foundation models, without I/O.
