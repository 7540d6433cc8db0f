//! Invalid options of a connection, found before anything is sent.

use triton_core::Error;

/// Why a connection cannot be made from its options.
///
/// `Display` is one lower-case sentence. Invalid text from outside is escaped in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The region is empty, or has characters that no region has.
    #[error("'{}' is not an AWS region", region.escape_debug())]
    InvalidRegion {
        /// The region as given.
        region: String,
    },

    /// The endpoint is not a URL with a host, or its scheme is neither `http` nor `https`.
    #[error("endpoint '{}' is not an http or https URL", endpoint.escape_debug())]
    InvalidEndpoint {
        /// The endpoint as given.
        endpoint: String,
    },

    /// The endpoint is plain HTTP to another machine, and the options do not allow that.
    #[error("endpoint {endpoint} is plain HTTP to another machine, which anyone on the network can read")]
    InsecureEndpoint {
        /// The endpoint as given.
        endpoint: String,
    },

    /// The stream's name starts with `arn:`, and is not the ARN of a Kinesis stream.
    #[error("'{}' is not the ARN of a stream (arn:aws:kinesis:REGION:ACCOUNT:stream/NAME)", arn.escape_debug())]
    InvalidArn {
        /// The name as given.
        arn: String,
    },
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::InsecureEndpoint { endpoint } => Self::InsecureEndpoint { url: endpoint },
            error => Self::Invalid { problem: error.to_string() },
        }
    }
}
