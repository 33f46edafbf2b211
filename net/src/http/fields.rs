//! Counts the fields of heads over HTTP/2, and their bytes, without reading them: RFC 7541, section 6.
//!
//! h2 refuses a head that is too large like one that is malformed, and does not say which of the two it was. What was
//! counted here does.

/// How large a head may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadLimits {
    /// Bytes of the header block, compressed.
    pub(super) bytes: usize,
    /// Fields, with `:status`.
    pub(super) fields: usize,
}

/// What of a head exceeds its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    Bytes,
    Fields,
}

/// The size of a field at most, beside its own bytes: one of the dynamic table, which has 4 096 bytes.
const LARGEST_INDEXED: usize = 4096;

impl HeadLimits {
    /// A size that no head within the limits has once it is decoded, as RFC 9113 measures it in section 6.5.2. Huffman coding
    /// makes less than two bytes of one.
    pub(super) const fn decoded(self) -> usize {
        let indexed = self.fields.saturating_mul(LARGEST_INDEXED);
        self.bytes.saturating_mul(2).saturating_add(indexed).saturating_add(1)
    }
}

/// Counts the fields of one head after the other.
#[derive(Debug, Default)]
pub(super) struct FieldCounter {
    bytes: usize,
    fields: usize,
    state: State,
    /// Bytes before the part of the header block that is in this frame, the first of which may be the length of the padding.
    before: usize,
    is_padded: bool,
    /// Bytes of that part.
    block: usize,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    /// The first byte of a field.
    #[default]
    Field,
    /// The index of a field that has so many strings.
    Index { strings: u8 },
    /// The first byte of the length of a string, the first of so many.
    Length { strings: u8 },
    /// A further byte of that.
    FurtherLength { strings: u8, length: usize, shift: u32 },
    /// The bytes of a string, before so many others.
    Text { left: usize, strings: u8 },
}

impl FieldCounter {
    /// A frame HEADERS begins, which begins a head.
    pub(super) fn headers(&mut self, len: usize, is_padded: bool, has_priority: bool) {
        const PRIORITY: usize = 5;
        let before = usize::from(is_padded) + if has_priority { PRIORITY } else { 0 };
        let block = len.saturating_sub(before);
        *self = Self { before, is_padded, block, ..Self::default() };
    }

    /// A frame CONTINUATION begins.
    pub(super) fn continuation(&mut self, len: usize) {
        (self.before, self.is_padded, self.block) = (0, false, len);
    }

    /// Reads a part of the payload of the frame. Returns what of the head is too much by now.
    pub(super) fn read(&mut self, mut payload: &[u8], limits: HeadLimits) -> Option<Excess> {
        if let ([padding, ..], true) = (payload, self.is_padded) {
            self.is_padded = false;
            self.block = self.block.saturating_sub(usize::from(*padding));
        }
        let before = self.before.min(payload.len());
        self.before -= before;
        payload = &payload[before..];
        let block = &payload[..self.block.min(payload.len())];
        self.block -= block.len();
        self.bytes = self.bytes.saturating_add(block.len());
        self.count(block);
        if self.fields > limits.fields {
            Some(Excess::Fields)
        } else {
            (self.bytes > limits.bytes).then_some(Excess::Bytes)
        }
    }

    fn count(&mut self, mut block: &[u8]) {
        while let [byte, rest @ ..] = block {
            block = rest;
            self.state = match self.state {
                State::Field => self.field(*byte),
                State::Index { strings } if byte & 0x80 == 0 => before(strings),
                index @ State::Index { .. } => index,
                State::Length { strings } => match byte & 0x7f {
                    0x7f => State::FurtherLength { strings, length: 0x7f, shift: 0 },
                    length => text(usize::from(length), strings),
                },
                State::FurtherLength { strings, length, shift } => {
                    let more = usize::from(byte & 0x7f).checked_shl(shift).unwrap_or(usize::MAX);
                    let length = length.saturating_add(more);
                    if byte & 0x80 == 0 {
                        text(length, strings)
                    } else {
                        State::FurtherLength { strings, length, shift: shift.saturating_add(7) }
                    }
                }
                State::Text { left, strings } => {
                    let skipped = (left - 1).min(block.len());
                    block = &block[skipped..];
                    match left - 1 - skipped {
                        0 => before(strings),
                        left => State::Text { left, strings },
                    }
                }
            };
        }
    }

    fn field(&mut self, byte: u8) -> State {
        let (mask, has_index_only) = match byte {
            0x80.. => (0x7f, true),
            0x40..0x80 => (0x3f, false),
            // A size of the dynamic table.
            0x20..0x40 => (0x1f, true),
            0x00..0x20 => (0x0f, false),
        };
        self.fields += usize::from(!(0x20..0x40).contains(&byte));
        let index = byte & mask;
        let strings = match index {
            _ if has_index_only => 0,
            // Without an index the field has its name.
            0 => 2,
            _ => 1,
        };
        if index == mask { State::Index { strings } } else { before(strings) }
    }
}

/// Before so many strings of a field.
const fn before(strings: u8) -> State {
    if strings == 0 { State::Field } else { State::Length { strings } }
}

/// At the beginning of a string, the first of so many.
const fn text(length: usize, strings: u8) -> State {
    let strings = strings.saturating_sub(1);
    if length == 0 { before(strings) } else { State::Text { left: length, strings } }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: usize::MAX, fields: usize::MAX };

    /// The fields of a block, however it is cut.
    fn fields(block: &[u8]) -> usize {
        let counted = (1..=block.len()).map(|size| {
            let mut counter = FieldCounter::default();
            counter.headers(block.len(), false, false);
            block.chunks(size).for_each(|part| assert_eq!(counter.read(part, LIMITS), None));
            assert_eq!(counter.bytes, block.len());
            assert!(matches!(counter.state, State::Field), "{:?}", counter.state);
            counter.fields
        });
        let counted: Vec<_> = counted.collect();
        assert!(counted.iter().all(|fields| *fields == counted[0]), "{counted:?}");
        counted[0]
    }

    #[test]
    fn fields_are_counted_as_in_the_examples_of_the_rfc() {
        // RFC 7541, appendices C.2.1 to C.2.4, C.5.1 and C.6.1.
        assert_eq!(fields(b"\x40\x0acustom-key\x0dcustom-header"), 1);
        assert_eq!(fields(b"\x04\x0c/sample/path"), 1);
        assert_eq!(fields(b"\x10\x08password\x06secret"), 1);
        assert_eq!(fields(b"\x82"), 1);
        let response =
            b"\x48\x03302\x58\x07private\x61\x1dMon, 21 Oct 2013 20:13:21 GMT\x6e\x17https://www.example.com";
        assert_eq!(fields(response), 4);
        assert_eq!(fields(b"\x48\x82\x64\x02\x58\x85\xae\xc3\x77\x1a\x4b\x88"), 3);
    }

    #[test]
    fn long_strings_indexes_and_sizes_of_the_table_are_passed_over() {
        // The length of the value is 127 + 0x2c + (2 << 7).
        let long = [b"\x04\x7f\xac\x02".as_slice(), &[b'v'; 427], b"\x82"].concat();
        assert_eq!(fields(&long), 2);
        // An index of several bytes, a size of the table, an empty value, and one field more.
        assert_eq!(fields(b"\xff\x80\x01\x3f\xe1\x1f\x0f\x00\x00\x82"), 3);
    }

    #[test]
    fn padding_and_priorities_are_no_fields() {
        let mut counter = FieldCounter::default();
        counter.headers(10, true, true);
        assert_eq!(counter.read(b"\x02\0\0\0\0\x07\x82\x82", LIMITS), None);
        assert_eq!(counter.read(b"\x82\x82", LIMITS), None);
        assert_eq!((counter.fields, counter.bytes), (2, 2));
        counter.continuation(1);
        assert_eq!(counter.read(b"\x82", LIMITS), None);
        assert_eq!((counter.fields, counter.bytes), (3, 3));
        counter.headers(1, false, false);
        assert_eq!(counter.read(b"\x82", HeadLimits { bytes: 1, fields: 1 }), None);
        counter.continuation(1);
        assert_eq!(counter.read(b"\x82", HeadLimits { bytes: 1, fields: 2 }), Some(Excess::Bytes));
        counter.continuation(1);
        assert_eq!(counter.read(b"\x82", HeadLimits { bytes: 1, fields: 2 }), Some(Excess::Fields));
    }
}
