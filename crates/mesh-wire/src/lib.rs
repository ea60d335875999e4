//! Every PDU of the Mesh Protocol: bytes to types and back.
