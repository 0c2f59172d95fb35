//! Reads a property's text as a duration, a size, a number, a word; says what to give when it is none.

use std::time::Duration;

/// Whole milliseconds from 0 on.
///
/// # Errors
/// The remedy, when the text is no such number.
pub fn milliseconds(text: &str) -> Result<Duration, String> {
    match text.parse::<i64>() {
        Ok(value) if value >= 0 => Ok(Duration::from_millis(value.unsigned_abs())),
        _ => Err("give whole milliseconds, 0 or more".to_owned()),
    }
}

/// A size in bytes, from 0 to what a signed 32-bit number holds.
///
/// # Errors
/// The remedy, when the text is no such number.
pub fn bytes(text: &str) -> Result<usize, String> {
    number(text, 0..=i32::MAX as usize)
}

/// A size in bytes, or -1 (librdkafka: 0) to leave it to the operating system.
///
/// # Errors
/// The remedy, when the text is neither.
pub fn optional_bytes(text: &str) -> Result<Option<usize>, String> {
    match text {
        "-1" | "0" => Ok(None),
        _ => bytes(text).map(Some).map_err(|remedy| format!("{remedy}, or -1 for the system's choice")),
    }
}

/// A number within bounds.
///
/// # Errors
/// The remedy, naming the bounds.
pub fn number<T>(text: &str, bounds: std::ops::RangeInclusive<T>) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    match text.parse::<T>() {
        Ok(value) if bounds.contains(&value) => Ok(value),
        _ => Err(format!("give a whole number from {} to {}", bounds.start(), bounds.end())),
    }
}

/// `true` or `false`, in any case.
///
/// # Errors
/// The remedy, when the text is neither.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Ok(true),
        _ if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err("give true or false".to_owned()),
    }
}

/// One of a few words, in any case.
///
/// # Errors
/// The remedy, listing the words.
pub fn one_of<T: Clone>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    match words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
        Some((_, meaning)) => Ok(meaning.clone()),
        None => {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            Err(match words.as_slice() {
                [only] => format!("give {only}"),
                words => format!("give one of {}", words.join(", ")),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_values_or_remedies() {
        assert_eq!(milliseconds("1500"), Ok(Duration::from_millis(1500)));
        assert!(milliseconds("-1").is_err() && milliseconds("1.5").is_err() && milliseconds("").is_err());
        assert_eq!(bytes("1048576"), Ok(1_048_576));
        assert!(bytes("2147483648").is_err());
        assert_eq!(optional_bytes("-1"), Ok(None));
        assert_eq!(optional_bytes("64"), Ok(Some(64)));
        assert_eq!(number("5", 1..=5), Ok(5));
        assert_eq!(number("6", 1..=5), Err("give a whole number from 1 to 5".to_owned()));
        assert_eq!(boolean("True"), Ok(true));
        assert!(boolean("yes").is_err());
        assert_eq!(one_of("ALL", &[("0", 0), ("all", -1)]), Ok(-1));
        assert_eq!(one_of("2", &[("0", 0), ("all", -1)]), Err("give one of 0, all".to_owned()));
    }
}
