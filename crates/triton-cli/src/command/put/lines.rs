//! Splits input at a delimiter, in constant memory however long a line is.

/// A line of the input, or the size of one that was too long to keep.
#[derive(Debug, PartialEq)]
pub(super) enum Line<'a> {
    /// The line, with its delimiter where that is a newline.
    Text(&'a [u8]),
    /// Too long for any record; its number of bytes.
    TooLong(usize),
}

/// Splits input into lines.
#[derive(Debug)]
pub(super) struct Lines {
    delimiter: Vec<u8>,
    /// Whether the delimiter is part of the line.
    keeps_delimiter: bool,
    /// Maximum length of a line.
    limit: usize,
    buffer: Vec<u8>,
    /// Offsets in the buffer: the start of the current line, and the end of the part that was searched for a delimiter.
    start: usize,
    searched: usize,
    /// Bytes of the current line that were discarded because it is too long.
    discarded: usize,
}

impl Lines {
    pub(super) fn new(delimiter: &[u8], keeps_delimiter: bool, limit: usize) -> Self {
        Self {
            delimiter: delimiter.to_vec(),
            keeps_delimiter,
            limit,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            discarded: 0,
        }
    }

    /// Appends input, and discards the lines that were returned.
    pub(super) fn push(&mut self, input: &[u8]) {
        // The last bytes may be the first half of a delimiter, and no part of the line.
        let tail = self.delimiter.len() - 1;
        if self.buffer.len() - self.start > self.limit + tail {
            self.discarded += self.buffer.len() - self.start - tail;
            self.start = self.buffer.len() - tail;
        }
        self.buffer.drain(..self.start);
        self.searched = self.searched.saturating_sub(self.start);
        self.start = 0;
        self.buffer.extend_from_slice(input);
    }

    /// The next complete line.
    pub(super) fn next(&mut self) -> Option<Line<'_>> {
        let found = match self.delimiter[..] {
            [byte] => memchr::memchr(byte, &self.buffer[self.searched..]),
            ref bytes => memchr::memmem::find(&self.buffer[self.searched..], bytes),
        };
        let Some(found) = found else {
            self.searched = (self.buffer.len() + 1).saturating_sub(self.delimiter.len()).max(self.start);
            return None;
        };
        let (start, end) = (self.start, self.searched + found);
        self.start = end + self.delimiter.len();
        self.searched = self.start;
        let end = if self.keeps_delimiter { self.start } else { end };
        Some(line(&mut self.discarded, self.limit, &self.buffer[start..end]))
    }

    /// The last line, which has no delimiter.
    pub(super) fn rest(&mut self) -> Option<Line<'_>> {
        let start = std::mem::replace(&mut self.start, self.buffer.len());
        self.searched = self.start;
        if start == self.buffer.len() && self.discarded == 0 {
            return None;
        }
        Some(line(&mut self.discarded, self.limit, &self.buffer[start..]))
    }
}

fn line<'a>(discarded: &mut usize, limit: usize, text: &'a [u8]) -> Line<'a> {
    match std::mem::take(discarded) {
        0 if text.len() <= limit => Line::Text(text),
        discarded => Line::TooLong(discarded + text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(lines: &mut Lines, pieces: &[&[u8]]) -> Vec<Result<Vec<u8>, usize>> {
        let own = |line: Line<'_>| match line {
            Line::Text(text) => Ok(text.to_vec()),
            Line::TooLong(bytes) => Err(bytes),
        };
        let mut all = Vec::new();
        for piece in pieces {
            lines.push(piece);
            while let Some(line) = lines.next() {
                all.push(own(line));
            }
        }
        all.extend(lines.rest().map(own));
        assert!(lines.rest().is_none());
        all
    }

    #[test]
    fn newlines_are_part_of_their_lines_and_the_last_may_have_none() {
        let mut lines = Lines::new(b"\n", true, 100);
        let cut = cut(&mut lines, &[b"a\n\nb", b"c\nd"]);
        assert_eq!(cut, [Ok(b"a\n".to_vec()), Ok(b"\n".to_vec()), Ok(b"bc\n".to_vec()), Ok(b"d".to_vec())]);
    }

    #[test]
    fn a_longer_delimiter_may_come_in_two_pieces() {
        let mut lines = Lines::new(b"\r\n", false, 100);
        assert_eq!(cut(&mut lines, &[b"a\r", b"\nb\r", b"c\r\n"]), [Ok(b"a".to_vec()), Ok(b"b\rc".to_vec())]);
    }

    #[test]
    fn half_a_delimiter_does_not_make_a_line_too_long() {
        let mut lines = Lines::new(b";-", false, 3);
        assert_eq!(cut(&mut lines, &[b"abc;", b"-abcd;", b"-"]), [Ok(b"abc".to_vec()), Err(4)]);
    }

    #[test]
    fn a_line_that_is_too_long_is_counted_and_not_kept() {
        let mut lines = Lines::new(b"\n", true, 4);
        let long = vec![b'x'; 1000];
        let mut pieces: Vec<&[u8]> = vec![b"ok\n"];
        pieces.extend([&long[..]; 50]);
        pieces.push(b"\nok");
        assert_eq!(cut(&mut lines, &pieces), [Ok(b"ok\n".to_vec()), Err(50_001), Ok(b"ok".to_vec())]);
        assert!(lines.buffer.capacity() < 10_000, "{}", lines.buffer.capacity());
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_the_input_comes(
            text in prop::collection::vec(prop::sample::select(b"ab;-".to_vec()), 0..60),
            cuts in prop::collection::vec(0usize..60, 0..6),
            delimiter in prop::sample::select(vec![b";".to_vec(), b";-".to_vec(), b";;".to_vec()]),
            keeps: bool,
            limit in 1usize..20,
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let by_pieces = cut(&mut Lines::new(&delimiter, keeps, limit), &pieces);
            let at_once = cut(&mut Lines::new(&delimiter, keeps, limit), &[&text]);
            prop_assert_eq!(by_pieces, at_once);
        }
    }
}
