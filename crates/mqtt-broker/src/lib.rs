//! A shard of the broker as a state machine.
