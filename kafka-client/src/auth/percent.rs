//! Percent-encoding as RFC 3986 has it, which readers of HTML forms understand too.

use std::fmt::Write as _;

/// Appends `text`, with everything encoded but letters, digits and `-._~`.
pub(super) fn encode_into(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// Appends `name=value`, after an `&` unless it is the first.
pub(super) fn pair_into(out: &mut String, name: &str, value: &str) {
    if !out.is_empty() {
        out.push('&');
    }
    encode_into(out, name);
    out.push('=');
    encode_into(out, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_the_unreserved_is_encoded() {
        let mut out = String::new();
        pair_into(&mut out, "a b", "-._~aZ09");
        pair_into(&mut out, "ü", "+/=&%\n");
        assert_eq!(out, "a%20b=-._~aZ09&%C3%BC=%2B%2F%3D%26%25%0A");
    }
}
