//! Escapes data that could control the terminal that shows it.
//!
//! Control characters become `\x1b`, those outside ASCII and those that change the direction of text `\u{202e}`, and
//! bytes that are not UTF-8 `\xff`. The form cannot be parsed back: a backslash in the data stays one backslash. A pipe
//! gets every byte unchanged.

use triton_stream::record::json::is_terminal_control;

use super::append;

/// Appends data: unchanged, or escaped for a `terminal`.
pub(crate) fn push(out: &mut Vec<u8>, data: &[u8], terminal: bool) {
    if !terminal {
        out.extend_from_slice(data);
        return;
    }
    for chunk in data.utf8_chunks() {
        let text = chunk.valid();
        let mut done = 0;
        for (at, matched) in text.match_indices(is_terminal_control) {
            out.extend_from_slice(&text.as_bytes()[done..at]);
            done = at + matched.len();
            for character in matched.chars() {
                match u32::from(character) {
                    code @ ..0x80 => append(out, format_args!("\\x{code:02x}")),
                    code => append(out, format_args!("\\u{{{code:x}}}")),
                }
            }
        }
        out.extend_from_slice(&text.as_bytes()[done..]);
        for byte in chunk.invalid() {
            append(out, format_args!("\\x{byte:02x}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(data: &[u8], terminal: bool) -> Vec<u8> {
        let mut out = Vec::new();
        push(&mut out, data, terminal);
        out
    }

    #[test]
    fn a_terminal_gets_escapes_for_what_it_could_act_on() {
        let text = |data: &[u8]| String::from_utf8(shown(data, true)).unwrap();
        assert_eq!(text(b"a\x1b[31mb\tc\r\n\x7f"), r"a\x1b[31mb\x09c\x0d\x0a\x7f");
        assert_eq!(text("\u{9b}31m\u{85}".as_bytes()), r"\u{9b}31m\u{85}");
        assert_eq!(text("\u{202e}\u{2066}x".as_bytes()), r"\u{202e}\u{2066}x");
        assert_eq!(text(b"\xff\xc3\x9b ok \xe2\x80"), "\\xff\u{db} ok \\xe2\\x80");
        assert_eq!(text(b"\x9b31m"), r"\x9b31m");
    }

    #[test]
    fn what_is_harmless_is_shown_as_it_is() {
        let text = "plain 'quoted' \\ ñ 日本 🙂 \u{a0}\u{2029}";
        assert_eq!(shown(text.as_bytes(), true), text.as_bytes());
    }

    #[test]
    fn a_pipe_gets_every_byte() {
        let every: Vec<u8> = (0..=255).collect();
        assert_eq!(shown(&every, false), every);
    }
}
