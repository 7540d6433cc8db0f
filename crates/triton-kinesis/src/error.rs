//! Maps the SDK's errors and Kinesis' error codes to Triton's: the one place that knows them. Whether to retry is the
//! caller's decision.

mod connect;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kinesis::config::http::HttpResponse;
use aws_sdk_kinesis::error::{ConnectorError, ProvideErrorMetadata, SdkError};
use triton_core::{Cause, Error, ShardId};

pub use self::connect::ConnectError;

/// The subject of a call, for its error messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallContext<'a> {
    /// The region, and the endpoint if there is one.
    pub(crate) location: &'a str,
    /// The places searched for credentials.
    pub(crate) credentials: &'a str,
    /// The stream's name; empty for a call about no stream.
    pub(crate) stream: &'a str,
    /// The shard; `None` for a call about no shard.
    pub(crate) shard: Option<&'a ShardId>,
    /// Whether the call may have changed something if there was no response.
    pub(crate) writes: bool,
}

impl CallContext<'_> {
    /// Maps the error of a call.
    pub(crate) fn error<E>(&self, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let status = error.raw_response().map(|raw| raw.status().as_u16());
        match &error {
            SdkError::ServiceError(service) => match service.err().code() {
                Some(code) => match self.code_error(code, service.err().message().unwrap_or(code)) {
                    // For an unknown code, the status tells a server's failure from a wrong request.
                    Error::Invalid { problem } if status.is_some_and(|status| status >= 500) => {
                        self.unavailable(problem, None)
                    }
                    refused => refused,
                },
                None => self.status_error(status, &error),
            },
            SdkError::TimeoutError(_) => self.unavailable(format!("{} did not answer in time", self.server()), None),
            SdkError::DispatchFailure(failure) => self.dispatch_failure(failure.as_connector_error(), &error),
            SdkError::ResponseError(_) => self.status_error(status, &error),
            _ => Error::Invalid { problem: format!("the request cannot be made: {}", innermost(&error)) },
        }
    }

    /// Maps a response without a Kinesis error code, such as a proxy's, or a truncated one.
    fn status_error(&self, status: Option<u16>, error: &(dyn StdError + 'static)) -> Error {
        match status {
            Some(429) => Error::Throttled { problem: format!("{} answered with HTTP status 429", self.server()) },
            Some(status @ 400..500) if status != 408 => {
                Error::Invalid { problem: format!("{} answered with HTTP status {status}", self.server()) }
            }
            Some(status @ 500..) => {
                self.unavailable(format!("{} answered with HTTP status {status}", self.server()), None)
            }
            _ => self.unavailable(format!("the response of {} cannot be read", self.server()), Some(innermost(error))),
        }
    }

    /// Maps an error code of a call, or of one entry of PutRecords.
    pub(crate) fn code_error(&self, code: &str, message: &str) -> Error {
        let problem = message.to_owned();
        // Some servers send a namespace before the name, or omit its suffix.
        let code = code.rsplit('#').next().unwrap_or(code);
        match code.strip_suffix("Exception").unwrap_or(code) {
            "ProvisionedThroughputExceeded"
            | "LimitExceeded"
            | "KMSThrottling"
            | "Throttling"
            | "RequestLimitExceeded"
            | "TooManyRequests"
            | "SlowDown" => Error::Throttled { problem },
            "ResourceNotFound" => match self.shard {
                Some(shard) => Error::ShardNotFound { shard: shard.clone(), stream: self.stream.into() },
                None => Error::StreamNotFound { stream: self.stream.into(), location: self.location.into() },
            },
            "ExpiredIterator" => Error::IteratorExpired { shard: self.shard.cloned().unwrap_or_else(|| "?".into()) },
            "AccessDenied" | "KMSAccessDenied" | "NotAuthorized" | "OptInRequired" => Error::AccessDenied { problem },
            "ExpiredToken"
            | "UnrecognizedClient"
            | "InvalidClientTokenId"
            | "InvalidSignature"
            | "SignatureDoesNotMatch"
            | "MissingAuthenticationToken"
            | "IncompleteSignature"
            | "InvalidAccessKeyId"
            | "RequestExpired"
            | "RequestTimeTooSkewed" => {
                let problem =
                    format!("{} does not take the AWS credentials found ({})", self.server(), self.credentials);
                Error::Credentials { problem, source: Some(Reason::cause(message)) }
            }
            "KMSDisabled" | "KMSInvalidState" | "KMSNotFound" | "KMSOptInRequired" => Error::EncryptionKey { problem },
            "ResourceInUse" => Error::Unavailable {
                problem: format!("stream '{}' is being made, changed or deleted: {problem}", self.stream),
                may_have_written: false,
                source: None,
            },
            "InternalFailure" | "InternalServer" | "InternalServerError" | "ServiceUnavailable" | "RequestTimeout" => {
                self.unavailable(
                    format!("{} failed: {code}", self.server()),
                    (message != code).then(|| Reason::new(message)),
                )
            }
            "InvalidArgument" | "Validation" | "Serialization" => Error::Invalid { problem },
            _ => Error::Invalid { problem: format!("{} refuses this: {code}: {message}", self.server()) },
        }
    }

    /// The error of an empty response. The SDK parses an empty body as a response without any field: no results, no
    /// records, and no iterator, which would mean the end of a shard.
    pub(crate) fn empty_response(&self) -> Error {
        self.unavailable(format!("the response of {} is empty", self.server()), None)
    }

    /// There is no usable response, so that the outcome is unknown.
    fn unavailable(&self, problem: String, reason: Option<Reason>) -> Error {
        Error::Unavailable {
            problem,
            may_have_written: self.writes,
            source: reason.map(|reason| Arc::new(reason) as Cause),
        }
    }

    /// A connection broke while it was read.
    pub(crate) fn connection_lost(&self, error: &(dyn StdError + 'static)) -> Error {
        self.unavailable(format!("the connection to {} was lost", self.server()), Some(innermost(error)))
    }

    fn dispatch_failure(&self, connector: Option<&ConnectorError>, error: &(dyn StdError + 'static)) -> Error {
        if let Some(credentials) = find::<CredentialsError>(error) {
            return self.credentials_error(credentials);
        }
        if connector.is_some_and(ConnectorError::is_user) {
            return Error::Invalid { problem: format!("the request cannot be made: {}", innermost(error)) };
        }
        let never_sent = find::<hyper_util::client::legacy::Error>(error).is_some_and(|error| error.is_connect());
        let timed_out = connector.is_some_and(ConnectorError::is_timeout);
        let problem = match (never_sent, timed_out) {
            (true, _) => format!("{} cannot be reached", self.server()),
            // The read timeout, which is as long as the attempt's.
            (false, true) => format!("{} did not answer in time", self.server()),
            (false, false) => format!("the connection to {} was lost", self.server()),
        };
        Error::Unavailable {
            problem,
            may_have_written: self.writes && !never_sent,
            source: Some(Arc::new(innermost(error))),
        }
    }

    fn credentials_error(&self, error: &CredentialsError) -> Error {
        match error {
            CredentialsError::CredentialsNotLoaded(_) => {
                Error::Credentials { problem: format!("no AWS credentials found ({})", self.credentials), source: None }
            }
            CredentialsError::ProviderTimedOut(_) => Error::Unavailable {
                problem: "the AWS credentials did not come in time".into(),
                may_have_written: false,
                source: Some(Arc::new(innermost(error))),
            },
            _ => Error::Credentials {
                problem: format!("AWS credentials cannot be loaded ({})", self.credentials),
                source: Some(Arc::new(innermost(error))),
            },
        }
    }

    fn server(&self) -> String {
        format!("Kinesis in {}", self.location)
    }
}

/// A response that Kinesis never sends, by its documentation.
pub(crate) fn contract_violation(problem: &str) -> Error {
    Error::Contract { backend: "Kinesis".into(), problem: problem.to_owned() }
}

/// An account's quota of shards, consumers or changes is used up. Waiting does not help, unlike with throttling.
pub(crate) fn quota_exceeded(error: &impl ProvideErrorMetadata) -> Error {
    Error::Invalid { problem: error.message().unwrap_or("the account's quota does not allow this").to_owned() }
}

/// The message of the innermost error. The layers above it only repeat that there was one.
#[derive(Debug)]
struct Reason(String);

impl Reason {
    fn new(message: &str) -> Self {
        Self(message.to_owned())
    }

    fn cause(message: &str) -> Cause {
        Arc::new(Self::new(message))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Reason {}

/// The shard that a refused sequence number belongs to, if the refusal names it: a wrong position, not one past retention.
/// Kinesis reports both as InvalidArgumentException, and only the message tells them apart.
pub(crate) fn shard_of_refused(refused: &Error) -> Option<&str> {
    let Error::Invalid { problem } = refused else { return None };
    let (_, rest) = problem.split_once("It encodes ")?;
    rest.split(',').next().filter(|shard| shard.starts_with("shardId-"))
}

/// What is wrong with a sequence number that was refused as a position, and is not past retention.
pub(crate) fn problem_of_refused(refused: &Error) -> String {
    match (shard_of_refused(refused), refused) {
        (Some(shard), _) => format!("Kinesis reads it as a sequence number of {shard}"),
        (None, Error::Invalid { problem }) if problem.contains("did not come from this stream") => {
            "it is another stream's, or it is ahead of the shard's last record".into()
        }
        (None, Error::Invalid { problem }) if problem.ends_with("is invalid.") => {
            "it is not a sequence number of Kinesis".into()
        }
        (None, _) => format!("Kinesis refuses it: {refused}"),
    }
}

fn innermost(error: &(dyn StdError + 'static)) -> Reason {
    let last = chain(error).last().unwrap_or(error);
    Reason(last.to_string())
}

fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    chain(error).find_map(|error| error.downcast_ref())
}

fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
