//! Where certificates and keys come from: memory, or a file that may change.

use std::fmt;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

/// The most bytes that are read of a file; a bundle of every public authority has a quarter of a megabyte.
const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// Where one PEM text is.
#[derive(Clone)]
pub(crate) enum Source {
    Given(Arc<Zeroizing<Vec<u8>>>),
    File(PathBuf),
}

impl Source {
    pub(crate) fn given(pem: Vec<u8>) -> Self {
        Self::Given(Arc::new(Zeroizing::new(pem)))
    }

    pub(super) fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// What stands there now. Blocks while a file is read.
    pub(super) fn read(&self) -> io::Result<Arc<Zeroizing<Vec<u8>>>> {
        let path = match self {
            Self::Given(pem) => return Ok(pem.clone()),
            Self::File(path) => path,
        };
        // A pipe would block, and could not be read a second time.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let file = std::fs::File::open(path)?;
        // All at once: growing would leave copies of a key behind.
        let room = file.metadata()?.len().min(MOST_BYTES) as usize + 1;
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 16 MiB"));
        }
        Ok(Arc::new(bytes))
    }

    /// How it is shown in an error: the path, never what is in it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Given(pem) => format!("{} bytes of PEM", pem.len()),
            Self::File(path) => path.display().to_string(),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}
