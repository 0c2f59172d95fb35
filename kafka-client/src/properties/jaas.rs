//! Reads a JAAS line, in which Java's clients are told a login module and its options.
//!
//! ```
//! use kafka_client::properties::jaas::LoginModule;
//!
//! let line = r#"org.apache.kafka.common.security.plain.PlainLoginModule required username="alice" password="pencil";"#;
//! let module: LoginModule = line.parse()?;
//! assert_eq!(module.name(), "PlainLoginModule");
//! assert_eq!(module.option("password").unwrap().expose(), "pencil");
//! # Ok::<(), kafka_client::properties::jaas::JaasError>(())
//! ```

use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::auth::Secret;

/// A login module and its options, any of which may be a secret.
#[derive(Clone, Debug)]
pub struct LoginModule {
    class: String,
    options: Vec<(String, Secret)>,
}

/// Why a JAAS line cannot be read. It has nothing of the line in it, which may have a password anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JaasError {
    what: &'static str,
    at: usize,
}

impl LoginModule {
    /// The Java class, as it was written.
    pub fn class(&self) -> &str {
        &self.class
    }

    /// The Java class without its package, which differs where libraries are shaded.
    pub fn name(&self) -> &str {
        self.class.rsplit('.').next().unwrap_or(&self.class)
    }

    /// The value of an option; the last one, if it is given twice.
    pub fn option(&self, name: &str) -> Option<&Secret> {
        self.options.iter().rfind(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// All options, in the order given.
    pub fn options(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.options.iter().map(|(key, value)| (key.as_str(), value))
    }
}

/// Reads as Kafka's Java client does: words or quoted strings, comments of Java, exactly one module, and a semicolon at
/// its end.
impl FromStr for LoginModule {
    type Err = JaasError;

    fn from_str(line: &str) -> Result<Self, JaasError> {
        let mut tokens = Tokens { line, at: 0 };
        let class = match tokens.next()? {
            Some(Token::Word(class)) => class.to_string(),
            _ => return Err(tokens.error("the name of a login module is missing")),
        };
        let flags = ["required", "requisite", "sufficient", "optional"];
        match tokens.next()? {
            Some(Token::Word(flag)) if flags.iter().any(|known| flag.eq_ignore_ascii_case(known)) => {}
            _ => return Err(tokens.error("`required` is missing after the login module")),
        }
        let mut options = Vec::new();
        loop {
            let key = match tokens.next()? {
                Some(Token::Symbol(';')) => break,
                Some(Token::Word(key)) => key,
                Some(Token::Symbol(_)) => return Err(tokens.error("an option's name is missing")),
                None => return Err(tokens.error("the semicolon at the end is missing")),
            };
            match tokens.next()? {
                Some(Token::Symbol('=')) => {}
                _ => return Err(tokens.error("an option has no `=` and value")),
            }
            match tokens.next()? {
                Some(Token::Word(value)) => options.push((key.to_string(), Secret::from(value))),
                _ => return Err(tokens.error("an option has no value; quote it if it is not a word")),
            }
        }
        match tokens.next()? {
            None => Ok(Self { class, options }),
            Some(_) => Err(tokens.error("there is more than one login module")),
        }
    }
}

impl fmt::Display for JaasError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, at byte {} of the JAAS line", self.what, self.at)
    }
}

impl std::error::Error for JaasError {}

enum Token {
    /// A word or what was quoted.
    Word(Zeroizing<String>),
    Symbol(char),
}

/// Takes a line apart as Java's `StreamTokenizer` does.
struct Tokens<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Result<Option<Token>, JaasError> {
        self.skip()?;
        let Some(first) = self.rest().chars().next() else { return Ok(None) };
        if first == '"' || first == '\'' {
            self.at += 1;
            return self.quoted(first).map(|text| Some(Token::Word(text)));
        }
        let length = self.rest().find(|character: char| !is_word(character)).unwrap_or(self.rest().len());
        if length == 0 {
            self.at += first.len_utf8();
            return Ok(Some(Token::Symbol(first)));
        }
        let word = Zeroizing::new(self.rest()[..length].to_owned());
        self.at += length;
        Ok(Some(Token::Word(word)))
    }

    /// Passes over blanks and comments.
    fn skip(&mut self) -> Result<(), JaasError> {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if trimmed.starts_with("//") {
                self.at += trimmed.find('\n').unwrap_or(trimmed.len());
            } else if trimmed.starts_with("/*") {
                let Some(end) = trimmed.find("*/") else { return Err(self.error("a comment is not closed")) };
                self.at += end + 2;
            } else {
                return Ok(());
            }
        }
    }

    /// Reads up to the closing quote, with the escapes of Java.
    fn quoted(&mut self, quote: char) -> Result<Zeroizing<String>, JaasError> {
        let Some(length) = closing(self.rest(), quote) else {
            return Err(self.error("a quote is not closed"));
        };
        // As large as it can become: growing would leave copies behind.
        let mut text = Zeroizing::new(String::with_capacity(length));
        let mut characters = self.rest()[..length].chars().peekable();
        while let Some(character) = characters.next() {
            let escaped = match character {
                '\\' => characters.next().unwrap_or(character),
                _ => {
                    text.push(character);
                    continue;
                }
            };
            text.push(match escaped {
                'a' => '\u{7}',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\u{b}',
                '0'..='7' => {
                    let mut code = escaped.to_digit(8).unwrap_or_default();
                    // Up to three digits, and no more than \377.
                    let most = if code <= 3 { 2 } else { 1 };
                    for _ in 0..most {
                        let Some(digit) = characters.peek().and_then(|next| next.to_digit(8)) else { break };
                        code = code * 8 + digit;
                        characters.next();
                    }
                    char::from_u32(code).unwrap_or(escaped)
                }
                other => other,
            });
        }
        self.at += length + quote.len_utf8();
        Ok(text)
    }

    fn rest(&self) -> &'a str {
        &self.line[self.at..]
    }

    fn error(&self, what: &'static str) -> JaasError {
        JaasError { what, at: self.at }
    }
}

/// How many bytes come before the closing quote, which is on the same line.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (index, character) in text.char_indices() {
        match character {
            '\n' | '\r' => return None,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return Some(index),
            _ => {}
        }
    }
    None
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_' | '$') || !character.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<(String, Vec<(String, String)>), String> {
        let module: LoginModule = line.parse().map_err(|error: JaasError| error.to_string())?;
        let options = module.options().map(|(key, value)| (key.to_owned(), value.expose().to_owned()));
        Ok((module.name().to_owned(), options.collect()))
    }

    fn option(line: &str) -> String {
        read(line).unwrap().1.pop().unwrap().1
    }

    #[test]
    fn the_lines_of_kafkas_documentation_are_read() {
        let line = "org.apache.kafka.common.security.scram.ScramLoginModule required \
                    username=\"alice\" \n\t password='alice-secret' tokenauth=true;";
        let (name, options) = read(line).unwrap();
        assert_eq!(name, "ScramLoginModule");
        let expected = [("username", "alice"), ("password", "alice-secret"), ("tokenauth", "true")];
        assert_eq!(options, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let (name, options) =
            read("software.amazon.msk.auth.iam.IAMLoginModule REQUIRED;  // nothing else").unwrap();
        assert_eq!((name.as_str(), options.len()), ("IAMLoginModule", 0));
    }

    #[test]
    fn quotes_escapes_and_comments_are_those_of_java() {
        assert_eq!(option(r#"M required p="a\"b\\c=;d";"#), r#"a"b\c=;d"#);
        assert_eq!(option(r"M required p='it\'s';"), "it's");
        assert_eq!(option(r#"M required p="\t\101\60x\4007";"#), "\tA0x 07");
        assert_eq!(option(r#"M required /* a "b */ p="// no comment";"#), "// no comment");
        assert_eq!(option("M required p=a-b_c$d.e1;"), "a-b_c$d.e1");
        assert_eq!(option("M required p=\"\";"), "");
        assert_eq!(option("M required p=\"pässwörd\";"), "pässwörd");
    }

    #[test]
    fn a_broken_line_is_told_without_anything_that_is_in_it() {
        for (line, what) in [
            ("", "login module is missing"),
            ("= x;", "login module is missing"),
            ("M", "`required` is missing"),
            ("M hunter2 p=hunter2;", "`required` is missing"),
            ("M required p=\"hunter2\"", "semicolon"),
            ("M required p=\"hunter2;", "not closed"),
            ("M required p=\"hunter2\nx\";", "not closed"),
            ("M required p=\"hunter2\\", "not closed"),
            ("M required p hunter2;", "no `=`"),
            ("M required p=;", "no value"),
            ("M required =hunter2;", "name is missing"),
            ("M required p=hunter2; N required;", "more than one"),
            ("M required p=hun/ter2;", "name is missing"),
            ("M required /* hunter2", "comment"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(what), "{line}: {error}");
            assert!(!error.contains("hunter"), "{error}");
        }
        let shown = format!("{:?}", "M required p=hunter2;".parse::<LoginModule>().unwrap());
        assert!(!shown.contains("hunter"), "{shown}");
    }
}
