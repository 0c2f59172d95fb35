//! What a client's certificate calls it: the subject, written by RFC 2253 as Java writes it.

use std::fmt::Write;
use std::sync::Arc;

use crate::principal::Principal;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
/// The tag of a certificate's version.
const VERSION: u8 = 0xa0;
/// UTF8String, PrintableString, T61String, IA5String.
const TEXTS: [u8; 4] = [0x0c, 0x13, 0x14, 0x16];
/// What needs a backslash wherever it is, in Java's eyes.
const ESCAPED: &str = ",=+<>#;\"\\";

/// Kafka's principal for a client with this certificate, in DER.
pub(crate) fn principal(certificate: &[u8]) -> Option<Arc<Principal>> {
    Some(Arc::new(Principal::user(subject(certificate)?)))
}

/// `CN=alice,OU=payments`: the last part of the subject first.
fn subject(certificate: &[u8]) -> Option<String> {
    let (certificate, _) = expect(certificate, SEQUENCE)?;
    let (mut rest, _) = expect(certificate, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.2;
    }
    // Serial number, algorithm, issuer, validity.
    for _ in 0..4 {
        rest = element(rest)?.2;
    }
    let (mut names, _) = expect(rest, SEQUENCE)?;
    let mut parts = Vec::new();
    while !names.is_empty() {
        let (set, after) = expect(names, SET)?;
        parts.push(attributes(set)?);
        names = after;
    }
    parts.reverse();
    Some(parts.join(","))
}

/// The attributes of one part; several are joined by `+`.
fn attributes(mut set: &[u8]) -> Option<String> {
    let mut written = Vec::new();
    while !set.is_empty() {
        let (pair, after) = expect(set, SEQUENCE)?;
        let (oid, value) = expect(pair, OID)?;
        let (tag, text, _) = element(value)?;
        written.push(match (keyword(oid), std::str::from_utf8(text)) {
            (Some(keyword), Ok(text)) if TEXTS.contains(&tag) => format!("{keyword}={}", escaped(text)),
            (keyword, _) => {
                let mut hex = keyword.map_or_else(|| dotted(oid), str::to_owned);
                hex.push_str("=#");
                let whole = value.len() - element(value)?.2.len();
                for byte in &value[..whole] {
                    let _ = write!(hex, "{byte:02x}");
                }
                hex
            }
        });
        set = after;
    }
    Some(written.join("+"))
}

/// The names that RFC 2253 gives.
fn keyword(oid: &[u8]) -> Option<&'static str> {
    Some(match oid {
        [0x55, 4, 3] => "CN",
        [0x55, 4, 6] => "C",
        [0x55, 4, 7] => "L",
        [0x55, 4, 8] => "ST",
        [0x55, 4, 9] => "STREET",
        [0x55, 4, 10] => "O",
        [0x55, 4, 11] => "OU",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1] => "UID",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25] => "DC",
        _ => return None,
    })
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let lead = text.len() - text.trim_start_matches(' ').len();
    let trail = text.trim_end_matches(' ').len();
    for (at, c) in text.char_indices() {
        match c {
            '\0' => out.push_str("\\00"),
            ' ' if at < lead || at >= trail => out.push_str("\\ "),
            c if ESCAPED.contains(c) => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

/// An object identifier as numbers with dots.
fn dotted(oid: &[u8]) -> String {
    let mut numbers: Vec<u128> = Vec::new();
    let mut number: u128 = 0;
    for byte in oid {
        number = number.wrapping_shl(7) | u128::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if numbers.is_empty() {
                let first = (number / 40).min(2);
                numbers.extend([first, number - 40 * first]);
            } else {
                numbers.push(number);
            }
            number = 0;
        }
    }
    numbers.iter().map(u128::to_string).collect::<Vec<_>>().join(".")
}

/// The contents of the element that comes first, if it has this tag, and what follows it.
fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, contents, rest) = element(bytes)?;
    (found == tag).then_some((contents, rest))
}

/// Tag, contents, and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [tag, length, rest @ ..] = bytes else { return None };
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
            (digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((*tag, contents, rest))
}
