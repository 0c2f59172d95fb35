//! A stream in pieces of any size: the frames must be those of the same stream in one piece.
#![no_main]

use bytes::{BufMut, BytesMut};
use kafka_wire::frame::FrameDecoder;
use libfuzzer_sys::fuzz_target;

fn frames(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, bool) {
    let mut decoder = FrameDecoder::new(3 << 20);
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for mut part in stream.chunks(piece) {
        while !part.is_empty() {
            let mut room = decoder.room(&mut buffer);
            let count = room.remaining_mut().min(part.len());
            room.put_slice(&part[..count]);
            part = &part[count..];
            loop {
                match decoder.decode(&mut buffer) {
                    Ok(Some(frame)) => frames.push(frame.to_vec()),
                    Ok(None) => break,
                    Err(_) => return (frames, true),
                }
            }
        }
    }
    (frames, false)
}

fuzz_target!(|data: &[u8]| {
    let Some((piece, stream)) = data.split_first() else { return };
    let whole = frames(stream, stream.len().max(1));
    assert_eq!(frames(stream, usize::from(*piece) + 1), whole);
});
