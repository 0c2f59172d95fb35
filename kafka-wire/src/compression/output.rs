//! Where decompressed bytes go: a buffer that grows with what is produced and refuses to pass the limit.

use super::{Compression, CompressionError};

/// Compressed records rarely shrink more than this, so reserving as much at once saves most regrowth.
const USUAL_RATIO: usize = 4;

pub(super) struct Output<'a> {
    codec: Compression,
    buffer: &'a mut Vec<u8>,
    start: usize,
    limit: usize,
}

impl<'a> Output<'a> {
    pub(super) fn new(codec: Compression, buffer: &'a mut Vec<u8>, limit: usize) -> Output<'a> {
        let start = buffer.len();
        Output { codec, buffer, start, limit }
    }

    /// Makes room for what `input_len` bytes usually decompress to.
    pub(super) fn expect(&mut self, input_len: usize) {
        self.reserve(input_len.saturating_mul(USUAL_RATIO).min(self.left()));
    }

    /// Makes room for `more` bytes, no more than are left: by doubling, but never beyond the limit.
    fn reserve(&mut self, more: usize) {
        let (len, capacity) = (self.buffer.len(), self.buffer.capacity());
        if len + more > capacity {
            let doubled = capacity.saturating_mul(2).min(self.start.saturating_add(self.limit));
            self.buffer.reserve_exact(doubled.max(len + more) - len);
        }
    }

    /// What was produced.
    pub(super) fn produced(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Bytes that may still come.
    pub(super) fn left(&self) -> usize {
        self.limit - self.produced().len()
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) -> Result<(), CompressionError> {
        if bytes.len() > self.left() {
            return Err(self.too_large());
        }
        self.reserve(bytes.len());
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Lets `fill` write up to `room` bytes (no more than are left) behind what was produced, and keeps as many as it
    /// says. It gets all that was produced with the room behind it, and where that starts.
    pub(super) fn fill<E>(
        &mut self,
        room: usize,
        fill: impl FnOnce(&mut [u8], usize) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let room = room.min(self.left());
        let before = self.buffer.len();
        self.reserve(room);
        self.buffer.resize(before + room, 0);
        let filled = fill(&mut self.buffer[self.start..], before - self.start);
        self.buffer.truncate(before + filled.as_ref().map_or(0, |&used| used.min(room)));
        filled
    }

    /// As [`fill`](Output::fill), for a decoder that cannot say how much is still to come: at the limit it gets one byte
    /// of room, and using it is the error.
    pub(super) fn fill_stream(
        &mut self,
        room: usize,
        fill: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<usize, CompressionError> {
        if self.left() > 0 {
            return self.fill(room.max(1), |bytes, at| Ok(fill(&mut bytes[at..])));
        }
        if fill(&mut [0]) > 0 { Err(self.too_large()) } else { Ok(0) }
    }

    pub(super) fn too_large(&self) -> CompressionError {
        CompressionError::TooLarge { codec: self.codec, limit: self.limit }
    }

    pub(super) fn malformed(&self, reason: &'static str) -> CompressionError {
        CompressionError::Malformed { codec: self.codec, reason }
    }
}
