//! How a request names a stream: by its name, or by its ARN if another account owns it. Asks no server.

use crate::error::ConnectError;

/// A stream's name, and its ARN if it was given by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamRef {
    name: String,
    arn: Option<Arn>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Arn {
    text: String,
    region: String,
}

impl StreamRef {
    /// Parses a name, or an ARN: `arn:aws:kinesis:REGION:ACCOUNT:stream/NAME`. Every text that does not start with
    /// `arn:` is a name.
    pub(crate) fn parse(text: &str) -> Result<Self, ConnectError> {
        if !text.starts_with("arn:") {
            return Ok(Self { name: text.to_owned(), arn: None });
        }
        let invalid = || ConnectError::InvalidArn { arn: text.to_owned() };
        let parts: Vec<&str> = text.split(':').collect();
        let ["arn", _, "kinesis", region, _, resource] = parts[..] else { return Err(invalid()) };
        let name = resource.strip_prefix("stream/").filter(|name| !name.is_empty() && !name.contains('/'));
        match name {
            Some(name) if !region.is_empty() => {
                let arn = Arn { text: text.to_owned(), region: region.to_owned() };
                Ok(Self { name: name.to_owned(), arn: Some(arn) })
            }
            _ => Err(invalid()),
        }
    }

    /// The stream's name, without the rest of its ARN.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The ARN's region.
    pub(crate) fn region(&self) -> Option<&str> {
        self.arn.as_ref().map(|arn| arn.region.as_str())
    }

    /// The `StreamName` of requests; `None` if they have an ARN instead.
    pub(crate) fn stream_name(&self) -> Option<String> {
        self.arn.is_none().then(|| self.name.clone())
    }

    /// The `StreamARN` of requests.
    pub(crate) fn stream_arn(&self) -> Option<String> {
        self.arn.as_ref().map(|arn| arn.text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_has_region_and_name() {
        let arn = "arn:aws-cn:kinesis:cn-north-1:123456789012:stream/clicks";
        let stream_ref = StreamRef::parse(arn).unwrap();
        assert_eq!((stream_ref.name(), stream_ref.region()), ("clicks", Some("cn-north-1")));
        assert_eq!((stream_ref.stream_name(), stream_ref.stream_arn().as_deref()), (None, Some(arn)));
        let plain = StreamRef::parse("clicks").unwrap();
        assert_eq!((plain.stream_name().as_deref(), plain.stream_arn()), (Some("clicks"), None));
    }

    #[test]
    fn text_that_only_starts_as_an_arn_is_an_error() {
        for wrong in [
            "arn:",
            "arn:aws:kinesis:us-east-1:1:stream/",
            "arn:aws:kinesis:us-east-1:1:stream/a/consumer/b:1",
            "arn:aws:s3:us-east-1:1:stream/a",
            "arn:aws:kinesis::1:stream/a",
        ] {
            assert_eq!(StreamRef::parse(wrong), Err(ConnectError::InvalidArn { arn: wrong.into() }));
        }
    }
}
