//! The one source of randomness.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Returns a seed from the operating system. Every random decision derives from a seed, so that a test that passes one in
/// replays.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
