//! Durations and sizes in text.

use std::time::Duration;

use bytesize::ByteSize;

/// A duration, as `humantime` reads it.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

/// A number of bytes. `KiB` and its like are powers of 1024, `kB` and its like of 1000; case does not count.
pub(super) fn size(text: &str) -> Result<u64, String> {
    text.parse::<ByteSize>().map(|size| size.as_u64())
}

/// A number of bytes as one would write it: in the largest binary unit that it is a whole number of.
pub(super) fn size_text(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| bytes >= 1 << shift && bytes.trailing_zeros() >= *shift) {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_and_decimal_units_are_told_apart() {
        let sizes = ["1KiB", "1kB", "1 KB", "1.5MiB", "2M", "77", "3 gib"].map(|text| size(text).unwrap());
        assert_eq!(sizes, [1024, 1000, 1000, 3 << 19, 2_000_000, 77, 3 << 30]);
        assert!(size("").is_err() && size("MiB").is_err() && size("1 stone").is_err() && size("-1").is_err());
    }

    #[test]
    fn a_size_is_shown_as_it_can_be_written() {
        for bytes in [0, 1, 1023, 1024, 1536, 32 << 20, (1 << 30) + 1, 16 << 30] {
            assert_eq!(size(&size_text(bytes)), Ok(bytes));
        }
        assert_eq!(size_text(32 << 20), "32MiB");
    }
}
