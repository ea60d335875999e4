//! A seeded radio world in real or virtual time.
