//! Test support: the conformance suite for backends, injected faults for any backend, mocks for unit tests.
//!
//! Feature `testing`: [`conformance`] and [`FaultyClient`]. Feature `mock`: `mock`. Neither belongs in a program.

#[cfg(feature = "testing")]
pub mod conformance;
#[cfg(feature = "testing")]
mod fault;
#[cfg(feature = "testing")]
mod faulty_client;
#[cfg(feature = "testing")]
mod list_fault;
#[cfg(feature = "mock")]
pub mod mock;

#[cfg(feature = "testing")]
pub use self::fault::{Call, Fault, Faults, InjectedFaults};
#[cfg(feature = "testing")]
pub use self::faulty_client::FaultyClient;
#[cfg(feature = "testing")]
pub use self::list_fault::ListFault;
