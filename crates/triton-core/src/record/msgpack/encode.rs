//! Encodes values as payloads, and finds their partition keys.

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::record::{PartitionKey, PutEntry};

use super::{Scanner, Token, check};

/// Source of a stream's partition keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The value of this field of each record.
    Field(String),
    /// Random keys, which distribute the records over all shards. Their order is not kept.
    Random,
}

/// Encodes records of one stream as MessagePack maps and finds their partition keys.
///
/// A struct becomes a map of its field names, with the same bytes as by other MessagePack writers. Payloads are slices
/// of a shared buffer, so that a record needs no allocation of its own.
///
/// ```
/// use triton_core::record::{Encoder, KeySource};
///
/// #[derive(serde::Serialize)]
/// struct Click { user: u32, page: &'static str }
///
/// let mut encoder = Encoder::new("clicks", KeySource::Field("user".into()), 0);
/// let entry = encoder.encode(&Click { user: 7, page: "/" })?;
/// assert_eq!(entry.partition_key.as_str(), "7");
/// assert_eq!(&entry.data[..], b"\x82\xa4user\x07\xa4page\xa1/");
/// # Ok::<(), triton_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Encoder {
    stream: String,
    key: KeySource,
    buffer: BytesMut,
    random: StdRng,
}

/// Bytes of a shared buffer. A payload keeps the whole buffer in memory.
const BUFFER: usize = 64 << 10;

impl Encoder {
    /// An encoder for the stream of this logical name. Random keys are drawn from `seed`.
    pub fn new(stream: &str, key: KeySource, seed: u64) -> Self {
        Self { stream: stream.into(), key, buffer: BytesMut::new(), random: StdRng::seed_from_u64(seed) }
    }

    /// Encodes a map or struct, with a partition key from the stream's key source.
    ///
    /// Text and UTF-8 bytes are used as keys unchanged. Numbers and booleans are formatted as text (`7`, `-1`, `1.5`,
    /// `true`).
    ///
    /// # Errors
    /// [`Error::Encode`] if the value is not a map; [`Error::NoPartitionKey`] if the key's field is missing;
    /// [`Error::PartitionKeyType`] if it has another type; [`Error::PartitionKeyLength`].
    pub fn encode<T: Serialize + ?Sized>(&mut self, record: &T) -> Result<PutEntry> {
        let data = self.payload(record)?;
        let key = self.key_of(&data)?;
        Ok(PutEntry::new(key, data))
    }

    /// Encodes a map or struct, with the given partition key.
    ///
    /// # Errors
    /// [`Error::Encode`] if the value is not a map.
    pub fn encode_with_key<T: Serialize + ?Sized>(&mut self, record: &T, key: PartitionKey) -> Result<PutEntry> {
        Ok(PutEntry::new(key, self.payload(record)?))
    }

    /// Returns an entry for an encoded payload, with a partition key from the stream's key source.
    ///
    /// # Errors
    /// Those of [`encode`](Self::encode), and [`Error::Decode`] if the key is a field and the payload is not
    /// MessagePack.
    pub fn entry(&mut self, payload: Bytes) -> Result<PutEntry> {
        let key = self.key_of(&payload)?;
        Ok(PutEntry::new(key, payload))
    }

    fn payload<T: Serialize + ?Sized>(&mut self, record: &T) -> Result<Bytes> {
        if self.buffer.capacity() < BUFFER / 16 {
            self.buffer.reserve(BUFFER);
        }
        let mut serializer = rmp_serde::Serializer::new((&mut self.buffer).writer()).with_struct_map();
        if let Err(error) = record.serialize(&mut serializer) {
            self.buffer.clear();
            return Err(Error::Encode { problem: error.to_string() });
        }
        let payload = self.buffer.split().freeze();
        // The serializer does not limit the depth, but decoding does.
        check(&payload).map_err(|error| Error::Encode { problem: error.to_string() })?;
        match Scanner::new(&payload).token()? {
            Token::Map(_) => Ok(payload),
            other => Err(Error::Encode { problem: format!("it is {}, not a map", other.describe()) }),
        }
    }

    fn key_of(&mut self, payload: &Bytes) -> Result<PartitionKey> {
        let KeySource::Field(field) = &self.key else {
            let key = format!("{:032x}", self.random.random::<u128>());
            return PartitionKey::new(key);
        };
        let mut scanner = Scanner::new(payload);
        if let Token::Map(pairs) = scanner.token()? {
            for _ in 0..pairs {
                let name = scanner.token()?;
                if name == Token::Text(field.as_bytes()) {
                    return self.key_from(scanner.token()?, payload);
                }
                if matches!(name, Token::Array(_) | Token::Map(_)) {
                    return Err(Error::Encode { problem: format!("{} is the name of a field", name.describe()) });
                }
                scanner.skip_value()?;
            }
        }
        Err(Error::NoPartitionKey { field: field.clone(), stream: self.stream.clone(), present: fields(payload) })
    }

    fn key_from(&self, value: Token<'_>, payload: &Bytes) -> Result<PartitionKey> {
        let text = match value {
            // The key shares the payload's bytes.
            Token::Text(bytes) | Token::Binary(bytes) => match ByteString::try_from(payload.slice_ref(bytes)) {
                Ok(text) => text,
                Err(_) => return Err(self.no_key("bytes that are not UTF-8", payload)),
            },
            Token::Bool(value) => ByteString::from_static(if value { "true" } else { "false" }),
            Token::Unsigned(value) => value.to_string().into(),
            Token::Signed(value) => value.to_string().into(),
            Token::Float32(value) => format!("{value:?}").into(),
            Token::Float64(value) => format!("{value:?}").into(),
            other => return Err(self.no_key(other.describe(), payload)),
        };
        PartitionKey::new(text)
    }

    fn no_key(&self, found: &'static str, payload: &[u8]) -> Error {
        let field = match &self.key {
            KeySource::Field(field) => field.clone(),
            KeySource::Random => String::new(),
        };
        Error::PartitionKeyType { field, stream: self.stream.clone(), found, present: fields(payload) }
    }
}

/// Names of a record's fields that are text.
fn fields(payload: &[u8]) -> Vec<String> {
    let mut scanner = Scanner::new(payload);
    let Ok(Token::Map(pairs)) = scanner.token() else { return Vec::new() };
    let mut names = Vec::new();
    for _ in 0..pairs {
        match scanner.token() {
            Ok(Token::Text(name)) => names.push(String::from_utf8_lossy(name).into_owned()),
            Ok(Token::Array(_) | Token::Map(_)) | Err(_) => break,
            Ok(_) => {}
        }
        if scanner.skip_value().is_err() {
            break;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::msgpack::MAX_DEPTH;
    use serde_json::json;

    fn key_of(record: &impl Serialize) -> Result<PartitionKey> {
        let mut encoder = Encoder::new("clicks", KeySource::Field("user".into()), 0);
        encoder.encode(record).map(|entry| entry.partition_key)
    }

    #[test]
    fn keys_are_text_numbers_booleans_and_utf8_bytes() {
        #[derive(Serialize)]
        struct Bytes<'a> {
            #[serde(with = "serde_bytes")]
            user: &'a [u8],
        }
        let text = |record: &serde_json::Value| key_of(record).unwrap().to_string();
        assert_eq!(text(&json!({"a": [1, {"user": "no"}], "user": "日本"})), "日本");
        assert_eq!(text(&json!({"user": 7})), "7");
        assert_eq!(text(&json!({"user": u64::MAX})), "18446744073709551615");
        assert_eq!(text(&json!({"user": -7})), "-7");
        assert_eq!(text(&json!({"user": 1.0})), "1.0");
        assert_eq!(text(&json!({"user": true})), "true");
        assert_eq!(key_of(&Bytes { user: b"abc" }).unwrap().as_str(), "abc");
        assert!(matches!(key_of(&Bytes { user: b"\xff" }), Err(Error::PartitionKeyType { .. })));
    }

    #[test]
    fn an_error_about_the_key_field_lists_the_fields_present() {
        let message = |record: &serde_json::Value| key_of(record).unwrap_err().to_string();
        assert_eq!(message(&json!({"msg": 1, "ts": 2})), "no field 'user' (partition_key of 'clicks'); has: msg, ts");
        for (value, name) in [(json!(null), "null"), (json!({}), "a map"), (json!([]), "an array")] {
            assert_eq!(
                message(&json!({"msg": 1, "user": value})),
                format!(
                    "field 'user' (partition_key of 'clicks') is {name}, not text, a number or a boolean; has: msg, user"
                )
            );
        }
        assert!(matches!(key_of(&json!({"user": ""})), Err(Error::PartitionKeyLength { characters: 0 })));
    }

    #[test]
    fn a_value_that_is_not_a_map_is_refused_and_leaves_the_buffer_clean() {
        #[derive(Serialize)]
        struct Pair(u32, u32);
        let mut encoder = Encoder::new("clicks", KeySource::Random, 0);
        assert!(matches!(encoder.encode(&Pair(1, 2)), Err(Error::Encode { .. })));
        assert!(matches!(encoder.encode("text"), Err(Error::Encode { .. })));
        assert_eq!(&encoder.encode(&json!({"a": 1})).unwrap().data[..], b"\x81\xa1a\x01");
    }

    #[test]
    fn a_value_too_deep_to_decode_is_refused() {
        let nested = |levels: usize| (1..levels).fold(json!({}), |inner, _| json!({ "a": inner }));
        let mut encoder = Encoder::new("clicks", KeySource::Random, 0);
        let entry = encoder.encode(&nested(MAX_DEPTH)).unwrap();
        assert!(crate::record::decode_value(&entry.data).is_ok());
        let error = encoder.encode(&nested(MAX_DEPTH + 2)).unwrap_err();
        assert_eq!(error.to_string(), "the record cannot be encoded: nested deeper than 128 levels at 384");
    }

    #[test]
    fn random_keys_follow_from_the_seed() {
        let keys = |seed| {
            let mut encoder = Encoder::new("clicks", KeySource::Random, seed);
            [(); 3].map(|()| encoder.encode(&json!({})).unwrap().partition_key)
        };
        assert_eq!(keys(1), keys(1));
        assert_ne!(keys(1), keys(2));
        assert_ne!(keys(1)[0], keys(1)[1]);
    }

    #[test]
    fn payloads_in_a_shared_buffer_do_not_overlap() {
        let mut encoder = Encoder::new("clicks", KeySource::Field("n".into()), 0);
        let entries: Vec<_> =
            (0..20_000).map(|n| encoder.encode(&json!({"n": n, "pad": "x".repeat(n % 50)})).unwrap()).collect();
        for (n, entry) in entries.iter().enumerate() {
            assert_eq!(entry.partition_key.as_str(), n.to_string());
            let value: serde_json::Value = crate::record::decode(&entry.data).unwrap();
            assert_eq!(value["n"], n);
        }
    }
}
