//! The sections of the file, with the keys that every stream has.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::yaml::duplicate;

/// The keys that every stream has.
#[derive(Deserialize)]
#[serde(expecting = "a stream: its name, partition_key and so on")]
pub(super) struct Section {
    #[serde(deserialize_with = "text")]
    pub(super) name: String,
    // Otherwise serde reads a missing key as null. A missing key is an error; null means random keys.
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) partition_key: Option<String>,
    pub(super) backend: Option<String>,
    #[serde(default)]
    pub(super) aggregate: bool,
}

impl Section {
    /// The names of the fields above, as the file spells them.
    pub(super) const KEYS: [&str; 4] = ["name", "partition_key", "backend", "aggregate"];

    /// The first problem of the values; `None` if they are valid.
    pub(super) fn problem(&self) -> Option<&'static str> {
        if self.name.is_empty() {
            return Some("name is empty");
        }
        if self.partition_key.as_deref() == Some("") {
            return Some("partition_key is empty (write null for random keys)");
        }
        None
    }
}

/// Text; serde_yaml reads a null as the text `null`.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<String, D::Error> {
    Option::deserialize(deserializer)?.ok_or_else(|| D::Error::custom("null is not a name"))
}

/// The file's map; unlike serde's own, it refuses duplicate names.
pub(super) struct Streams(pub(super) BTreeMap<String, Section>);

impl<'de> Deserialize<'de> for Streams {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct StreamsVisitor;
        impl<'de> Visitor<'de> for StreamsVisitor {
            type Value = Streams;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of stream names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Streams, A::Error> {
                let mut streams = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if streams.contains_key(&name) {
                        return Err(serde::de::Error::custom(duplicate(&name)));
                    }
                    streams.insert(name, map.next_value()?);
                }
                Ok(Streams(streams))
            }
        }
        deserializer.deserialize_map(StreamsVisitor)
    }
}
