//! Where randomness comes from when nobody hands in a seed.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A seed from the operating system. Everything random derives from a seed, so that a test which hands one in replays.
pub(crate) fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
