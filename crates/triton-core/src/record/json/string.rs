//! Strings of JSON, and which characters are escaped in them.

use std::io::Write as _;

/// Which characters of a string are escaped; what is read back is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// Those that JSON requires.
    Json,
    /// Also those that a terminal could act on instead of showing them.
    Terminal,
}

/// Whether a terminal could act on the character instead of showing it: the controls (C0, DEL, C1), and those that
/// reorder the text around them.
pub fn is_terminal_control(character: char) -> bool {
    matches!(character, '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The bytes that a string cannot hold as they are.
const ESCAPED: [bool; 256] = {
    let mut escaped = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        escaped[byte] = true;
        byte += 1;
    }
    escaped[b'"' as usize] = true;
    escaped[b'\\' as usize] = true;
    escaped
};

/// Also those that begin a character which a terminal could act on.
const ESCAPED_ON_TERMINAL: [bool; 256] = {
    let mut escaped = ESCAPED;
    escaped[0x7f] = true;
    escaped[0xc2] = true;
    escaped[0xe2] = true;
    escaped
};

/// Appends text in quotes.
pub(super) fn write_string(out: &mut Vec<u8>, text: &str, escape: Escape) {
    let escaped = match escape {
        Escape::Json => &ESCAPED,
        Escape::Terminal => &ESCAPED_ON_TERMINAL,
    };
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| escaped[usize::from(byte)]) {
        let (plain, from) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        let mut characters = from.chars();
        if let Some(character) = characters.next() {
            escape_character(out, character);
        }
        rest = characters.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
    out.push(b'"');
}

fn escape_character(out: &mut Vec<u8>, character: char) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        // None of these is past U+FFFF, where JSON would need two escapes.
        control if is_terminal_control(control) => {
            // Writing to memory does not fail.
            let _ = write!(out, "\\u{:04x}", u32::from(control));
        }
        harmless => out.extend_from_slice(harmless.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_terminal_gets_escapes_that_are_still_json() {
        let text = "\u{1b}\u{7f}\u{85}\u{202e}\u{2069} \u{a0}\u{2028}ñ\"\\\n\r\t\u{8}";
        let (mut terminal, mut pipe) = (Vec::new(), Vec::new());
        write_string(&mut terminal, text, Escape::Terminal);
        write_string(&mut pipe, text, Escape::Json);
        assert_eq!(
            str::from_utf8(&terminal).unwrap(),
            "\"\\u001b\\u007f\\u0085\\u202e\\u2069 \u{a0}\u{2028}ñ\\\"\\\\\\n\\r\\t\\u0008\""
        );
        for json in [terminal, pipe] {
            assert_eq!(serde_json::from_slice::<String>(&json).unwrap(), text);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_string_is_what_serde_writes(text in any::<String>()) {
            let mut out = Vec::new();
            write_string(&mut out, &text, Escape::Json);
            // Of the short escapes, serde alone has these two.
            let serde = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text.clone());
            if !text.contains(['\u{8}', '\u{c}']) {
                prop_assert_eq!(String::from_utf8(out).unwrap(), serde);
            }
        }
    }
}
