//! Which cryptography TLS runs on: the one that was compiled in, never a process-wide default.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use crate::error::Result;

/// aws-lc-rs if its feature is on, else ring.
///
/// # Errors
/// Neither was compiled in.
#[cfg(feature = "aws-lc-rs")]
pub(crate) fn provider() -> Result<Arc<CryptoProvider>> {
    Ok(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

/// aws-lc-rs if its feature is on, else ring.
///
/// # Errors
/// Neither was compiled in.
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
pub(crate) fn provider() -> Result<Arc<CryptoProvider>> {
    Ok(Arc::new(rustls::crypto::ring::default_provider()))
}

/// aws-lc-rs if its feature is on, else ring.
///
/// # Errors
/// Neither was compiled in.
#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
pub(crate) fn provider() -> Result<Arc<CryptoProvider>> {
    let remedy =
        "turn on the feature `ring` or `aws-lc-rs`, or give your own configuration by Tls::with_rustls";
    Err(crate::error::Error::config("security.protocol", "SSL", remedy))
}
