//! Codecs as a whole: what is written comes back, other programs' frames are read, nothing passes the limit.
//!
//! The frames in `vectors` came from `lines(150_000)` and `lines(5_000_000)` through the command-line tools, with
//! `lz4 -B4 -BI --no-frame-crc`, `-B5 -BD -BX`, `-B6 -BD --content-size`, `-9 -B7 -BI -BX --content-size`;
//! `zstd --no-check -1`, `--check -19`, and from a pipe `--ultra -22 --long=27 --no-check`, `-3`; `gzip -9`, and
//! `gzip -1 -n` with `gzip -6 -n` behind it.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use bytes::{BufMut, BytesMut};
use kafka_wire::compression::{
    Compression, CompressionError, Compressor, DEFAULT_DECOMPRESSION_LIMIT, Decompressor, decompress,
};

const CODECS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn compressed(codec: Compression, input: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    Compressor::new(codec, None).unwrap().compress(input, &mut out).unwrap();
    out
}

fn decompressed(codec: Compression, input: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    decompress(codec, input, DEFAULT_DECOMPRESSION_LIMIT, &mut out)?;
    Ok(out)
}

fn lines(len: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for i in 0.. {
        if text.len() >= len {
            break;
        }
        text.extend_from_slice(format!("line {} of a log that repeats itself\n", i / 200).as_bytes());
    }
    text.truncate(len);
    text
}

/// From noise to a single repeated byte.
fn samples(rng: &mut fastrand::Rng, len: usize) -> [Vec<u8>; 4] {
    [
        (0..len).map(|_| rng.u8(..)).collect(),
        (0..len).map(|_| rng.u8(b'a'..b'e')).collect(),
        lines(len),
        vec![b'x'; len],
    ]
}

#[test]
fn every_codec_gives_back_what_it_was_given() {
    let lens = [0, 1, 5, 12, 13, 100, 4096, 32_767, 32_768, 32_769, 65_534, 65_535, 65_536, 65_537, 300_000];
    for codec in CODECS {
        let mut compressor = Compressor::new(codec, None).unwrap();
        let mut decompressor = Decompressor::default();
        let rng = &mut fastrand::Rng::with_seed(codec.id().into());
        for len in lens {
            for input in samples(rng, len) {
                // Both sides are used again and again, behind bytes that they must leave alone.
                let mut packed = BytesMut::from(&b"before"[..]);
                compressor.compress(&input, &mut packed).unwrap();
                assert!(packed.starts_with(b"before"));
                let unpacked = decompressor.decompress(codec, &packed[6..]).unwrap();
                assert!(unpacked == input, "{codec}, {len} bytes");
                decompressor.recycle(unpacked);
                let mut out = b"before".to_vec();
                decompressor.decompress_into(codec, &packed[6..], &mut out).unwrap();
                assert!(out.starts_with(b"before") && out[6..] == input, "{codec}, {len} bytes");
            }
        }
    }
}

#[test]
fn frames_of_the_command_line_tools_are_read() {
    let frames: [(Compression, usize, &[u8]); 10] = [
        (Compression::Lz4, 150_000, include_bytes!("vectors/lz4-64k.lz4")),
        (Compression::Lz4, 5_000_000, include_bytes!("vectors/lz4-256k-linked-checksums.lz4")),
        (Compression::Lz4, 5_000_000, include_bytes!("vectors/lz4-1m-linked-size.lz4")),
        (Compression::Lz4, 5_000_000, include_bytes!("vectors/lz4-4m.lz4")),
        (Compression::Zstd, 150_000, include_bytes!("vectors/zstd-1.zst")),
        (Compression::Zstd, 5_000_000, include_bytes!("vectors/zstd-19.zst")),
        (Compression::Zstd, 5_000_000, include_bytes!("vectors/zstd-22-window-128m.zst")),
        (Compression::Zstd, 150_000, include_bytes!("vectors/zstd-3-no-size.zst")),
        (Compression::Gzip, 150_000, include_bytes!("vectors/gzip-named.gz")),
        (Compression::Gzip, 300_000, include_bytes!("vectors/gzip-two-members.gz")),
    ];
    let mut decompressor = Decompressor::new(5_000_000);
    for (n, (codec, len, frame)) in frames.into_iter().enumerate() {
        let expected = if n == 9 { [lines(150_000), lines(150_000)].concat() } else { lines(len) };
        assert!(decompressor.decompress(codec, frame).unwrap() == expected, "frame {n} of {codec}");
        let limit = len - 1;
        let refused = Decompressor::new(limit).decompress(codec, frame);
        assert_eq!(refused, Err(CompressionError::TooLarge { codec, limit }), "frame {n}");
    }
}

#[test]
fn frames_may_follow_each_other_and_be_skipped() {
    let skipped = |magic: u32| {
        let mut frame = BytesMut::new();
        frame.put_u32_le(magic);
        frame.put_u32_le(5);
        frame.put_slice(b"aside");
        frame
    };
    for codec in [Compression::Lz4, Compression::Zstd] {
        let [first, second] = [compressed(codec, b"first "), compressed(codec, b"second")];
        let all = [&skipped(0x184d_2a50)[..], &first, &skipped(0x184d_2a5f), &second].concat();
        assert_eq!(decompressed(codec, &all).unwrap(), b"first second", "{codec}");
        assert!(decompressed(codec, &skipped(0x184d_2a53)[..12]).is_err(), "{codec}");
    }
    for codec in [Compression::Gzip, Compression::Snappy] {
        let [first, second] = [compressed(codec, b"first "), compressed(codec, b"second")];
        assert_eq!(decompressed(codec, &[first, second].concat()).unwrap(), b"first second", "{codec}");
    }
}

#[test]
fn snappy_is_read_with_and_without_framing() {
    let raw = snap::raw::Encoder::new().compress_vec(b"a raw block, as librdkafka sends it").unwrap();
    assert_eq!(decompressed(Compression::Snappy, &raw).unwrap(), b"a raw block, as librdkafka sends it");
    let framed = compressed(Compression::Snappy, &lines(100_000));
    assert_eq!(framed[..16], *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    // Four blocks of 32 KiB, each readable by itself.
    let (mut rest, mut blocks) = (&framed[16..], Vec::new());
    while let Some((size, tail)) = rest.split_first_chunk::<4>() {
        let (block, tail) = tail.split_at(u32::from_be_bytes(*size) as usize);
        blocks.push(snap::raw::Decoder::new().decompress_vec(block).unwrap());
        rest = tail;
    }
    assert_eq!(blocks.iter().map(Vec::len).collect::<Vec<_>>(), [32_768, 32_768, 32_768, 1_696]);
    assert_eq!(blocks.concat(), lines(100_000));
}

#[test]
fn lz4_is_written_as_independent_blocks_of_64_kib() {
    let frame = compressed(Compression::Lz4, &lines(150_000));
    // Magic, version 1 with independent blocks and nothing optional, 64 KiB, the header's checksum.
    assert_eq!(frame[..7], [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]);
    let (mut rest, mut blocks) = (&frame[7..], Vec::new());
    loop {
        let (size, tail) = rest.split_first_chunk::<4>().unwrap();
        let size = u32::from_le_bytes(*size) as usize;
        if size == 0 {
            assert!(tail.is_empty());
            break;
        }
        blocks.push(lz4_flex::block::decompress(&tail[..size], 65_536).unwrap());
        rest = &tail[size..];
    }
    assert_eq!(blocks.iter().map(Vec::len).collect::<Vec<_>>(), [65_536, 65_536, 18_928]);
    assert_eq!(blocks.concat(), lines(150_000));
    // What does not shrink is stored: 11 bytes of frame and 4 a block.
    let noise: Vec<u8> = samples(&mut fastrand::Rng::with_seed(5), 150_000)[0].clone();
    assert_eq!(compressed(Compression::Lz4, &noise).len(), 150_000 + 11 + 3 * 4);
}

#[test]
fn the_limit_is_exact_and_bombs_stop_at_it() {
    let input = vec![0; 3_000_000];
    for codec in CODECS {
        let bomb = compressed(codec, &input);
        assert!(bomb.len() < 150_000, "{codec}: {}", bomb.len());
        assert_eq!(Decompressor::new(3_000_000).decompress(codec, &bomb).unwrap().len(), 3_000_000);
        for limit in [0, 1, 65_536, 2_999_999] {
            let refused = Decompressor::new(limit).decompress(codec, &bomb);
            assert_eq!(refused, Err(CompressionError::TooLarge { codec, limit }));
        }
    }
    let too_large = |limit| Err(CompressionError::TooLarge { codec: Compression::None, limit });
    assert_eq!(Decompressor::new(2).decompress(Compression::None, b"abc"), too_large(2));
}

#[test]
fn cut_off_and_damaged_data_is_an_error_and_leaves_the_decompressor_usable() {
    let input = lines(20_000);
    let mut decompressor = Decompressor::new(1 << 20);
    let rng = &mut fastrand::Rng::with_seed(9);
    for codec in CODECS {
        let frame = compressed(codec, &input);
        for end in (0..frame.len()).filter(|&end| end < 100 || end + 100 > frame.len()) {
            let cut = decompressor.decompress(codec, &frame[..end]);
            // Snappy frames end where their bytes end, so they can be cut behind a block.
            let at_a_block = codec == Compression::Snappy && end == 16;
            assert!(cut.is_err() || at_a_block, "{codec} cut at {end}");
        }
        for _ in 0..2_000 {
            let mut damaged = frame.to_vec();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..damaged.len());
                damaged[at] = rng.u8(..);
            }
            if let Ok(bytes) = decompressor.decompress(codec, &damaged) {
                assert!(bytes.len() <= 1 << 20);
            }
            let intact = decompressor.decompress(codec, &frame).unwrap();
            assert!(intact == input);
            decompressor.recycle(intact);
        }
    }
}

#[test]
fn levels_that_a_codec_lacks_are_refused_by_name() {
    let refused = |codec, level| Compressor::new(codec, Some(level)).unwrap_err().to_string();
    assert_eq!(
        refused(Compression::Gzip, 10),
        "gzip cannot compress at level 10: use 1 to 9, or -1 for its default"
    );
    assert!(refused(Compression::Snappy, 1).contains("no levels"));
    assert!(refused(Compression::Lz4, 3).contains("one level"));
    assert!(refused(Compression::None, 1).contains("no level"));
    for level in [-1, 1, 9] {
        Compressor::new(Compression::Gzip, Some(level)).unwrap();
    }
    Compressor::new(Compression::Lz4, Some(9)).unwrap();
    Compressor::new(Compression::Zstd, Some(1)).unwrap();
}

#[cfg(not(feature = "zstd"))]
#[test]
fn zstd_levels_name_the_feature_that_they_need() {
    let refused = Compressor::new(Compression::Zstd, Some(3)).unwrap_err();
    assert!(refused.to_string().contains("feature `zstd`"), "{refused}");
}

#[cfg(feature = "zstd")]
#[test]
fn zstd_levels_differ_with_the_c_library() {
    let len = |level| {
        let mut out = BytesMut::new();
        let input: Vec<u8> = (0..50_000_u64).flat_map(|n| (n * n % 1009).to_string().into_bytes()).collect();
        Compressor::new(Compression::Zstd, Some(level)).unwrap().compress(&input, &mut out).unwrap();
        assert_eq!(decompressed(Compression::Zstd, &out).unwrap(), input);
        out.len()
    };
    assert!(len(19) < len(1) && len(1) < len(-50));
    for level in [23, -131_073] {
        assert!(matches!(
            Compressor::new(Compression::Zstd, Some(level)),
            Err(CompressionError::Level { .. })
        ));
    }
}

#[test]
fn codecs_have_kafkas_names_and_numbers() {
    for (id, name) in ["none", "gzip", "snappy", "lz4", "zstd"].into_iter().enumerate() {
        let codec = Compression::from_id(id as u8).unwrap();
        assert_eq!((usize::from(codec.id()), codec.to_string().as_str()), (id, name));
        assert_eq!(name.parse(), Ok(codec));
    }
    assert_eq!(Compression::from_id(5), None);
    assert_eq!(
        "LZ4".parse::<Compression>().unwrap_err().to_string(),
        "unknown compression \"LZ4\": use none, gzip, snappy, lz4 or zstd"
    );
}
