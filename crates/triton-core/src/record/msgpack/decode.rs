//! Decodes payloads, as a type by serde or as a dynamic value.

use serde::Deserialize;

use crate::error::{DecodeError, DecodeErrorKind};

use super::{MAX_DEPTH, Scanner, check};

/// Decodes a payload as a `T`, which may borrow from it.
///
/// # Errors
/// If the payload is not exactly one MessagePack value, or is not a `T`.
pub fn decode<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, DecodeError> {
    // Checked first, so that serde never sees a wrong length, unlimited depth or a truncated record.
    check(payload)?;
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(payload);
    deserializer.set_max_depth(MAX_DEPTH + 1);
    T::deserialize(&mut deserializer).map_err(|error| match error {
        rmp_serde::decode::Error::TypeMismatch(marker) => {
            shape(format!("{} where another type is expected", describe(marker.to_u8())))
        }
        error => shape(error.to_string()),
    })
}

/// Name of the type that a marker byte starts. Any marker followed by zeros is a complete token.
fn describe(marker: u8) -> &'static str {
    let mut payload = [0; 64];
    payload[0] = marker;
    Scanner::new(&payload).token().map_or("a value", |token| token.describe())
}

/// Decodes a payload as a dynamic value, whose text and bytes borrow from it.
///
/// # Errors
/// If the payload is not exactly one MessagePack value.
pub fn decode_value(payload: &[u8]) -> Result<rmpv::ValueRef<'_>, DecodeError> {
    check(payload)?;
    let mut rest = payload;
    rmpv::decode::read_value_ref(&mut rest).map_err(|error| shape(error.to_string()))
}

fn shape(problem: String) -> DecodeError {
    DecodeError { kind: DecodeErrorKind::Shape { problem }, offset: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use proptest::prelude::*;
    use serde_json::Value as Json;
    use std::collections::BTreeMap;

    fn golden(text: &str) -> Vec<Json> {
        serde_json::from_str(text).unwrap()
    }

    fn base64(case: &Json, field: &str) -> Vec<u8> {
        base64::engine::general_purpose::STANDARD.decode(case[field].as_str().unwrap()).unwrap()
    }

    /// Converts a dynamic value of JSON types to JSON.
    fn json(value: rmpv::ValueRef<'_>) -> Json {
        serde_json::to_value(value.to_owned()).unwrap()
    }

    #[test]
    fn golden_records_decode_in_both_encodings_typed_and_dynamic() {
        let cases = golden(include_str!("../../../golden/records.json"));
        assert_eq!(cases.len(), 200);
        for case in cases {
            for field in ["new", "old"] {
                let payload = base64(&case, field);
                assert_eq!(json(decode_value(&payload).unwrap()), case["data"], "{field}");
                let typed: BTreeMap<String, Json> = decode(&payload).unwrap();
                assert_eq!(serde_json::to_value(typed).unwrap(), case["data"], "{field}");
            }
        }
    }

    #[test]
    fn golden_records_encode_to_the_same_bytes() {
        for case in golden(include_str!("../../../golden/records.json")) {
            let payload = base64(&case, "new");
            let value = decode_value(&payload).unwrap().to_owned();
            let mut encoder = crate::record::Encoder::new("golden", crate::record::KeySource::Random, 1);
            assert_eq!(encoder.encode(&value).unwrap().data, payload);
        }
    }

    #[test]
    fn odd_records_decode_without_a_type() {
        let cases = golden(include_str!("../../../golden/odd_records.json"));
        assert_eq!(cases.len(), 13);
        for case in cases {
            let payload = base64(&case, "data");
            let value = decode_value(&payload).unwrap_or_else(|error| panic!("{}: {error}", case["what"]));
            let mut again = Vec::new();
            rmpv::encode::write_value_ref(&mut again, &value).unwrap();
            // Old raw strings and long encodings of integers become shorter; the value is the same.
            assert_eq!(decode_value(&again).unwrap().to_string(), value.to_string(), "{}", case["what"]);
        }
    }

    #[test]
    fn bytes_in_old_raw_strings_decode_into_byte_types() {
        #[derive(Deserialize)]
        struct Old<'a> {
            #[serde(borrow)]
            b: &'a serde_bytes::Bytes,
        }
        let payload = b"\x81\xa1b\xa3\xff\xfe\x00";
        assert_eq!(decode::<Old<'_>>(payload).unwrap().b.as_ref(), b"\xff\xfe\x00");
    }

    #[test]
    fn bad_records_are_errors_with_an_offset() {
        let cases = golden(include_str!("../../../golden/bad_records.json"));
        assert_eq!(cases.len(), 9);
        for case in cases {
            let payload = base64(&case, "data");
            let dynamic = decode_value(&payload).unwrap_err();
            let typed = decode::<BTreeMap<String, Json>>(&payload).unwrap_err();
            assert_eq!(dynamic, typed, "{}", case["what"]);
            assert!(dynamic.offset <= payload.len(), "{}: {dynamic}", case["what"]);
            assert!(!matches!(dynamic.kind, DecodeErrorKind::Shape { .. }), "{}: {dynamic}", case["what"]);
        }
    }

    #[test]
    fn a_field_of_another_type_is_an_error_that_names_the_type() {
        #[derive(Debug, Deserialize)]
        struct Click {
            #[expect(dead_code, reason = "only its type matters")]
            user: u32,
        }
        let error = decode::<Click>(b"\x81\xa4user\xa2hi").unwrap_err();
        assert_eq!(error.to_string(), "not of the expected shape: text where another type is expected");
        let error = decode::<Click>(b"\x80").unwrap_err();
        assert_eq!(error.to_string(), "not of the expected shape: missing field `user`");
    }

    #[test]
    fn the_deepest_record_decodes_on_a_small_stack() {
        let payload = [vec![0x91; MAX_DEPTH], vec![0xc0]].concat();
        let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
            decode_value(&payload).unwrap();
            decode::<Json>(&payload).unwrap();
        });
        thread.unwrap().join().unwrap();
    }

    /// Bytes that are valid MessagePack more often than random ones.
    fn payloads() -> impl Strategy<Value = Vec<u8>> {
        let marker = prop_oneof![any::<u8>(), 0x80u8..=0x9f, 0xc0u8..=0xdf, Just(0xa1), Just(0x00),];
        prop::collection::vec(marker, 0..200)
    }

    /// Seconds to run the decoder's property test, from `TRITON_FUZZ_SECONDS`.
    fn fuzz_seconds() -> u64 {
        std::env::var("TRITON_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
    }

    #[test]
    fn no_payload_makes_the_decoder_panic_or_disagree() {
        use proptest::strategy::ValueTree;
        use proptest::test_runner::{Config, TestRunner};

        let cases = golden(include_str!("../../../golden/records.json"));
        let seeds: Vec<Vec<u8>> = cases.iter().map(|case| base64(case, "new")).collect();
        let mutated = (0..seeds.len(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6))
            .prop_map(move |(seed, changes)| {
                let mut payload = seeds[seed].clone();
                for (index, byte) in changes {
                    let at = index.index(payload.len());
                    payload[at] = byte;
                }
                payload
            });
        let strategy = prop_oneof![payloads(), mutated];
        let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
        // Wall time only decides how many payloads are tried.
        #[expect(clippy::disallowed_methods, reason = "bounds the run by wall time")]
        let started = std::time::Instant::now();
        let mut tried = 0u64;
        // A slow machine tries at least 1,000.
        while started.elapsed().as_secs() < fuzz_seconds() || tried <= 1000 {
            for _ in 0..256 {
                let payload = strategy.new_tree(&mut runner).unwrap().current();
                let checked = check(&payload);
                let dynamic = decode_value(&payload);
                assert_eq!(checked.is_ok(), dynamic.is_ok(), "{payload:02x?}");
                let _ = decode::<Json>(&payload);
                let _ = decode::<BTreeMap<String, serde_bytes::ByteBuf>>(&payload);
                let mut scanner = Scanner::new(&payload);
                while scanner.token().is_ok() {}
                assert!(checked.is_err() || scanner.offset() == payload.len(), "{payload:02x?}");
                tried += 1;
            }
        }
    }
}
