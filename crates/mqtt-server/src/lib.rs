//! Listeners, shards on threads, and the embedding API of the broker.
