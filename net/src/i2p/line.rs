//! The lines that a bridge sends.

use zeroize::Zeroizing;

/// The longest that a line may be, in bytes. The longest of the protocol has a private key in it, of a few thousand.
pub(super) const MAX_LEN: usize = 64 * 1024;

/// A line on its way in. It holds what has arrived of it, and never a byte of what comes behind it. Its memory is
/// overwritten when it is dropped: a line may have a private key in it.
#[derive(Default)]
pub(super) struct Line {
    bytes: Zeroizing<Vec<u8>>,
}

/// A line that has arrived.
pub(super) type Whole = Zeroizing<Vec<u8>>;

/// A line is longer than [`MAX_LEN`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Line {
    /// Takes what belongs to the line: says how many bytes of `input` these were, and gives the line, without its
    /// end, once it is whole.
    pub(super) fn take(&mut self, input: &[u8]) -> Result<(usize, Option<Whole>), TooLong> {
        /// Room for all lines that are usual: what grows leaves copies behind that are not overwritten.
        const USUAL_LEN: usize = 4096;
        let end = input.iter().position(|&byte| byte == b'\n');
        let belongs = &input[..end.unwrap_or(input.len())];
        if self.bytes.len() + belongs.len() > MAX_LEN {
            return Err(TooLong);
        }
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(USUAL_LEN.max(belongs.len()));
        }
        self.bytes.extend(belongs);
        if end.is_none() {
            return Ok((belongs.len(), None));
        }
        let mut line = std::mem::take(&mut self.bytes);
        // As lines end where somebody types them.
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok((belongs.len() + 1, Some(line)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The lines in `input`, fed in pieces, and how much of it belongs to them.
    fn lines(input: &[u8], pieces: impl Iterator<Item = usize>) -> Vec<Vec<u8>> {
        let (mut line, mut lines, mut at) = (Line::default(), Vec::new(), 0);
        for len in pieces {
            let end = (at + len).min(input.len());
            while at < end {
                let (taken, whole) = line.take(&input[at..end]).unwrap();
                at += taken;
                lines.extend(whole.map(|line| line.to_vec()));
            }
        }
        lines
    }

    proptest! {
        #[test]
        fn it_does_not_matter_in_which_pieces_lines_arrive(
            input in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200),
            pieces in proptest::collection::vec(1_usize..20, 200),
        ) {
            prop_assert_eq!(lines(&input, pieces.into_iter()), lines(&input, [input.len()].into_iter()));
        }
    }

    #[test]
    fn nothing_behind_a_line_is_taken() {
        let mut line = Line::default();
        assert_eq!(line.take(b"A B").unwrap().0, 3);
        let (taken, whole) = line.take(b" C=D\r\npayload\n").unwrap();
        assert_eq!((taken, whole.unwrap().as_slice()), (6, b"A B C=D".as_slice()));
    }

    #[test]
    fn a_line_has_a_limit() {
        let mut line = Line::default();
        assert_eq!(line.take(&vec![b'x'; MAX_LEN]).unwrap(), (MAX_LEN, None));
        assert_eq!(line.take(b"\n").unwrap().1.unwrap().len(), MAX_LEN);
        assert!(line.take(&vec![b'x'; MAX_LEN]).is_ok());
        assert_eq!(line.take(b"x"), Err(TooLong));
    }
}
