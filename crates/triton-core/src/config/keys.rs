//! Checks that the keys and backends in a config are known.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::error::ConfigError;

use super::section::Section;
use super::similar::similar;
use super::yaml::Source;

/// The backends that are registered, and the keys that they read.
#[derive(Clone, Debug, Default)]
pub struct KnownKeys<'a> {
    /// The backends' names.
    pub backends: BTreeSet<&'a str>,
    /// The keys of all backends, without those that every stream has.
    pub keys: BTreeSet<&'a str>,
}

/// Checks the names in every section.
pub(super) fn check(source: &Source, known: &KnownKeys<'_>) -> Result<(), ConfigError> {
    let mut similar = None;
    let check = Check { known, level: Level::File, similar: &mut similar };
    match check.deserialize(serde_yaml::Deserializer::from_str(&source.text)) {
        Ok(_) => Ok(()),
        Err(error) => Err(ConfigError { similar, ..source.error(&error) }),
    }
}

/// Deserializes the file level by level, so that an error has the parser's line and column.
struct Check<'a, 'k> {
    known: &'a KnownKeys<'k>,
    level: Level,
    /// Set with an error: a known name of similar spelling.
    similar: &'a mut Option<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Level {
    File,
    Section,
    Key,
    BackendName,
}

impl<'k> Check<'_, 'k> {
    fn at(&mut self, level: Level) -> Check<'_, 'k> {
        Check { known: self.known, level, similar: self.similar }
    }

    fn keys(&self) -> impl Iterator<Item = &'k str> {
        Section::KEYS.into_iter().chain(self.known.keys.iter().copied())
    }

    /// The error of a name that is not among the known ones.
    fn refuse<E: serde::de::Error>(self, kind: &str, name: &str, known: BTreeSet<&str>) -> E {
        let similar = similar(name, known.iter().copied());
        let all = known.into_iter().collect::<Vec<_>>().join(", ");
        let problem = match &similar {
            Some(_) if self.level == Level::Key => format!("unknown {kind} '{}'", name.escape_debug()),
            _ => format!("unknown {kind} '{}' (known: {all})", name.escape_debug()),
        };
        *self.similar = similar;
        E::custom(problem)
    }
}

impl<'de> DeserializeSeed<'de> for Check<'_, '_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        match self.level {
            // An empty file has no streams.
            Level::File => deserializer.deserialize_option(self),
            Level::Section => deserializer.deserialize_map(self),
            Level::Key => deserializer.deserialize_str(self),
            // An explicit null is not a name.
            Level::BackendName => deserializer.deserialize_option(self),
        }
    }
}

impl<'de> Visitor<'de> for Check<'_, '_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.level {
            Level::File => "a map of stream names",
            Level::Section => "a stream: its name, partition_key and so on",
            Level::Key => "a key",
            Level::BackendName => "a backend's name",
        })
    }

    fn visit_none<E>(self) -> Result<String, E> {
        Ok(String::new())
    }

    fn visit_unit<E>(self) -> Result<String, E> {
        Ok(String::new())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        match self.level {
            Level::File | Level::Section => deserializer.deserialize_map(self),
            Level::Key | Level::BackendName => deserializer.deserialize_str(self),
        }
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<String, E> {
        match self.level {
            Level::Key if !self.keys().any(|known| known == name) => {
                let known = self.keys().collect();
                Err(self.refuse("key", name, known))
            }
            Level::BackendName if !self.known.backends.contains(name) => {
                let known = self.known.backends.clone();
                Err(self.refuse("backend", name, known))
            }
            _ => Ok(name.to_owned()),
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<String, A::Error> {
        if self.level == Level::File {
            while map.next_key::<IgnoredAny>()?.is_some() {
                map.next_value_seed(self.at(Level::Section))?;
            }
            return Ok(String::new());
        }
        let mut seen = BTreeSet::new();
        while let Some(key) = map.next_key_seed(self.at(Level::Key))? {
            match key.as_str() {
                "backend" => drop(map.next_value_seed(self.at(Level::BackendName))?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
            if let Some(key) = seen.replace(key) {
                return Err(A::Error::custom(format_args!("duplicate key '{key}'")));
            }
        }
        Ok(String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn check(text: &str) -> Result<(), (String, Option<String>)> {
        let known = KnownKeys {
            backends: ["kinesis", "local"].into(),
            keys: ["region", "path", "shards", "endpoint_url"].into(),
        };
        let checked = Config::parse(text, "/etc/triton.yaml").unwrap().check_keys(&known);
        checked.map_err(|error| match error {
            crate::Error::Config(error) => (error.to_string(), error.similar),
            other => panic!("{other}"),
        })
    }

    #[test]
    fn keys_of_another_backend_are_allowed() {
        let text = "a: {name: a, partition_key: null, shards: 4, path: /tmp, region: eu-west-1}\nb: {name: b, \
                    partition_key: c, backend: local, region: us-east-1}";
        assert_eq!(check(text), Ok(()));
        assert_eq!(check(""), Ok(()));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_column() {
        assert_eq!(
            check("a:\n  name: a\n  partition_key: b\n  regoin: c\n"),
            Err(("/etc/triton.yaml: line 4, column 3: a: unknown key 'regoin'".into(), Some("region".into())))
        );
        let known = "aggregate, backend, endpoint_url, name, partition_key, path, region, shards";
        assert_eq!(
            check("a:\n  name: a\n  partition_key: b\n  ttl: 1\n"),
            Err((format!("/etc/triton.yaml: line 4, column 3: a: unknown key 'ttl' (known: {known})"), None))
        );
        let (twice, _) = check("a:\n  name: a\n  partition_key: b\n  shards: 1\n  shards: 2\n").unwrap_err();
        assert!(twice.starts_with("/etc/triton.yaml: line 2, column 3: a: duplicate key 'shards'"), "{twice}");
    }

    #[test]
    fn an_unknown_backend_is_refused_with_the_known_ones() {
        assert_eq!(
            check("a:\n  name: a\n  partition_key: b\n  backend: redis\n"),
            Err((
                "/etc/triton.yaml: line 4, column 12: a.backend: unknown backend 'redis' (known: kinesis, local)"
                    .into(),
                None
            ))
        );
        let (_, similar) = check("a: {name: a, partition_key: b, backend: locl}").unwrap_err();
        assert_eq!(similar.as_deref(), Some("local"));
    }
}
