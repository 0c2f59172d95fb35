//! Reads settings under Java's and librdkafka's property names, and reports by name what it made of them.
//!
//! Every role has a table of [`Setting`]s; [`apply`] walks the properties over it. Nothing is passed over in
//! silence: an unknown key, a bad value, a key that this client gives no meaning, and a default that differs from
//! that of the client whose names are used are all in the [`PropertiesReport`].

pub mod jaas;
mod known;
#[cfg(feature = "oidc")]
mod oauth;
mod report;
pub(crate) mod security;
pub mod value;

use std::fmt;
use std::str::FromStr;

use zeroize::{Zeroize as _, Zeroizing};

pub use self::report::{BadValue, DifferentDefault, PropertiesReport, UnknownKey};
use crate::error::{Error, Result};

/// Settings as names and values, in the order they were given; the later of two with the same name wins.
///
/// ```
/// use kafka_client::properties::Properties;
///
/// let from_file: Properties = "bootstrap.servers = kafka-1:9092\nlinger.ms=5".parse()?;
/// let from_pairs: Properties = [("bootstrap.servers", "kafka-1:9092"), ("linger.ms", "5")].into_iter().collect();
/// assert_eq!(from_file, from_pairs);
/// # Ok::<(), kafka_client::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties {
    entries: Vec<(String, String)>,
    flavour: Option<Flavour>,
}

/// Whose property names and defaults are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flavour {
    /// The Java client's.
    Java,
    /// librdkafka's, and so those of the clients for C, C++, Python, Go and .NET that build on it.
    Librdkafka,
}

/// The part of the client that reads a set of properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// Connections, metadata, routing: what all roles share.
    Client,
    /// The producer.
    Producer,
    /// The consumer.
    Consumer,
    /// Administration.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
            Self::Admin => "admin",
        })
    }
}

impl Properties {
    /// Reads the text of a `.properties` file, as `java.util.Properties` does: `#` and `!` comments, `=`, `:` or
    /// blanks between name and value, a backslash that continues a line or escapes a character.
    ///
    /// # Errors
    /// A `\u` that four hexadecimal digits do not follow.
    pub fn parse(text: &str) -> Result<Self> {
        let mut entries = Vec::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with(['#', '!']) {
                continue;
            }
            let mut logical = Zeroizing::new(line.to_owned());
            while ends_in_odd_backslashes(&logical) {
                logical.pop();
                match lines.next() {
                    Some(next) => logical.push_str(next.trim_start()),
                    None => break,
                }
            }
            let (name, value) = split(&logical);
            // Unlike Java: blanks at a value's end are never meant, and would make `true ` a bad boolean.
            entries.push((unescape(name, name)?, unescape(name, value.trim_end())?));
        }
        Ok(Self { entries, flavour: None })
    }

    /// Says whose defaults are meant. Unsaid, librdkafka's are once a name is used that only librdkafka has,
    /// otherwise Java's.
    #[must_use]
    pub fn flavour(mut self, flavour: Flavour) -> Self {
        self.flavour = Some(flavour);
        self
    }

    /// The value that counts for a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().rfind(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Every name and value, in the order given.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    fn detected_flavour(&self) -> Flavour {
        self.flavour.unwrap_or_else(|| {
            let librdkafka = self.iter().any(|(key, _)| known::only_in_librdkafka(key));
            if librdkafka { Flavour::Librdkafka } else { Flavour::Java }
        })
    }
}

/// A value may be a password.
impl Drop for Properties {
    fn drop(&mut self) {
        self.entries.iter_mut().for_each(|(_, value)| value.zeroize());
    }
}

/// Shows names only: a value may be a password.
impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(key, _)| key)).finish()
    }
}

impl FromStr for Properties {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Properties {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let entries = pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self { entries, flavour: None }
    }
}

/// One setting of a role: its names, its defaults, and how a text changes the configuration `C`.
pub struct Setting<C> {
    name: &'static str,
    aliases: &'static [&'static str],
    default: &'static str,
    java: Option<&'static str>,
    librdkafka: Option<&'static str>,
    apply: fn(&mut C, &str) -> Result<(), String>,
}

impl<C> Setting<C> {
    /// A setting with the same name and the same default here and in both other clients; the methods below say
    /// what differs. `apply` gives a remedy when the text is no good.
    pub const fn new(
        name: &'static str,
        default: &'static str,
        apply: fn(&mut C, &str) -> Result<(), String>,
    ) -> Self {
        Self { name, aliases: &[], default, java: Some(default), librdkafka: Some(default), apply }
    }

    /// Other names, those of librdkafka.
    #[must_use]
    pub const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// Java's default, where it is not the one used here.
    #[must_use]
    pub const fn java(mut self, default: &'static str) -> Self {
        self.java = Some(default);
        self
    }

    /// librdkafka's default, where it is not the one used here.
    #[must_use]
    pub const fn librdkafka(mut self, default: &'static str) -> Self {
        self.librdkafka = Some(default);
        self
    }

    /// Java has no such setting.
    #[must_use]
    pub const fn not_in_java(mut self) -> Self {
        self.java = None;
        self
    }

    /// librdkafka has no such setting.
    #[must_use]
    pub const fn not_in_librdkafka(mut self) -> Self {
        self.librdkafka = None;
        self
    }

    /// The setting's first name, Java's where Java has it.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The default used here, as it would stand in a file; in words, if no value of the setting means the same.
    pub const fn default_value(&self) -> &'static str {
        self.default
    }

    fn is_called(&self, key: &str) -> bool {
        self.name == key || self.aliases.contains(&key)
    }

    /// The name and default in `flavour`, if they are not the ones used here.
    fn different_default(&self, flavour: Flavour) -> Option<DifferentDefault> {
        let (name, theirs) = match flavour {
            Flavour::Java => (self.name, self.java?),
            Flavour::Librdkafka => (*self.aliases.first().unwrap_or(&self.name), self.librdkafka?),
        };
        (theirs != self.default).then_some(DifferentDefault {
            key: name,
            ours: self.default,
            theirs,
            flavour,
        })
    }
}

/// Applies every property that is a setting of `role` to `config`, and says what became of each of them.
///
/// A bad value leaves the setting as it was; the caller makes sure that the error in the report is not lost.
pub fn apply<C>(
    settings: &[Setting<C>],
    role: Role,
    properties: &Properties,
    config: &mut C,
) -> PropertiesReport {
    let mut report = PropertiesReport::default();
    for (index, (key, text)) in properties.iter().enumerate() {
        if properties.entries[index + 1..].iter().any(|(later, _)| later == key) {
            continue;
        }
        match settings.iter().find(|setting| setting.is_called(key)) {
            Some(_) if security::is_idle(properties, key) => report.without_effect.push(key.to_owned()),
            Some(setting) => {
                if let Err(remedy) = (setting.apply)(config, text.trim()) {
                    let value = if known::is_secret(key) { "***" } else { text };
                    report.bad_values.push(BadValue { key: key.to_owned(), value: value.to_owned(), remedy });
                }
            }
            None if security::is_heeded(properties, key) => {}
            None => match known::roles(key) {
                Some(roles) if roles.contains(&role) => report.without_effect.push(key.to_owned()),
                Some(roles) => report.other_roles.push((key.to_owned(), roles[0])),
                None => report.unknown.push(UnknownKey {
                    key: key.to_owned(),
                    suggestion: known::nearest(key, settings.iter().map(Setting::name)),
                }),
            },
        }
    }
    let flavour = properties.detected_flavour();
    let is_set = |setting: &&Setting<C>| !properties.iter().any(|(key, _)| setting.is_called(key));
    report.different_defaults =
        settings.iter().filter(is_set).filter_map(|setting| setting.different_default(flavour)).collect();
    report
}

fn ends_in_odd_backslashes(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Cuts a line at its first separator that no backslash precedes.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|character: char| {
        let separates = !escaped && (matches!(character, '=' | ':') || character.is_ascii_whitespace());
        escaped = !escaped && character == '\\';
        separates
    });
    let Some(end) = end else { return (line, "") };
    let (name, rest) = line.split_at(end);
    let rest = rest.trim_start();
    (name, rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start())
}

fn unescape(name: &str, text: &str) -> Result<String> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        match characters.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\u{c}'),
            Some('u') => {
                let digits: String = characters.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4);
                let character = code.and_then(char::from_u32);
                plain.push(character.ok_or_else(|| {
                    Error::config(
                        name,
                        format!("\\u{digits}"),
                        "give four hexadecimal digits of a character after \\u",
                    )
                })?);
            }
            Some(other) => plain.push(other),
            None => {}
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Toy {
        linger: u64,
        level: String,
    }

    type Key = Setting<Toy>;

    const TOY: &[Key] = &[
        Key::new("linger.ms", "5", |toy, text| {
            toy.linger = text.parse().map_err(|_| "give whole milliseconds".to_owned())?;
            Ok(())
        })
        .aliases(&["queue.buffering.max.ms"]),
        Key::new("isolation.level", "read_uncommitted", |toy, text| {
            toy.level = text.to_owned();
            Ok(())
        })
        .librdkafka("read_committed"),
        Key::new("allow.auto.create.topics", "false", |_, _| Ok(())).java("true"),
    ];

    fn report(text: &str) -> (Toy, PropertiesReport) {
        let mut toy = Toy::default();
        let report = apply(TOY, Role::Producer, &text.parse().unwrap(), &mut toy);
        (toy, report)
    }

    #[test]
    fn a_properties_file_is_read_as_java_reads_it() {
        let text = "# comment\n! comment\n\n  a = 1\nb:2\nc 3\nd\\ e=\\t4\nlong = one, \\\n    two\nempty\n\
                    path=C:\\\\temp\nu=\\u00e9\nsasl=a=b";
        let properties = Properties::parse(text).unwrap();
        let expected = [
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
            ("d e", "\t4"),
            ("long", "one, two"),
            ("empty", ""),
            ("path", "C:\\temp"),
            ("u", "é"),
            ("sasl", "a=b"),
        ];
        assert_eq!(properties.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_malformed_escape_is_told_with_its_key() {
        for text in ["key=\\u12", "key=\\uzzzz", "key=\\ud800", "key=\\u"] {
            let error = Properties::parse(text).unwrap_err().to_string();
            assert!(error.starts_with("key = "), "{error}");
        }
        Properties::parse("key=\\").unwrap();
    }

    #[test]
    fn a_setting_is_found_under_both_names_and_the_last_value_wins() {
        assert_eq!(report("linger.ms=7").0.linger, 7);
        assert_eq!(report("queue.buffering.max.ms=8").0.linger, 8);
        assert_eq!(report("linger.ms=x\nlinger.ms=9").0.linger, 9);
    }

    #[test]
    fn an_unknown_key_is_reported_with_the_nearest_name() {
        let (_, report) = report("linger.msec=7\nzzzzzzzz=1");
        assert_eq!(report.unknown()[0].key, "linger.msec");
        assert_eq!(report.unknown()[0].suggestion, Some("linger.ms"));
        assert_eq!(report.unknown()[1].suggestion, None);
        assert!(report.to_string().contains("did you mean linger.ms?"), "{report}");
        assert!(report.check().is_err());
    }

    #[test]
    fn a_bad_value_is_reported_with_its_remedy_and_changes_nothing() {
        let (toy, report) = report("linger.ms=soon");
        assert_eq!(toy.linger, 0);
        let error = report.check().unwrap_err().to_string();
        assert_eq!(error, r#"linger.ms = "soon": give whole milliseconds"#);
    }

    #[test]
    fn keys_of_other_roles_are_recognised_as_such() {
        let (_, report) = report("bootstrap.servers=a:1\nfetch.min.bytes=1\ninterceptor.classes=x");
        assert_eq!(
            report.other_roles(),
            [("bootstrap.servers".to_owned(), Role::Client), ("fetch.min.bytes".to_owned(), Role::Consumer)]
        );
        assert_eq!(report.without_effect(), ["interceptor.classes"]);
        report.check().unwrap();
    }

    #[test]
    fn names_of_librdkafka_bring_its_defaults_to_the_report() {
        let (toy, report) = report("queue.buffering.max.ms=8");
        assert_eq!(toy.level, "");
        let [differing] = report.different_defaults() else { panic!("{report}") };
        assert_eq!((differing.key, differing.theirs), ("isolation.level", "read_committed"));
        assert_eq!(differing.flavour, Flavour::Librdkafka);
    }

    #[test]
    fn names_that_both_clients_have_mean_java_unless_it_is_said() {
        let (_, java) = report("linger.ms=8");
        assert_eq!(java.different_defaults()[0].key, "allow.auto.create.topics");
        let properties = Properties::parse("linger.ms=8").unwrap().flavour(Flavour::Librdkafka);
        let said = apply(TOY, Role::Producer, &properties, &mut Toy::default());
        assert_eq!(said.different_defaults()[0].key, "isolation.level");
    }

    #[test]
    fn a_default_that_is_set_is_not_reported() {
        let (_, report) = report("allow.auto.create.topics=true");
        assert_eq!(report.different_defaults(), []);
    }

    #[test]
    fn the_values_are_kept_out_of_debug_output() {
        let properties = Properties::parse("sasl.password=hunter2").unwrap();
        assert_eq!(format!("{properties:?}"), r#"["sasl.password"]"#);
    }
}
