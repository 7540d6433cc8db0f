//! From JSON to the MessagePack that it stands for.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::error::JsonError;
use crate::record::msgpack::ExtensionTime;

use super::form::is_form_key;

/// One record, which serializes as the MessagePack map that its JSON stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonRecord(Vec<(String, Value)>);

/// Reads a line, with or without its newline, as one record.
///
/// # Errors
/// Where it is not JSON, with the column; where a form's content is none; where it is no object, or one that stands for
/// something other than a map.
pub fn parse(line: &[u8]) -> Result<JsonRecord, JsonError> {
    match serde_json::from_slice(line).map_err(describe)? {
        Value::Map(pairs) => Ok(JsonRecord(pairs)),
        other => Err(JsonError { problem: format!("it is {}, not a map", other.describe()) }),
    }
}

/// What serde_json says, without a line number that would count from the record's start.
fn describe(error: serde_json::Error) -> JsonError {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let problem = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
    let place = match line {
        0 | 1 => format!("at column {column}"),
        _ => format!("at column {column} of its line {line}"),
    };
    let problem = if error.is_data() { format!("{problem} {place}") } else { format!("not JSON ({problem} {place})") };
    JsonError { problem }
}

/// A value as MessagePack knows it. Unlike `serde_json::Value` it has bytes and extensions, and loses no duplicate key.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Extension(i8, Vec<u8>),
    Array(Vec<Value>),
    Map(Vec<(String, Value)>),
}

impl Value {
    /// What it is, with an article, for messages.
    fn describe(&self) -> &'static str {
        match self {
            Value::Nil => "null",
            Value::Bool(_) => "a boolean",
            Value::Unsigned(_) | Value::Signed(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Text(_) => "text",
            Value::Bytes(_) => "bytes",
            Value::Extension(ExtensionTime::KIND, _) => "a timestamp",
            Value::Extension(..) => "an extension",
            Value::Array(_) => "an array",
            Value::Map(_) => "a map",
        }
    }

    /// What an object stands for: the value of a form, or a map.
    fn of_object(mut pairs: Vec<(String, Value)>) -> Result<Self, String> {
        if let [(key, content)] = &mut pairs[..]
            && is_form_key(key)
        {
            match (key.as_str(), content) {
                ("$bytes", Value::Text(text)) => return bytes(text).map(Value::Bytes),
                ("$ext", Value::Map(fields)) => {
                    if let [(one, a), (other, b)] = &fields[..] {
                        match (one.as_str(), a, other.as_str(), b) {
                            ("type", kind, "data", Value::Text(data)) | ("data", Value::Text(data), "type", kind) => {
                                return extension(kind, data);
                            }
                            _ => {}
                        }
                    }
                }
                ("$timestamp", Value::Text(text)) => return timestamp(text),
                ("$float", Value::Text(text)) => return float(text),
                (escaped, _) if escaped.starts_with("$$") => drop(key.remove(0)),
                _ => {}
            }
        }
        Ok(Value::Map(pairs))
    }
}

fn bytes(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|_| "not base64 in \"$bytes\"".to_owned())
}

fn extension(kind: &Value, data: &str) -> Result<Value, String> {
    let kind = match *kind {
        Value::Unsigned(kind) => i8::try_from(kind).ok(),
        Value::Signed(kind) => i8::try_from(kind).ok(),
        _ => None,
    };
    let kind = kind.ok_or("the type in \"$ext\" is no integer of -128 to 127")?;
    let data = STANDARD.decode(data).map_err(|_| "not base64 in \"$ext\"")?;
    Ok(Value::Extension(kind, data))
}

fn timestamp(text: &str) -> Result<Value, String> {
    let time: jiff::Timestamp =
        text.parse().map_err(|_| "not a time such as 2015-06-10T20:47:56Z in \"$timestamp\"".to_owned())?;
    // Before 1970 both parts are negative or 0; MessagePack counts its nanoseconds forward.
    let (seconds, nanoseconds) = (time.as_second(), time.subsec_nanosecond());
    let borrowed = i64::from(nanoseconds < 0);
    let seconds = seconds - borrowed;
    let nanoseconds = (i64::from(nanoseconds) + borrowed * 1_000_000_000) as u32;
    Ok(Value::Extension(ExtensionTime::KIND, ExtensionTime { seconds, nanoseconds }.encode()))
}

fn float(text: &str) -> Result<Value, String> {
    match text {
        "nan" => Ok(Value::Float(f64::NAN)),
        "inf" => Ok(Value::Float(f64::INFINITY)),
        "-inf" => Ok(Value::Float(f64::NEG_INFINITY)),
        _ => Err("not nan, inf or -inf in \"$float\"".to_owned()),
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = access.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = access.next_entry()? {
            pairs.push(pair);
        }
        Value::of_object(pairs).map_err(A::Error::custom)
    }
}

impl Serialize for JsonRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        map(&self.0, serializer)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Nil => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Unsigned(value) => serializer.serialize_u64(*value),
            Value::Signed(value) => serializer.serialize_i64(*value),
            Value::Float(value) => serializer.serialize_f64(*value),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Bytes(data) => serializer.serialize_bytes(data),
            // How rmp-serde is told of an extension.
            Value::Extension(kind, data) => {
                serializer.serialize_newtype_struct(rmp_serde::MSGPACK_EXT_STRUCT_NAME, &(*kind, Bytes(data)))
            }
            Value::Array(values) => serializer.collect_seq(values),
            Value::Map(pairs) => map(pairs, serializer),
        }
    }
}

fn map<S: Serializer>(pairs: &[(String, Value)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(key, value)| (key, value)))
}

/// Serde's own slices are arrays of numbers.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::json::tests::payload;
    use crate::record::json::{Escape, write_payload};
    use proptest::prelude::*;

    fn messagepack(line: &str) -> Vec<u8> {
        rmp_serde::to_vec(&parse(line.as_bytes()).unwrap()).unwrap()
    }

    fn json(data: Vec<u8>) -> String {
        let mut out = Vec::new();
        write_payload(&mut out, &data, Escape::Json).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn error(line: &str) -> String {
        parse(line.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn an_object_becomes_a_map_of_the_same_order() {
        assert_eq!(
            messagepack("{\"msg\":\"hi\\n\",\"n\":[1,-1,1.0,null,true],\"a\":{}}\n"),
            b"\x83\xa3msg\xa3hi\n\xa1n\x95\x01\xff\xcb\x3f\xf0\0\0\0\0\0\0\xc0\xc3\xa1a\x80"
        );
        assert_eq!(messagepack(r#"{"a":1,"a":2}"#), b"\x82\xa1a\x01\xa1a\x02");
        assert_eq!(
            messagepack(r#"{"":[18446744073709551615,-9223372036854775808]}"#),
            [&b"\x81\xa0\x92\xcf"[..], &[0xff; 8], b"\xd3\x80\0\0\0\0\0\0\0"].concat()
        );
    }

    #[test]
    fn forms_become_what_they_stand_for() {
        let value = |form: &str| messagepack(&format!(r#"{{"a":{form}}}"#))[3..].to_vec();
        assert_eq!(value(r#"{"$bytes":"//4="}"#), b"\xc4\x02\xff\xfe");
        assert_eq!(value(r#"{"$ext":{"type":5,"data":"YWJj"}}"#), b"\xc7\x03\x05abc");
        assert_eq!(value(r#"{"$ext":{"data":"YWJj","type":-5}}"#), b"\xc7\x03\xfbabc");
        assert_eq!(value(r#"{"$timestamp":"2015-06-10T20:47:56Z"}"#), b"\xd6\xff\x55\x78\xa2\x7c");
        assert_eq!(value(r#"{"$timestamp":"2015-06-10T22:47:56.5+02:00"}"#), b"\xd7\xff\x77\x35\x94\0\x55\x78\xa2\x7c");
        assert_eq!(
            value(r#"{"$timestamp":"1969-12-31T23:59:59.75Z"}"#),
            [&b"\xc7\x0c\xff"[..], &750_000_000u32.to_be_bytes(), &(-1i64).to_be_bytes()].concat()
        );
        assert_eq!(value(r#"{"$float":"-inf"}"#), b"\xcb\xff\xf0\0\0\0\0\0\0");
    }

    #[test]
    fn what_only_resembles_a_form_stays_an_object() {
        for line in [
            r#"{"a":{"$bytes":"aGk=","b":1}}"#,
            r#"{"a":{"$other":"aGk="}}"#,
            r#"{"a":{"bytes":"aGk="}}"#,
            r#"{"a":{"$":"aGk="}}"#,
        ] {
            assert_eq!(json(messagepack(line)), line);
        }
        let mongo = messagepack(r#"{"a":{"$timestamp":{"t":1,"i":1}}}"#);
        assert_eq!(json(mongo.clone()), r#"{"a":{"$$timestamp":{"t":1,"i":1}}}"#);
        assert_eq!(messagepack(r#"{"a":{"$$timestamp":{"t":1,"i":1}}}"#), mongo);
        assert_eq!(messagepack(r#"{"$$bytes":"aGk="}"#), b"\x81\xa6$bytes\xa4aGk=");
    }

    #[test]
    fn faults_are_told_with_their_column_and_without_a_line() {
        assert_eq!(error(r#"{"a" 1}"#), "not JSON (expected `:` at column 6)");
        assert_eq!(error("{\"a\":}\n"), "not JSON (expected value at column 6)");
        assert_eq!(error("hi"), "not JSON (expected value at column 1)");
        assert_eq!(error(""), "not JSON (EOF while parsing a value at column 0)");
        assert_eq!(error("{} {}"), "not JSON (trailing characters at column 4)");
        assert_eq!(error("{\n \"a\": x}"), "not JSON (expected value at column 7 of its line 2)");
        assert_eq!(
            parse(b"{\"a\":\"\xff\"}").unwrap_err().to_string(),
            "not JSON (invalid unicode code point at column 7)"
        );
    }

    #[test]
    fn what_is_no_map_is_named() {
        for (line, what) in [
            ("[{}]", "an array"),
            ("\"hi\"", "text"),
            ("1", "an integer"),
            ("-1.5", "a float"),
            ("null", "null"),
            ("true", "a boolean"),
            (r#"{"$bytes":"wWhp"}"#, "bytes"),
            (r#"{"$timestamp":"2015-06-10T20:47:56Z"}"#, "a timestamp"),
            (r#"{"$ext":{"type":5,"data":""}}"#, "an extension"),
        ] {
            assert_eq!(error(line), format!("it is {what}, not a map"));
        }
    }

    #[test]
    fn a_form_with_the_wrong_content_is_an_error() {
        assert_eq!(error(r#"{"a":{"$bytes":"%%"}}"#), "not base64 in \"$bytes\" at column 20");
        assert_eq!(error(r#"{"a":{"$float":"1.5"}}"#), "not nan, inf or -inf in \"$float\" at column 21");
        assert_eq!(
            error(r#"{"a":{"$timestamp":"yesterday"}}"#),
            "not a time such as 2015-06-10T20:47:56Z in \"$timestamp\" at column 31"
        );
        assert_eq!(
            error(r#"{"a":{"$ext":{"type":128,"data":""}}}"#),
            "the type in \"$ext\" is no integer of -128 to 127 at column 36"
        );
    }

    #[test]
    fn nesting_is_bounded_below_what_a_record_may_have() {
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert_eq!(json(messagepack(&nested(127))), nested(127));
        assert_eq!(error(&nested(128)), "not JSON (recursion limit exceeded at column 132)");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_was_shown_as_json_can_be_put_back(data in payload()) {
            let shown = json([&b"\x81\xa1a"[..], &data].concat());
            let put = messagepack(&shown);
            prop_assert_eq!(json(put), shown);
            // At the top only a map is a record; forms there are told apart from maps that look like them.
            let top = json(data);
            match parse(top.as_bytes()) {
                Ok(record) => prop_assert_eq!(json(rmp_serde::to_vec(&record).unwrap()), top),
                Err(error) => prop_assert!(error.to_string().ends_with("not a map"), "{}: {}", error, top),
            }
        }
    }
}
