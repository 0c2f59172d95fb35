//! Writes a response as it lies in memory: header and record batches in one system call, without copying them together.

use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// A peer that takes nothing for this long is not reading any more.
const STALLED: Duration = Duration::from_secs(60);
/// Slices in one call; Linux takes 1024, and 64 of usual size fill a socket's buffer.
const SLICES: usize = 64;

/// Writes all parts in order.
pub(super) async fn write_all<W: AsyncWrite + Unpin>(to: &mut W, parts: &mut [Bytes]) -> io::Result<()> {
    let mut first = 0;
    loop {
        while parts.get(first).is_some_and(Bytes::is_empty) {
            first += 1;
        }
        let Some(rest) = parts.get_mut(first..).filter(|rest| !rest.is_empty()) else {
            // TLS may hold the end of what it took.
            return timeout(STALLED, to.flush()).await?;
        };
        let mut slices = [IoSlice::new(&[]); SLICES];
        for (slice, part) in slices.iter_mut().zip(rest.iter()) {
            *slice = IoSlice::new(part);
        }
        let used = rest.len().min(SLICES);
        let mut written = timeout(STALLED, to.write_vectored(&slices[..used])).await??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        for part in rest {
            let taken = written.min(part.len());
            part.advance(taken);
            written -= taken;
        }
    }
}

/// Keeps only the first `most` bytes of a response.
pub(super) fn truncate(parts: &mut Vec<Bytes>, mut most: usize) {
    for part in parts.iter_mut() {
        part.truncate(most);
        most -= part.len();
    }
    parts.retain(|part| !part.is_empty());
}

/// Writes at most so many bytes a second, a tenth of that at a time.
pub(super) async fn drip<W: AsyncWrite + Unpin>(
    to: &mut W,
    parts: Vec<Bytes>,
    bytes_per_second: usize,
) -> io::Result<()> {
    let step = (bytes_per_second / 10).max(1);
    let pause = Duration::from_secs_f64(step as f64 / bytes_per_second.max(1) as f64);
    for mut part in parts {
        while part.has_remaining() {
            let drop = part.split_to(step.min(part.len()));
            write_all(to, &mut [drop]).await?;
            tokio::time::sleep(pause).await;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::time::Instant;

    use super::*;

    fn parts() -> Vec<Bytes> {
        let sizes = (0..200_usize).map(|i| i * 7 % 50);
        sizes.map(|size| Bytes::from(vec![b'a' + (size % 26) as u8; size])).collect()
    }

    #[tokio::test]
    async fn all_parts_arrive_in_order_through_a_narrow_pipe() {
        let (mut ours, mut theirs) = tokio::io::duplex(13);
        let mut rope = parts();
        let writer = async {
            write_all(&mut ours, &mut rope).await.unwrap();
            drop(ours);
        };
        let mut received = Vec::new();
        let (_, read) = tokio::join!(writer, theirs.read_to_end(&mut received));
        read.unwrap();
        assert_eq!(received, parts().concat());
    }

    #[test]
    fn a_truncated_rope_keeps_its_first_bytes() {
        for most in [0, 1, 100, 10_000_000] {
            let mut rope = parts();
            truncate(&mut rope, most);
            let whole = parts().concat();
            assert_eq!(rope.concat(), whole[..most.min(whole.len())]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_never_reads_is_given_up() {
        let (mut ours, _theirs) = tokio::io::duplex(8);
        let started = Instant::now();
        let error = write_all(&mut ours, &mut [Bytes::from_static(&[0; 9])]).await.unwrap_err();
        assert_eq!((error.kind(), started.elapsed()), (io::ErrorKind::TimedOut, STALLED));
    }

    #[tokio::test(start_paused = true)]
    async fn a_drip_takes_its_time() {
        let (mut ours, _theirs) = tokio::io::duplex(1 << 20);
        let started = Instant::now();
        drip(&mut ours, vec![Bytes::from(vec![0; 3000])], 1000).await.unwrap();
        assert_eq!(started.elapsed(), Duration::from_secs(3));
    }
}
