use std::io::Write as _;

use proptest::prelude::*;

use super::*;

const CODINGS: [Coding; 3] = [Coding::Gzip, Coding::Brotli, Coding::Zstd];

fn encoded(coding: Coding, data: &[u8]) -> Vec<u8> {
    match coding {
        Coding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        Coding::Brotli => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
            encoder.write_all(data).unwrap();
            encoder.into_inner()
        }
        Coding::Zstd => zstd::encode_all(data, 3).unwrap(),
    }
}

fn unit() -> Unit {
    Unit::default()
}

/// Decodes what arrives in pieces of `size` bytes.
fn decoded(coding: Coding, data: &[u8], size: usize) -> Result<Vec<u8>, DecodeFault> {
    let memory = DecoderMemory::new(u64::MAX);
    let mut decoder = Decoder::new(coding, &memory, &unit());
    let mut output = Vec::new();
    for input in data.chunks(size) {
        decoder.feed(&Bytes::copy_from_slice(input));
        while let Some(piece) = decoder.next()? {
            assert!(!piece.is_empty() && piece.len() <= PIECE);
            output.extend_from_slice(&piece);
        }
    }
    while let Some(piece) = decoder.finish()? {
        output.extend_from_slice(&piece);
    }
    assert!(memory.units().is_empty(), "its memory is given back");
    assert!(decoder.finish().unwrap().is_none());
    Ok(output)
}

fn text(len: usize) -> Vec<u8> {
    // Compresses, and not to nothing.
    (0..len).map(|at| if at % 7 == 0 { u8::try_from(at * at % 251).unwrap() } else { b'x' }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_encoded_is_decoded_however_it_is_cut(
        data in proptest::collection::vec(any::<u8>(), 0..2000), repeat in 1_usize..100, size in 1_usize..5000,
    ) {
        let data = data.repeat(repeat);
        for coding in CODINGS {
            prop_assert_eq!(&decoded(coding, &encoded(coding, &data), size).unwrap(), &data);
        }
    }

    #[test]
    fn nothing_that_arrives_makes_a_decoder_panic_or_go_on_for_ever(
        noise in proptest::collection::vec(any::<u8>(), 0..500), at in 0_usize..2000, size in 1_usize..100,
    ) {
        for coding in CODINGS {
            let mut data = encoded(coding, &text(3000));
            let at = at.min(data.len());
            data.splice(at..(at + noise.len()).min(data.len()), noise.iter().copied());
            let _ = decoded(coding, &data, size);
            let _ = decoded(coding, &noise, size);
        }
    }
}

#[test]
fn what_ends_on_the_edge_of_a_piece_is_whole() {
    for coding in CODINGS {
        for len in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            for data in [text(len), vec![0; len]] {
                let encoded = encoded(coding, &data);
                for size in [1, 7, encoded.len().max(1)] {
                    assert!(decoded(coding, &encoded, size).unwrap() == data, "{coding:?} {len} {size}");
                }
            }
        }
    }
}

#[test]
fn what_is_cut_off_is_an_error_wherever_that_is() {
    for coding in CODINGS {
        let whole = encoded(coding, &text(500));
        for len in 1..whole.len() {
            assert!(decoded(coding, &whole[..len], 64).is_err(), "{coding:?} {len}");
        }
        assert_eq!(decoded(coding, &[], 1).unwrap(), b"", "an empty body is not encoded");
    }
}

#[test]
fn what_follows_is_an_error_unless_the_format_has_several_parts() {
    for coding in CODINGS {
        let (first, second) = (encoded(coding, b"hello, "), encoded(coding, b"world"));
        for size in [1, 1000] {
            let garbage = [&first[..], b"garbage"].concat();
            assert!(decoded(coding, &garbage, size).is_err(), "{coding:?}");
            let both = decoded(coding, &[&first[..], &second[..]].concat(), size);
            if coding == Coding::Brotli {
                assert!(both.is_err());
            } else {
                assert_eq!(both.unwrap(), b"hello, world", "{coding:?}");
            }
        }
    }
}

#[test]
fn a_damaged_check_sum_is_an_error() {
    let mut data = encoded(Coding::Gzip, b"hello");
    let at = data.len() - 8;
    data[at] ^= 1;
    assert!(decoded(Coding::Gzip, &data, 100).is_err());
}

#[test]
fn windows_larger_than_the_standards_have_are_refused() {
    // `--large_window=30` of brotli begins so.
    assert!(decoded(Coding::Brotli, &[0x11, 0x1e, 0, 0, 0, 0], 10).is_err());
    assert_eq!((brotli_window(0x0f), brotli_window(0x0b), brotli_window(0)), (Some(24), Some(22), Some(16)));

    for (log, is_allowed) in [(10, true), (23, true), (24, false), (27, false)] {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        encoder.write_all(&text(100_000)).unwrap();
        let data = encoder.finish().unwrap();
        assert_eq!(zstd_window(&data), Window::Bytes(1 << log));
        assert_eq!(decoded(Coding::Zstd, &data, 1000).is_ok(), is_allowed, "{log}");
    }
}

#[test]
fn a_later_frame_can_have_a_larger_window_which_is_counted() {
    let frame = |log| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        encoder.write_all(&text(5000)).unwrap();
        encoder.finish().unwrap()
    };
    let skipped = [0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let all = [&skipped[..], &frame(12), &skipped, &frame(20), &frame(12), &skipped].concat();
    for size in [1, 7, 100, all.len()] {
        assert!(decoded(Coding::Zstd, &all, size).unwrap() == text(5000).repeat(3), "{size}");
    }
    // With a single segment the window of each is its length.
    let whole = |len| zstd::bulk::compress(&text(len), 3).unwrap();
    let both = [whole(100), whole(300_000)].concat();
    assert!(decoded(Coding::Zstd, &both, 100).unwrap() == [text(100), text(300_000)].concat());
    assert!(decoded(Coding::Zstd, &[frame(12), frame(24)].concat(), 100).is_err());

    let memory = DecoderMemory::new(3 << 19);
    let mut decoder = Decoder::new(Coding::Zstd, &memory, &unit());
    decoder.feed(&[frame(12), frame(20)].concat().into());
    let end = loop {
        match decoder.next() {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    assert!(matches!(end, Err(DecodeFault::Memory)), "{end:?}");
}

#[test]
fn a_unit_has_so_much_memory_for_decoders_and_no_more() {
    let memory = DecoderMemory::new(30 << 20);
    let data = Bytes::from(encoded(Coding::Brotli, &text(100_000)));
    let begin = || {
        let mut decoder = Decoder::new(Coding::Brotli, &memory, &unit());
        decoder.feed(&data);
        decoder.next().map(|_| decoder)
    };
    let mut decoders: Vec<_> = (0..3).map(|_| begin().ok().unwrap()).collect();
    assert!(matches!(begin(), Err(DecodeFault::Memory)));
    decoders.pop();
    assert!(begin().is_ok());
}

#[test]
fn only_a_single_coding_that_is_known_is_decoded() {
    let of = |values: &[&'static str]| {
        let values = values.iter().map(|value| (header::CONTENT_ENCODING, HeaderValue::from_static(value)));
        Coding::of(&values.collect())
    };
    assert_eq!(of(&["gzip"]), Some(Coding::Gzip));
    assert_eq!(of(&["X-GZIP"]), Some(Coding::Gzip));
    assert_eq!(of(&["br"]), Some(Coding::Brotli));
    assert_eq!(of(&["zstd"]), Some(Coding::Zstd));
    for other in [&[][..], &["identity"], &["deflate"], &["gzip, br"], &["gzip", "br"], &[""]] {
        assert_eq!(of(other), None, "{other:?}");
    }
}
