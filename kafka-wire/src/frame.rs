//! Splits a byte stream into frames of a bounded length, with memory that grows with bytes received.

use bytes::{Buf, Bytes, BytesMut};

use crate::error::{ProtocolError, ProtocolErrorKind};

/// The most bytes a frame may have once a connection is ready, 100 MiB: Kafka's `socket.request.max.bytes`.
pub const MAX_FRAME: usize = 100 * 1024 * 1024;
/// The most bytes a frame may have before a connection is ready, 512 KiB: the peer has not proved to be Kafka yet.
pub const MAX_FRAME_BEFORE_READY: usize = 512 * 1024;

const PREFIX: usize = 4;
const SMALLEST_STEP: usize = 64 * 1024;
const LARGEST_STEP: usize = 512 * 1024;
/// The most room for one read into a large frame; it stays in the processor's cache until it is copied.
const LARGEST_READ: usize = 256 * 1024;

/// Cuts frames off the front of a read buffer.
///
/// Call [`reserve`](Self::reserve), read into the buffer, then [`decode`](Self::decode) until it returns `None`.
/// The length prefix only ever decides when a frame ends. Memory follows what arrived, at most 1 MiB ahead of it,
/// so that a peer that announces 100 MiB and sends ten bytes costs 128 KiB.
#[derive(Debug)]
pub struct FrameDecoder {
    max: usize,
    seen_frame: bool,
    large: Option<LargeFrame>,
}

/// A frame that outgrew the read buffer.
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
        Self { max, seen_frame: false, large: None }
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
            large.absorb(buffer);
            return Ok(self.large.take_if(|large| large.missing() == 0).map(|large| large.bytes.into()));
        }
        let Some(length) = self.announced_length(buffer)? else { return Ok(None) };
        if buffer.len() - PREFIX >= length {
            self.seen_frame = true;
            buffer.advance(PREFIX);
            return Ok(Some(buffer.split_to(length).freeze()));
        }
        if length > LARGEST_STEP {
            self.seen_frame = true;
            buffer.advance(PREFIX);
            let mut large = LargeFrame { bytes: Vec::new(), length };
            large.absorb(buffer);
            self.large = Some(large);
        }
        Ok(None)
    }

    /// Makes room in `buffer` for the next read, as much as the bytes received so far justify.
    pub fn reserve(&self, buffer: &mut BytesMut) {
        let (missing, received) = match (&self.large, prefix(buffer)) {
            (Some(large), _) => (large.missing(), large.bytes.len().min(LARGEST_READ)),
            // An invalid length is for `decode` to report.
            (None, Some(length)) => {
                let received = buffer.len() - PREFIX;
                (usize::try_from(length).unwrap_or(0).saturating_sub(received), received)
            }
            (None, None) => (0, 0),
        };
        // Not less than the smallest step: what follows the frame comes along in the same read.
        buffer.reserve(step(missing, received).max(SMALLEST_STEP));
    }

    /// Whether part of a frame has arrived, so that an end of stream now would cut it.
    #[must_use]
    pub fn is_mid_frame(&self, buffer: &BytesMut) -> bool {
        self.large.is_some() || !buffer.is_empty()
    }

    fn announced_length(&self, buffer: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let Some(length) = prefix(buffer) else { return Ok(None) };
        let too_large = usize::try_from(length).is_ok_and(|length| length > self.max);
        let kind = match (buffer, usize::try_from(length)) {
            // An alert or a handshake record of TLS; as a length it would be 336 MiB and more.
            ([0x15 | 0x16, 0x03, ..], _) if too_large || !self.seen_frame => ProtocolErrorKind::PeerSpeaksTls,
            (text, _) if (too_large || !self.seen_frame) && is_http(text) => {
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

    fn absorb(&mut self, buffer: &mut BytesMut) {
        let part = buffer.len().min(self.missing());
        if self.bytes.capacity() - self.bytes.len() < part {
            let ahead = step(self.missing() - part, self.bytes.len() + part);
            self.bytes.reserve_exact(part + ahead);
        }
        self.bytes.extend_from_slice(&buffer[..part]);
        buffer.advance(part);
    }
}

/// How far memory may run ahead of the bytes received.
fn step(missing: usize, received: usize) -> usize {
    missing.min(received.clamp(SMALLEST_STEP, LARGEST_STEP))
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

    #[test]
    fn frames_come_out_however_the_bytes_come_in() {
        let lengths = [0, 1, 5, 70_000, 3, LARGEST_STEP, LARGEST_STEP + 1, 3_000_000, 8];
        let stream: Vec<u8> = lengths.iter().flat_map(|length| frame(*length)).collect();
        for piece in [1, 7, 4096, 65_537, stream.len()] {
            // One byte at a time is slow for megabytes and tells nothing new there.
            let stream = if piece < 4096 { &stream[..70_029] } else { &stream[..] };
            let mut decoder = FrameDecoder::new(MAX_FRAME);
            let mut buffer = BytesMut::new();
            let mut found = Vec::new();
            for part in stream.chunks(piece) {
                decoder.reserve(&mut buffer);
                buffer.extend_from_slice(part);
                while let Some(bytes) = decoder.decode(&mut buffer).unwrap() {
                    assert_eq!(bytes, frame(bytes.len())[4..]);
                    found.push(bytes.len());
                }
            }
            assert_eq!(found, &lengths[..found.len()]);
            assert_eq!(found.len(), if piece < 4096 { 5 } else { lengths.len() });
            assert!(!decoder.is_mid_frame(&buffer));
        }
    }

    #[test]
    fn memory_follows_the_bytes_received_and_not_the_prefix() {
        let mut random = seeded();
        let part = vec![0; 300_000];
        for announced in [10, 1000, 70_000, 500_000, 2_000_000, MAX_FRAME] {
            let mut received = 0;
            let ((), used) = counting_alloc::measure(|| {
                let mut decoder = FrameDecoder::new(MAX_FRAME);
                let mut buffer = BytesMut::from(&(announced as i32).to_be_bytes()[..]);
                while received < announced.min(10_000_000) {
                    assert_eq!(decoder.decode(&mut buffer), Ok(None));
                    decoder.reserve(&mut buffer);
                    // As a socket would: no more than there is room for.
                    let room = buffer.capacity() - buffer.len();
                    let length = random.usize(1..=room.min(part.len()).min(announced - received));
                    buffer.extend_from_slice(&part[..length]);
                    received += length;
                    let held =
                        buffer.capacity() + decoder.large.as_ref().map_or(0, |large| large.bytes.capacity());
                    assert!(held <= received + (1 << 20), "{held} held, {received} received");
                }
            });
            // While memory moves to a larger place, both are held; the system allocator moves large ones in place.
            assert!(used.largest <= received as u64 + (1 << 20), "{used:?}, {received} received");
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
