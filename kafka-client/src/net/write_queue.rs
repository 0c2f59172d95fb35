//! Holds the bytes that wait for the socket, and says which requests a write has begun and finished.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Pieces in one vectored write. Linux takes 1,024; 64 already hold a megabyte of produce batches.
pub(crate) const PIECES_PER_WRITE: usize = 64;

/// Bytes that are copied together for one write to a stream that cannot write vectored (TLS): enough for its largest
/// records, four of them.
const COPIED_PER_WRITE: usize = 64 * 1024;

/// Requests in the order of the socket, in pieces that are not copied together.
#[derive(Default)]
pub(crate) struct WriteQueue {
    pieces: VecDeque<Piece>,
    /// Whether a byte of the first request has been written.
    begun: bool,
    copied: BytesMut,
}

struct Piece {
    bytes: Bytes,
    ends_request: bool,
}

/// What a write has done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Requests whose last byte is written.
    pub(crate) finished: usize,
    /// Whether the request after those is begun.
    pub(crate) begun: bool,
}

impl WriteQueue {
    /// Appends a request.
    pub(crate) fn push(&mut self, header: Bytes, body: Vec<Bytes>) {
        self.pieces.push_back(Piece { bytes: header, ends_request: false });
        let body = body.into_iter().filter(|bytes| !bytes.is_empty());
        self.pieces.extend(body.map(|bytes| Piece { bytes, ends_request: false }));
        if let Some(last) = self.pieces.back_mut() {
            last.ends_request = true;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The next bytes for a vectored write; the rest of `slices` stays as it is.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; PIECES_PER_WRITE]) -> usize {
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(&piece.bytes);
            count += 1;
        }
        count
    }

    /// The next bytes for a stream that takes one buffer at a time. Small pieces are copied together, so that a
    /// header does not become a packet of its own.
    pub(crate) fn buffer(&mut self) -> &[u8] {
        if self.pieces.front().is_some_and(|piece| piece.bytes.len() >= COPIED_PER_WRITE) {
            return self.pieces.front().map_or(&[], |piece| &piece.bytes);
        }
        self.copied.clear();
        for piece in &self.pieces {
            let room = COPIED_PER_WRITE - self.copied.len();
            self.copied.extend_from_slice(&piece.bytes[..piece.bytes.len().min(room)]);
            if self.copied.len() == COPIED_PER_WRITE {
                break;
            }
        }
        &self.copied
    }

    /// How many requests have a byte among the first `count`.
    pub(crate) fn requests_within(&self, count: usize) -> usize {
        let mut requests = 0;
        let mut before = 0;
        let mut begins = true;
        for piece in &self.pieces {
            if before >= count {
                break;
            }
            requests += usize::from(begins);
            before += piece.bytes.len();
            begins = piece.ends_request;
        }
        requests
    }

    /// Removes the first `count` bytes, which the socket has taken.
    pub(crate) fn advance(&mut self, mut count: usize) -> Written {
        let mut finished = 0;
        self.begun |= count > 0;
        while let Some(piece) = self.pieces.front_mut() {
            if count < piece.bytes.len() {
                piece.bytes.advance(count);
                break;
            }
            count -= piece.bytes.len();
            if piece.ends_request {
                finished += 1;
                self.begun = count > 0;
            }
            self.pieces.pop_front();
        }
        Written { finished, begun: self.begun }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(requests: &[&[&'static str]]) -> WriteQueue {
        let mut queue = WriteQueue::default();
        for pieces in requests {
            let mut pieces = pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes()));
            queue.push(pieces.next().unwrap(), pieces.collect());
        }
        queue
    }

    #[test]
    fn every_split_of_the_bytes_finishes_and_begins_the_right_requests() {
        let requests: &[&[&str]] = &[&["head", "body"], &["h"], &["hh", "", "b"]];
        let ends = [8, 9, 12];
        for first in 0..=12 {
            for second in first..=12 {
                let mut queue = queue(requests);
                let mut finished = 0;
                for (from, to) in [(0, first), (first, second)] {
                    let written = queue.advance(to - from);
                    finished += written.finished;
                    assert_eq!(finished, ends.iter().filter(|end| **end <= to).count(), "{first} {second}");
                    assert_eq!(written.begun, to > 0 && to != 12 && !ends.contains(&to), "{first} {second}");
                }
                assert_eq!(queue.is_empty(), second == 12);
            }
        }
    }

    #[test]
    fn a_vectored_write_offers_the_pieces_as_they_are() {
        let mut queue = queue(&[&["head", "body"], &["h2"]]);
        queue.advance(2);
        let mut slices = [IoSlice::new(&[]); PIECES_PER_WRITE];
        let count = queue.slices(&mut slices);
        let offered: Vec<&[u8]> = slices[..count].iter().map(|slice| &**slice).collect();
        assert_eq!(offered, [b"ad".as_slice(), b"body", b"h2"]);
        assert_eq!([0, 1, 6, 7, 99].map(|count| queue.requests_within(count)), [0, 1, 1, 2, 2]);
    }

    #[test]
    fn one_buffer_holds_many_small_pieces_and_a_large_one_is_not_copied() {
        let mut queue = queue(&[&["head", "body"], &["h2"]]);
        assert_eq!(queue.buffer(), b"headbodyh2");
        let large = Bytes::from(vec![7; COPIED_PER_WRITE + 1]);
        queue.push(Bytes::from_static(b"h3"), vec![large.clone()]);
        assert_eq!(queue.buffer().len(), COPIED_PER_WRITE);
        queue.advance(12);
        assert_eq!(queue.buffer().as_ptr(), large.as_ptr());
    }

    #[test]
    fn at_most_64_pieces_go_into_one_write() {
        let mut queue = WriteQueue::default();
        for _ in 0..100 {
            queue.push(Bytes::from_static(b"h"), vec![]);
        }
        let mut slices = [IoSlice::new(&[]); PIECES_PER_WRITE];
        assert_eq!(queue.slices(&mut slices), PIECES_PER_WRITE);
    }
}
