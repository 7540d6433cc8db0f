//! What tests of backends and of programs are made with.

#[cfg(feature = "testing")]
pub mod conformance;
pub mod faulty;
#[cfg(feature = "mock")]
pub mod mock;
