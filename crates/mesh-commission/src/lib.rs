//! The network database.
