//! What a stream is called: its name, or the ARN of another account's.

use triton_core::{Error, Result};

/// A stream as requests name it.
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
    /// Takes a name, or an ARN: `arn:aws:kinesis:REGION:ACCOUNT:stream/NAME`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if !text.starts_with("arn:") {
            return Ok(Self { name: text.to_owned(), arn: None });
        }
        let parts: Vec<&str> = text.split(':').collect();
        match parts[..] {
            ["arn", _, "kinesis", region, _, resource] if !region.is_empty() => {
                match resource.strip_prefix("stream/") {
                    Some(name) if !name.is_empty() && !name.contains('/') => {
                        let arn = Arn { text: text.to_owned(), region: region.to_owned() };
                        Ok(Self { name: name.to_owned(), arn: Some(arn) })
                    }
                    _ => Err(no_arn(text)),
                }
            }
            _ => Err(no_arn(text)),
        }
    }

    /// The stream's own name, without the rest of its ARN.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The region that its ARN is in.
    pub(crate) fn region(&self) -> Option<&str> {
        self.arn.as_ref().map(|arn| arn.region.as_str())
    }

    /// For a request's `StreamName`: a request has either this or an ARN.
    pub(crate) fn stream_name(&self) -> Option<String> {
        match self.arn {
            Some(_) => None,
            None => Some(self.name.clone()),
        }
    }

    /// For a request's `StreamARN`.
    pub(crate) fn stream_arn(&self) -> Option<String> {
        self.arn.as_ref().map(|arn| arn.text.clone())
    }
}

fn no_arn(text: &str) -> Error {
    let problem = format!("'{}' is no stream's ARN (arn:aws:kinesis:REGION:ACCOUNT:stream/NAME)", text.escape_debug());
    Error::Invalid { problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_says_region_and_name() {
        let arn = "arn:aws-cn:kinesis:cn-north-1:123456789012:stream/clicks";
        let stream_ref = StreamRef::parse(arn).unwrap();
        assert_eq!((stream_ref.name(), stream_ref.region()), ("clicks", Some("cn-north-1")));
        assert_eq!((stream_ref.stream_name(), stream_ref.stream_arn().as_deref()), (None, Some(arn)));
        let plain = StreamRef::parse("clicks").unwrap();
        assert_eq!((plain.stream_name().as_deref(), plain.stream_arn()), (Some("clicks"), None));
    }

    #[test]
    fn what_only_starts_as_an_arn_is_told() {
        for wrong in [
            "arn:",
            "arn:aws:kinesis:us-east-1:1:stream/",
            "arn:aws:kinesis:us-east-1:1:stream/a/consumer/b:1",
            "arn:aws:s3:us-east-1:1:stream/a",
            "arn:aws:kinesis::1:stream/a",
        ] {
            assert!(matches!(StreamRef::parse(wrong), Err(Error::Invalid { .. })), "{wrong}");
        }
    }
}
