//! Reads the broker's answer in AWS_MSK_IAM.

use std::fmt;

/// The version of the exchange, in both directions.
pub(super) const VERSION: &str = "2020_10_22";
/// A request id is a UUID; this is the most of one that is kept.
const MOST_OF_ID: usize = 128;

/// What is wrong with the broker's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AwsMskError {
    /// It is not the JSON that it should be.
    Malformed(String),
    /// It is of another version than ours.
    Version(String),
}

impl fmt::Display for AwsMskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(reason) => write!(f, "the broker's answer is not that of AWS_MSK_IAM: {reason}"),
            Self::Version(version) => {
                write!(f, "the broker's answer is of version {version:?}, not {VERSION:?}")
            }
        }
    }
}

impl std::error::Error for AwsMskError {}

/// The request id in the answer, by which AWS finds the authentication in its logs.
///
/// # Errors
/// The answer is not JSON with our version and a request id.
pub fn request_id(answer: &[u8]) -> Result<String, AwsMskError> {
    // Parsed by hand into fields: what else an answer may carry is AWS's business.
    let answer: serde_json::Value =
        serde_json::from_slice(answer).map_err(|error| AwsMskError::Malformed(error.to_string()))?;
    let text = |name: &str| answer.get(name).and_then(serde_json::Value::as_str);
    match text("version") {
        Some(VERSION) => {}
        Some(other) => return Err(AwsMskError::Version(other.chars().take(MOST_OF_ID).collect())),
        None => return Err(AwsMskError::Malformed("it has no version".into())),
    }
    let id = text("request-id").ok_or_else(|| AwsMskError::Malformed("it has no request-id".into()))?;
    Ok(id.chars().take(MOST_OF_ID).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_our_version_and_an_id() {
        let answer = br#"{"version":"2020_10_22","request-id":"38a3-1","other":[1]}"#;
        assert_eq!(request_id(answer).unwrap(), "38a3-1");
    }

    #[test]
    fn anything_else_is_refused_and_named() {
        for (answer, said) in [
            (&b""[..], "EOF"),
            (b"[]", "no version"),
            (br#"{"version":1,"request-id":"x"}"#, "no version"),
            (br#"{"version":"2020_10_22"}"#, "no request-id"),
            (br#"{"version":"2020_10_22","request-id":null}"#, "no request-id"),
            (br#"{"version":"2031_01_01","request-id":"x"}"#, "2031_01_01"),
            (b"\xff\x00", "expected"),
        ] {
            let error = request_id(answer).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let deep = "[".repeat(100_000);
        assert!(matches!(request_id(deep.as_bytes()), Err(AwsMskError::Malformed(_))));
    }
}
