//! The bytes of a log: whole batches in chunks of about a megabyte, shared with readers instead of copied to them.

use std::collections::VecDeque;
use std::fmt;

use bytes::{Bytes, BytesMut};

/// A log starts small, so that thousands of idle partitions cost little, and grows to chunks of this size.
const FIRST_CHUNK: usize = 16 * 1024;
const LAST_CHUNK: usize = 1024 * 1024;
/// Up to here a read of the chunk that is being filled is copied; above, what is filled is sealed and shared.
/// Without a limit below, a reader that follows closely would cut the log into slices of one batch each.
const COPIED: usize = 64 * 1024;

/// Positions count bytes since the log was created, so they stay when its head is dropped.
#[derive(Default)]
pub(super) struct Chunks {
    sealed: VecDeque<Sealed>,
    /// The chunk that is being filled; its capacity is fixed when it is made.
    active: BytesMut,
    active_position: u64,
    next_capacity: usize,
}

struct Sealed {
    position: u64,
    bytes: Bytes,
}

impl Sealed {
    fn end(&self) -> u64 {
        self.position + self.bytes.len() as u64
    }
}

impl Chunks {
    /// Where the next batch goes.
    pub(super) fn end(&self) -> u64 {
        self.active_position + self.active.len() as u64
    }

    /// Copies a batch to the end, and returns the copy to be patched.
    pub(super) fn append(&mut self, batch: &[u8]) -> &mut [u8] {
        if self.active.capacity() - self.active.len() < batch.len() {
            self.seal();
            self.next_capacity = (self.next_capacity * 2).clamp(FIRST_CHUNK, LAST_CHUNK);
            self.active = BytesMut::with_capacity(self.next_capacity.max(batch.len()));
        }
        let start = self.active.len();
        self.active.extend_from_slice(batch);
        &mut self.active[start..]
    }

    /// Adds `length` bytes from `position` on to `out`, as they lie in memory.
    pub(super) fn read(&mut self, position: u64, length: usize, out: &mut Vec<Bytes>) {
        let end = (position + length as u64).min(self.end());
        if end.saturating_sub(position.max(self.active_position)) > COPIED as u64 {
            self.seal();
        }
        let first = self.sealed.partition_point(|chunk| chunk.end() <= position);
        let mut from = position;
        for chunk in self.sealed.range(first..) {
            if from >= end {
                return;
            }
            let part = offset_in(chunk.position, from)..offset_in(chunk.position, end.min(chunk.end()));
            from = end.min(chunk.end());
            out.push(chunk.bytes.slice(part));
        }
        if from < end {
            let part = offset_in(self.active_position, from)..offset_in(self.active_position, end);
            out.push(Bytes::copy_from_slice(&self.active[part]));
        }
    }

    /// Frees chunks that end at or before `position`.
    pub(super) fn drop_before(&mut self, position: u64) {
        while self.sealed.front().is_some_and(|chunk| chunk.end() <= position) {
            self.sealed.pop_front();
        }
    }

    /// Forgets everything from `position` on.
    pub(super) fn truncate(&mut self, position: u64) {
        self.seal();
        while self.sealed.back().is_some_and(|chunk| chunk.position >= position) {
            self.sealed.pop_back();
        }
        if let Some(last) = self.sealed.back_mut() {
            last.bytes.truncate(offset_in(last.position, position));
        }
        // What readers still hold stays theirs; nothing is written over it.
        self.active = BytesMut::new();
        self.active_position = position;
    }

    /// Shares what has been filled; the rest of the chunk goes on being filled.
    fn seal(&mut self) {
        if !self.active.is_empty() {
            let bytes = self.active.split().freeze();
            let position = self.active_position;
            self.active_position += bytes.len() as u64;
            self.sealed.push_back(Sealed { position, bytes });
        }
    }
}

impl fmt::Debug for Chunks {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} chunks to position {}", self.sealed.len() + 1, self.end())
    }
}

/// Where a position lies in a chunk that starts at `start`.
fn offset_in(start: u64, position: u64) -> usize {
    usize::try_from(position.saturating_sub(start)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(batches: usize, size: usize) -> (Chunks, Vec<u8>) {
        let mut chunks = Chunks::default();
        let mut whole = Vec::new();
        for number in 0..batches {
            let batch = vec![number as u8; size];
            chunks.append(&batch);
            whole.extend(batch);
        }
        assert_eq!(chunks.end(), whole.len() as u64);
        (chunks, whole)
    }

    fn read(chunks: &mut Chunks, position: usize, length: usize) -> Vec<u8> {
        let mut out = Vec::new();
        chunks.read(position as u64, length, &mut out);
        out.concat()
    }

    #[test]
    fn every_range_reads_back_as_it_was_written() {
        for (batches, size) in [(60, 100), (60, 5_000), (9, 300_000)] {
            let (mut chunks, whole) = filled(batches, size);
            let steps = (0..whole.len()).step_by(whole.len() / 11);
            for from in steps.clone() {
                for length in steps.clone().chain([1, whole.len() * 2]) {
                    let end = whole.len().min(from + length);
                    assert_eq!(read(&mut chunks, from, length), whole[from..end], "{size}: {from}+{length}");
                }
            }
        }
    }

    #[test]
    fn large_reads_share_memory_and_small_ones_do_not_cut_it_up() {
        let (mut chunks, _) = filled(1000, 10_000);
        let mut parts = Vec::new();
        chunks.read(0, 10_000_000, &mut parts);
        assert!(parts.len() < 18, "{} parts for ten megabytes", parts.len());
        let mut chunks = Chunks::default();
        for number in 0..1000 {
            chunks.append(&[number as u8; 900]);
            read(&mut chunks, number * 900, 900);
        }
        assert!(chunks.sealed.len() < 10, "{} chunks after a close reader", chunks.sealed.len());
    }

    #[test]
    fn a_dropped_head_and_a_truncated_tail_leave_the_middle() {
        let (mut chunks, mut whole) = filled(60, 5_000);
        chunks.drop_before(100_000);
        assert!(chunks.sealed[0].end() > 100_000, "the chunk that holds it stays");
        chunks.truncate(200_000);
        whole.truncate(200_000);
        assert_eq!(read(&mut chunks, 100_000, 1_000_000), whole[100_000..]);
        chunks.append(b"again");
        assert_eq!(read(&mut chunks, 200_000, 10), b"again");
        chunks.truncate(0);
        assert_eq!((chunks.end(), chunks.sealed.len()), (0, 0));
    }
}
