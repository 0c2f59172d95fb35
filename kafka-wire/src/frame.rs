//! Splits a byte stream into frames of a bounded length, with memory that grows with bytes received.

use bytes::buf::Limit;
use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::{ProtocolError, ProtocolErrorKind};

/// The most bytes a frame may have once a connection is ready, 100 MiB: Kafka's `socket.request.max.bytes`.
pub const MAX_FRAME: usize = 100 * 1024 * 1024;
/// The most bytes a frame may have before a connection is ready, 512 KiB: the peer has not proved to be Kafka yet.
pub const MAX_FRAME_BEFORE_READY: usize = 512 * 1024;

const PREFIX: usize = 4;
/// The size of a read buffer. A frame that does not fit gets memory of its own.
const READ_BUFFER: usize = 64 * 1024;
/// With less room than this, a read gets a fresh buffer. Not more: many small frames, which their readers keep for a
/// while, share one.
const LEAST_ROOM: usize = 8 * 1024;
/// The most that a frame's memory is ahead of the bytes received. With the read buffer it is 1 MiB.
const MOST_AHEAD: usize = 1024 * 1024 - READ_BUFFER - LEAST_ROOM;
/// The same where frames of as many bytes have come before: an answer of the usual 4 MiB to a fetch then has its memory in
/// one piece, which never has to move.
const MOST_IN_ONE_PIECE: usize = 5 * 1024 * 1024;

/// Cuts frames off the front of a read buffer.
///
/// Read into [`room`](Self::room), then call [`decode`](Self::decode) until it returns `None`. The length prefix only
/// ever decides when a frame ends. Memory follows what arrived on the stream, at most 1 MiB ahead of it: a peer that
/// announces 100 MiB and sends ten bytes costs 128 KiB. One whose frames so far had 5 MiB together may get that far ahead.
#[derive(Debug)]
pub struct FrameDecoder {
    max: usize,
    /// Bytes of whole frames so far.
    received: usize,
    large: Option<LargeFrame>,
}

/// A frame that does not fit into the read buffer, read straight to where it stays.
///
/// `BytesMut` doubles when it grows, which asks for as much again as arrived; a `Vec` can grow by exact steps.
#[derive(Debug)]
struct LargeFrame {
    bytes: Vec<u8>,
    length: usize,
}

impl FrameDecoder {
    /// A decoder for frames of at most `max` bytes.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self { max, received: 0, large: None }
    }

    /// Changes the most bytes a frame may have, from the next frame on.
    pub const fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// The next frame without its length prefix, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::NegativeFrame`], [`ProtocolErrorKind::TooLarge`], [`ProtocolErrorKind::PeerSpeaksTls`]
    /// and [`ProtocolErrorKind::PeerSpeaksHttp`]. The stream cannot be used further.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, ProtocolError> {
        if let Some(large) = &mut self.large {
            large.absorb(buffer, self.received);
            return Ok(self.large.take_if(|large| large.missing() == 0).map(|large| {
                self.received = self.received.saturating_add(large.length);
                large.bytes.into()
            }));
        }
        let Some(length) = self.announced_length(buffer)? else { return Ok(None) };
        if buffer.len() - PREFIX >= length {
            self.received = self.received.saturating_add(length);
            buffer.advance(PREFIX);
            return Ok(Some(buffer.split_to(length).freeze()));
        }
        if length > READ_BUFFER - PREFIX {
            buffer.advance(PREFIX);
            let mut large = LargeFrame { bytes: Vec::new(), length };
            large.absorb(buffer, self.received);
            self.large = Some(large);
        }
        Ok(None)
    }

    /// Where the next bytes of the stream go, and how many may: `buffer`, or a frame that does not fit into it. Call
    /// [`decode`](Self::decode) first, until it returns `None`.
    pub fn room<'a>(&'a mut self, buffer: &'a mut BytesMut) -> Limit<&'a mut (dyn BufMut + Send)> {
        if let Some(large) = &mut self.large {
            // What was in the buffer belongs to this frame, and `decode` has moved it.
            let room = large.reserve(self.received);
            return (&mut large.bytes as &mut (dyn BufMut + Send)).limit(room);
        }
        // A length that is too large is for `decode` to report.
        let length = prefix(buffer).and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        let missing = (PREFIX + length.min(READ_BUFFER)).saturating_sub(buffer.len());
        if buffer.capacity() - buffer.len() < missing.max(LEAST_ROOM) {
            buffer.reserve(READ_BUFFER);
        }
        let room = buffer.capacity() - buffer.len();
        (buffer as &mut (dyn BufMut + Send)).limit(room)
    }

    /// Whether part of a frame has arrived, so that an end of stream now would cut it.
    #[must_use]
    pub fn is_mid_frame(&self, buffer: &BytesMut) -> bool {
        self.large.is_some() || !buffer.is_empty()
    }

    /// What is here of the next frame: how long it will be, and its first bytes.
    #[must_use]
    pub fn begun<'a>(&'a self, buffer: &'a [u8]) -> Option<(usize, &'a [u8])> {
        if let Some(large) = &self.large {
            return Some((large.length, &large.bytes));
        }
        Some((usize::try_from(prefix(buffer)?).ok()?, &buffer[PREFIX..]))
    }

    fn announced_length(&self, buffer: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let Some(length) = prefix(buffer) else { return Ok(None) };
        let too_large = usize::try_from(length).is_ok_and(|length| length > self.max);
        let kind = match (buffer, usize::try_from(length)) {
            // An alert or a handshake record of TLS; as a length it would be 336 MiB and more.
            ([0x15 | 0x16, 0x03, ..], _) if too_large || self.received == 0 => {
                ProtocolErrorKind::PeerSpeaksTls
            }
            (text, _) if (too_large || self.received == 0) && is_http(text) => {
                ProtocolErrorKind::PeerSpeaksHttp
            }
            (_, Err(_)) => ProtocolErrorKind::NegativeFrame(length),
            (_, Ok(length)) if too_large => ProtocolErrorKind::TooLarge { length, limit: self.max },
            (_, Ok(length)) => return Ok(Some(length)),
        };
        Err(ProtocolError::in_frame(kind))
    }
}

impl LargeFrame {
    fn missing(&self) -> usize {
        self.length - self.bytes.len()
    }

    /// Makes room for more, as much as the bytes received justify, and says how much there is.
    fn reserve(&mut self, received_before: usize) -> usize {
        if self.bytes.len() == self.bytes.capacity() {
            let received = received_before.saturating_add(self.bytes.len());
            let ahead = received.clamp(READ_BUFFER, MOST_AHEAD).max(received_before.min(MOST_IN_ONE_PIECE));
            self.bytes.reserve_exact(self.missing().min(ahead));
        }
        self.missing().min(self.bytes.capacity() - self.bytes.len())
    }

    /// Takes what has arrived of it out of the read buffer.
    fn absorb(&mut self, buffer: &mut BytesMut, received_before: usize) {
        while !buffer.is_empty() && self.missing() > 0 {
            let part = buffer.len().min(self.reserve(received_before));
            self.bytes.extend_from_slice(&buffer[..part]);
            buffer.advance(part);
        }
    }
}

fn prefix(buffer: &[u8]) -> Option<i32> {
    buffer.first_chunk::<PREFIX>().map(|prefix| i32::from_be_bytes(*prefix))
}

fn is_http(bytes: &[u8]) -> bool {
    let starts: [&[u8]; 6] = [b"HTTP", b"GET ", b"POST", b"PUT ", b"HEAD", b"OPTI"];
    starts.iter().any(|start| bytes.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::seeded;

    fn frame(length: usize) -> Vec<u8> {
        let mut bytes = (length as i32).to_be_bytes().to_vec();
        bytes.extend((0..length).map(|i| i as u8));
        bytes
    }

    /// Reads as from a socket that has `bytes`, and returns the lengths of the frames that come out.
    fn read(decoder: &mut FrameDecoder, buffer: &mut BytesMut, mut bytes: &[u8]) -> Vec<usize> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let mut room = decoder.room(buffer);
            let count = room.remaining_mut().min(bytes.len());
            room.put_slice(&bytes[..count]);
            bytes = &bytes[count..];
            while let Some(frame) = decoder.decode(buffer).unwrap() {
                assert_eq!(frame, self::frame(frame.len())[4..]);
                found.push(frame.len());
            }
        }
        found
    }

    #[test]
    fn frames_come_out_however_the_bytes_come_in() {
        let fits = READ_BUFFER - PREFIX;
        let lengths = [0, 1, 5, fits, 3, fits + 1, MOST_AHEAD, MOST_AHEAD + 1, 3_000_000, 8];
        let stream: Vec<u8> = lengths.iter().flat_map(|length| frame(*length)).collect();
        for piece in [1, 7, 4096, 65_537, stream.len()] {
            let mut decoder = FrameDecoder::new(MAX_FRAME);
            let mut buffer = BytesMut::new();
            let parts = stream.chunks(piece);
            let found: Vec<_> = parts.flat_map(|part| read(&mut decoder, &mut buffer, part)).collect();
            assert_eq!(found, lengths);
            assert!(!decoder.is_mid_frame(&buffer));
        }
    }

    #[test]
    fn bytes_that_were_put_into_the_buffer_come_out_too() {
        let mut decoder = FrameDecoder::new(MAX_FRAME);
        let mut buffer = BytesMut::new();
        for part in frame(300_000).chunks(100_000) {
            assert_eq!(decoder.decode(&mut buffer), Ok(None));
            buffer.extend_from_slice(part);
        }
        assert_eq!(decoder.decode(&mut buffer).unwrap().unwrap(), frame(300_000)[4..]);
    }

    #[test]
    fn a_megabyte_is_read_to_where_it_stays() {
        let mut decoder = FrameDecoder::new(MAX_FRAME);
        let mut buffer = BytesMut::new();
        let stream = frame(1 << 20);
        assert_eq!(read(&mut decoder, &mut buffer, &stream), [1 << 20]);
        // The peer has proved that it sends what it announces. Beside the read buffer, the frame takes the memory it
        // has at first and once more for its end; two more make `Bytes` of both.
        let ((), used) = counting_alloc::measure(|| {
            let mut rest = &stream[..];
            while !rest.is_empty() {
                let mut room = decoder.room(&mut buffer);
                let count = room.remaining_mut().min(rest.len());
                room.put_slice(&rest[..count]);
                rest = &rest[count..];
                while let Some(frame) = decoder.decode(&mut buffer).unwrap() {
                    assert_eq!(frame.len(), 1 << 20);
                }
            }
        });
        assert!(used.allocations <= 4 && used.bytes <= (1 << 20) + 100_000, "{used:?}");
    }

    #[test]
    fn memory_follows_the_bytes_received_and_not_the_prefix() {
        let mut random = seeded();
        let part = vec![0; 300_000];
        for before in [0, 5_000_000] {
            for announced in [10, 1000, 70_000, 500_000, 2_000_000, MAX_FRAME] {
                let mut received = 0;
                let mut decoder = FrameDecoder::new(MAX_FRAME);
                let mut buffer = BytesMut::new();
                read(&mut decoder, &mut buffer, &frame(before));
                let ((), used) = counting_alloc::measure(|| {
                    buffer.extend_from_slice(&(announced as i32).to_be_bytes());
                    while received < announced.min(10_000_000) {
                        assert_eq!(decoder.decode(&mut buffer), Ok(None));
                        let mut room = decoder.room(&mut buffer);
                        let most = room.remaining_mut().min(part.len()).min(announced - received);
                        let length = random.usize(1..=most);
                        room.put_slice(&part[..length]);
                        received += length;
                        let large = decoder.large.as_ref().map_or(0, |large| large.bytes.capacity());
                        let held = buffer.capacity() + large;
                        assert!(held <= before + received + (1 << 20), "{held} held, {received} received");
                    }
                });
                // While memory moves to a larger place, both are held; the system allocator moves large ones in place.
                assert!(
                    used.largest <= (before + received + (1 << 20)) as u64,
                    "{used:?}, {received} received"
                );
            }
        }
    }

    #[test]
    fn mutated_streams_end_in_frames_or_errors() {
        let mut random = seeded();
        for _ in 0..20_000 {
            let mut stream: Vec<u8> = (0..4).flat_map(|_| frame(random.usize(..50))).collect();
            for _ in 0..random.usize(..3) {
                let at = random.usize(..stream.len());
                stream[at] = *random.choice(&[0, 1, 0x15, 0x7f, 0x80, 0xff]).unwrap();
            }
            let mut decoder = FrameDecoder::new(1 << 20);
            let mut buffer = BytesMut::from(&stream[..random.usize(..=stream.len())]);
            let mut at = 0;
            while let Ok(Some(frame)) = decoder.decode(&mut buffer) {
                assert_eq!(frame, stream[at + PREFIX..at + PREFIX + frame.len()]);
                at += PREFIX + frame.len();
            }
        }
    }

    #[test]
    fn lengths_out_of_bounds_are_named() {
        let error = |bytes: &[u8]| {
            FrameDecoder::new(MAX_FRAME_BEFORE_READY).decode(&mut BytesMut::from(bytes)).unwrap_err().kind
        };
        assert_eq!(error(&[0xff, 0xff, 0xff, 0xff]), ProtocolErrorKind::NegativeFrame(-1));
        let limit = MAX_FRAME_BEFORE_READY;
        assert_eq!(error(&[0, 8, 0, 1]), ProtocolErrorKind::TooLarge { length: limit + 1, limit });
        assert_eq!(error(&[0x15, 3, 3, 0, 2, 2, 40]), ProtocolErrorKind::PeerSpeaksTls);
        assert_eq!(error(&[0x16, 3, 1, 2, 0]), ProtocolErrorKind::PeerSpeaksTls);
        assert_eq!(error(b"HTTP/1.1 400 Bad Request"), ProtocolErrorKind::PeerSpeaksHttp);
        assert_eq!(error(b"GET / HTTP/1.1"), ProtocolErrorKind::PeerSpeaksHttp);
    }
}
