//! Encodes a line as an entry, by `--json`, `--raw`, `--key` and `--key-field`.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use bytes::Bytes;
use serde::{Serialize, Serializer};
use triton_stream::flow::random_seed;
use triton_stream::record::{Encoder, KeySource, json};
use triton_stream::{Error, Limits, PartitionKey, PutEntry, StreamConfig};

use crate::exit::{Code, Failure};

use super::args::PutArgs;
use super::lines::Line;

#[derive(Debug)]
pub(super) struct LineEncoder {
    encoder: Encoder,
    form: Form,
    key: Option<PartitionKey>,
    limits: Limits,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Message,
    Json,
    Raw,
}

/// A line as older Tritons put it.
#[derive(Serialize)]
struct Message<'a> {
    msg: Text<'a>,
    ts: f64,
}

/// Text where the line is UTF-8, bytes where it is not.
struct Text<'a>(&'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.serialize_bytes(self.0),
        }
    }
}

impl LineEncoder {
    pub(super) fn new(args: &PutArgs, config: &StreamConfig, limits: Limits) -> Result<Self> {
        let form = match (args.json, args.raw) {
            (true, _) => Form::Json,
            (_, true) => Form::Raw,
            _ => Form::Message,
        };
        let key = args.key.clone().map(PartitionKey::new).transpose();
        let key = key.map_err(|error| Failure::new(Code::Usage, format!("--key: {error}")))?;
        if let (Form::Raw, None, KeySource::Field(field)) = (form, &key, &config.partition_key) {
            let message = format!("--raw lines have no field '{field}' (partition_key of '{}')", config.logical_name);
            return Err(Failure::new(Code::Usage, message).with_help("use --key").into());
        }
        let encoder = Encoder::new(&config.logical_name, config.partition_key.clone(), random_seed());
        Ok(Self { encoder, form, key, limits })
    }

    /// The entry of a line; `None` for an empty line between JSON objects.
    pub(super) fn encode(&mut self, line: &Line<'_>) -> Result<Option<PutEntry>> {
        let text = match *line {
            Line::Text(text) => text,
            Line::TooLong(bytes) => {
                return Err(Error::RecordTooLarge { bytes, limit: self.limits.max_record_bytes }.into());
            }
        };
        let entry = match self.form {
            Form::Json if text.trim_ascii().is_empty() => return Ok(None),
            Form::Json => {
                let record = json::parse(text).map_err(Error::from)?;
                self.record(&record)?
            }
            Form::Message => self.record(&Message { msg: Text(text), ts: unix_seconds() })?,
            Form::Raw => {
                let payload = Bytes::copy_from_slice(text);
                match &self.key {
                    Some(key) => PutEntry::new(key.clone(), payload),
                    None => self.encoder.entry(payload)?,
                }
            }
        };
        self.limits.check_record(&entry)?;
        Ok(Some(entry))
    }

    fn record<T: Serialize>(&mut self, record: &T) -> Result<PutEntry, Error> {
        match &self.key {
            Some(key) => self.encoder.encode_with_key(record, key.clone()),
            None => self.encoder.encode(record),
        }
    }
}

fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
