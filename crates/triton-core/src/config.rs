//! The config file: logical stream names, and what each stands for.
//!
//! ```yaml
//! my_stream:                 # the logical name, which programs and the command use
//!   name: my_stream_v2       # the real stream
//!   partition_key: value     # the field whose value chooses the shard; null: keys chosen at random
//!   region: us-west-1        # optional
//!   backend: local           # optional: local | kinesis (the default)
//!   shards: 4                # optional: how many, when a local stream is first used
//!   path: /var/lib/triton    # optional: the folder of local streams; relative to the config file's
//!   endpoint_url: http://…   # optional: another Kinesis-compatible server
//!   aggregate: true          # optional: pack records together, as the Kinesis Producer Library does
//! ```
//!
//! Keys that belong to the other backend may stay, so that going live is deleting one line.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::error::{ConfigError, Error, Result};
use crate::record::KeySource;

/// The largest config file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Every stream of a config file.
///
/// ```
/// use triton_core::{Backend, Config};
///
/// let config = Config::parse("clicks: {name: clicks_v2, partition_key: user, backend: local}", "triton.yaml")?;
/// let clicks = config.stream("clicks")?;
/// assert_eq!((clicks.name.as_str(), clicks.backend), ("clicks_v2", Backend::Local));
/// assert_eq!(config.stream("clikcs").unwrap_err().to_string(), "no stream 'clikcs' in triton.yaml");
/// # Ok::<(), triton_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    file: PathBuf,
    streams: BTreeMap<String, StreamConfig>,
}

/// What a logical stream stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamConfig {
    /// The logical name: the key in the config file.
    pub logical_name: String,
    /// The real stream's name.
    pub name: String,
    /// Where its records' partition keys come from.
    pub partition_key: KeySource,
    /// The system that holds the stream.
    pub backend: Backend,
    /// The AWS region, where the config gives one.
    pub region: Option<String>,
    /// Another Kinesis-compatible server.
    pub endpoint_url: Option<String>,
    /// The folder of local streams, where the config gives one.
    pub path: Option<PathBuf>,
    /// How many shards a local stream gets when it is first used.
    pub shards: usize,
    /// Whether records of one shard are put in aggregates, in the Kinesis Producer Library's format.
    pub aggregate: bool,
}

/// A system that holds streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Backend {
    /// AWS Kinesis, or a server that speaks its protocol.
    #[default]
    Kinesis,
    /// SQLite files on this machine.
    Local,
}

impl StreamConfig {
    /// A local stream of one shard with keys chosen at random: what an unconfigured stream is.
    pub fn local(name: &str) -> Self {
        Self {
            logical_name: name.into(),
            name: name.into(),
            partition_key: KeySource::Random,
            backend: Backend::Local,
            region: None,
            endpoint_url: None,
            path: None,
            shards: 1,
            aggregate: false,
        }
    }
}

impl Config {
    /// Reads a config file.
    ///
    /// # Errors
    /// [`Error::Config`] where the file cannot be read, is over 1 MiB, is no YAML, or says what is not known: with line
    /// and column where there is such a place.
    pub fn load(file: impl AsRef<Path>) -> Result<Self> {
        let file = file.as_ref();
        let unreadable = |error: std::io::Error| {
            let problem = match error.kind() {
                std::io::ErrorKind::NotFound => "no such file".into(),
                _ => format!("cannot be read ({error})"),
            };
            ConfigError { file: file.into(), place: None, problem }
        };
        let mut bytes = Vec::new();
        let opened = std::fs::File::open(file).map_err(unreadable)?;
        opened.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        let text = String::from_utf8(bytes).map_err(|_| ConfigError {
            file: file.into(),
            place: None,
            problem: "not UTF-8 text".into(),
        })?;
        Self::parse(&text, file)
    }

    /// Parses the text of a config file; `file` is its name in errors.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(text: &str, file: impl Into<PathBuf>) -> Result<Self> {
        let file = file.into();
        if text.len() as u64 > MAX_BYTES {
            return Err(ConfigError { file, place: None, problem: "over 1 MiB, which is no config".into() }.into());
        }
        let streams: Option<Streams> = match serde_yaml::from_str(text) {
            Ok(streams) => streams,
            Err(error) => return Err(from_yaml(&error, file, text).into()),
        };
        let streams = streams.map(|Streams(streams)| streams).unwrap_or_default();
        for (stream, entry) in &streams {
            if let Some(problem) = entry.problem() {
                let place = place_of_key(text, stream, 1);
                return Err(ConfigError { file, place, problem: format!("{stream}: {problem}") }.into());
            }
        }
        let folder = file.parent().unwrap_or(Path::new(""));
        let streams =
            streams.into_iter().map(|(stream, entry)| (stream.clone(), entry.resolve(stream, folder))).collect();
        Ok(Self { file, streams })
    }

    /// The file that was read.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Every stream, sorted by logical name.
    pub fn streams(&self) -> impl Iterator<Item = &StreamConfig> {
        self.streams.values()
    }

    /// The stream of this logical name.
    ///
    /// # Errors
    /// [`Error::UnknownStream`], with a name that is spelled much the same where there is one.
    pub fn stream(&self, logical_name: &str) -> Result<&StreamConfig> {
        self.streams.get(logical_name).ok_or_else(|| {
            let similar = self
                .streams
                .keys()
                .map(|name| (strsim::jaro_winkler(name, logical_name), name))
                .filter(|(similarity, _)| *similarity > 0.8)
                .max_by(|a, b| a.0.total_cmp(&b.0))
                .map(|(_, name)| name.clone());
            Error::UnknownStream { stream: logical_name.into(), file: self.file.clone(), similar }
        })
    }
}

/// A stream as the file writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a stream: its name, partition_key and so on")]
struct Entry {
    name: String,
    // Without this, serde would take a missing key for a null, and the one is an error and the other a choice.
    #[serde(deserialize_with = "Option::deserialize")]
    partition_key: Option<String>,
    #[serde(default)]
    backend: Backend,
    region: Option<String>,
    endpoint_url: Option<String>,
    path: Option<PathBuf>,
    shards: Option<usize>,
    #[serde(default)]
    aggregate: bool,
}

impl Entry {
    fn problem(&self) -> Option<&'static str> {
        if self.name.is_empty() {
            return Some("name is empty");
        }
        match (&self.partition_key, self.shards) {
            (Some(field), _) if field.is_empty() => Some("partition_key is empty (null: keys chosen at random)"),
            (_, Some(0)) => Some("shards is 0"),
            _ => None,
        }
    }

    fn resolve(self, logical_name: String, folder: &Path) -> StreamConfig {
        StreamConfig {
            logical_name,
            name: self.name,
            partition_key: self.partition_key.map_or(KeySource::Random, KeySource::Field),
            backend: self.backend,
            region: self.region,
            endpoint_url: self.endpoint_url,
            path: self.path.map(|path| folder.join(path)),
            shards: self.shards.unwrap_or(1),
            aggregate: self.aggregate,
        }
    }
}

/// The file's map; unlike serde's own, it refuses a name that comes twice.
struct Streams(BTreeMap<String, Entry>);

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
                        return Err(serde::de::Error::custom(format_args!("{DUPLICATE}{name}'")));
                    }
                    streams.insert(name, map.next_value()?);
                }
                Ok(Streams(streams))
            }
        }
        deserializer.deserialize_map(StreamsVisitor)
    }
}

const DUPLICATE: &str = "duplicate stream name '";

/// serde_yaml's words with its place taken out of them.
fn from_yaml(error: &serde_yaml::Error, file: PathBuf, text: &str) -> ConfigError {
    let message = error.to_string();
    let words = message.rsplit_once(" at line ").map_or(message.as_str(), |(words, _)| words);
    let place = match words.strip_prefix(DUPLICATE).and_then(|rest| rest.strip_suffix('\'')) {
        // The map is known to the parser as a whole, so its own place would be the file's first line.
        Some(name) => place_of_key(text, name, 2),
        None => error.location().map(|location| (location.line(), location.column())),
    };
    ConfigError { file, place, problem: words.replace(" in this context", " here") }
}

/// Line and column of the `nth` line that starts with a top-level key, for faults that the parser has no place for.
fn place_of_key(text: &str, key: &str, nth: usize) -> Option<(usize, usize)> {
    let is_key = |line: &str| {
        let rest = line.strip_prefix(key).or_else(|| line.get(1..)?.strip_prefix(key)?.strip_prefix(['"', '\'']));
        rest.is_some_and(|rest| rest.trim_start().starts_with(':'))
    };
    text.lines().enumerate().filter(|(_, line)| is_key(line)).nth(nth - 1).map(|(index, _)| (index + 1, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config> {
        Config::parse(text, "/etc/triton.yaml")
    }

    fn message(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn the_file_of_older_tritons_is_read() {
        let config = parse("my_stream:\n  name: my_stream_v2\n  partition_key: value\n  region: us-west-1\n").unwrap();
        let stream = config.stream("my_stream").unwrap();
        assert_eq!(stream.name, "my_stream_v2");
        assert_eq!(stream.partition_key, KeySource::Field("value".into()));
        assert_eq!(stream.region.as_deref(), Some("us-west-1"));
        assert_eq!(stream.backend, Backend::Kinesis);
    }

    #[test]
    fn a_written_null_is_a_choice_and_a_missing_key_is_not() {
        let config = parse("a: {name: a, partition_key: null}\nb: {name: b, partition_key: }").unwrap();
        assert_eq!(config.stream("a").unwrap().partition_key, KeySource::Random);
        assert_eq!(config.stream("b").unwrap().partition_key, KeySource::Random);
        assert_eq!(message("a:\n  name: a\n"), "/etc/triton.yaml: line 2, column 3: a: missing field `partition_key`");
        assert_eq!(message("a:\n  partition_key: a\n"), "/etc/triton.yaml: line 2, column 3: a: missing field `name`");
    }

    #[test]
    fn what_belongs_to_the_other_backend_may_stay() {
        let config = parse("a: {name: a, partition_key: null, shards: 4, path: /tmp, region: eu-west-1}").unwrap();
        assert_eq!(config.stream("a").unwrap().backend, Backend::Kinesis);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        assert_eq!(
            message("a:\n  name: a\n  partition_key: b: c\n"),
            "/etc/triton.yaml: line 3, column 19: mapping values are not allowed here"
        );
        assert_eq!(
            message("a: {name: a, partition_key: b}\nb: {name: b, partition_key: c}\na: {name: c, partition_key: d}\n"),
            "/etc/triton.yaml: line 3, column 1: duplicate stream name 'a'"
        );
        let unknown = message("a:\n  name: a\n  partition_key: b\n  partion: c\n");
        assert!(unknown.starts_with("/etc/triton.yaml: line 4, column 3: a: unknown field `partion`"), "{unknown}");
        let wrong = message("a:\n  name: [1]\n  partition_key: b\n");
        assert!(wrong.starts_with("/etc/triton.yaml: line 2, column 9: a.name: invalid type: sequence"), "{wrong}");
        let backend = message("a:\n  name: a\n  partition_key: b\n  backend: redis\n");
        assert!(
            backend.starts_with("/etc/triton.yaml: line 4, column 12: a.backend: unknown variant `redis`"),
            "{backend}"
        );
        let negative = message("a:\n  name: a\n  partition_key: b\n  shards: -1\n");
        assert!(
            negative.starts_with("/etc/triton.yaml: line 4, column 11: a.shards: invalid type: integer `-1`"),
            "{negative}"
        );
        assert_eq!(
            message("a: {name: a, partition_key: b}\nb: {name: '', partition_key: c}"),
            "/etc/triton.yaml: line 2, column 1: b: name is empty"
        );
        let list = message("- a\n- b\n");
        assert!(list.contains("expected a map of stream names"), "{list}");
    }

    #[test]
    fn a_relative_path_starts_at_the_config_file() {
        let path = |text: &str| {
            let config = parse(&format!("a: {{name: a, partition_key: null, path: {text}}}")).unwrap();
            config.stream("a").unwrap().path.clone().unwrap()
        };
        assert_eq!(path("data"), Path::new("/etc/data"));
        assert_eq!(path("/var/lib/triton"), Path::new("/var/lib/triton"));
    }

    #[test]
    fn an_empty_file_has_no_streams() {
        for text in ["", "# nothing yet\n", "---\n"] {
            assert_eq!(parse(text).unwrap().streams().count(), 0, "{text:?}");
        }
    }

    #[test]
    fn a_huge_or_missing_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("triton.yaml");
        let missing = Config::load(&file).unwrap_err().to_string();
        assert_eq!(missing, format!("{}: no such file", file.display()));
        std::fs::write(&file, "#".repeat((1 << 20) + 1)).unwrap();
        assert!(Config::load(&file).unwrap_err().to_string().ends_with("over 1 MiB, which is no config"));
        std::fs::write(&file, b"\xff").unwrap();
        assert!(Config::load(&file).unwrap_err().to_string().ends_with("not UTF-8 text"));
    }

    #[test]
    fn aliases_that_multiply_are_refused() {
        let mut text = String::from("a: &a [x, x, x, x, x, x, x, x, x]\n");
        for (level, name) in ('b'..='i').enumerate() {
            let before = (b'a' + level as u8) as char;
            text.push_str(&format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(", ")));
        }
        assert!(parse(&text).is_err());
    }

    #[test]
    fn a_misspelled_name_is_answered_with_the_right_one() {
        let config = parse("test_stream: {name: a, partition_key: b}").unwrap();
        let Err(Error::UnknownStream { similar, .. }) = config.stream("test_steam") else { panic!("found") };
        assert_eq!(similar.as_deref(), Some("test_stream"));
        let Err(Error::UnknownStream { similar, .. }) = config.stream("orders") else { panic!("found") };
        assert_eq!(similar, None);
    }
}
