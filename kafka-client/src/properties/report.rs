//! What became of a set of properties, key by key.

use std::fmt;

use super::{Flavour, Role};
use crate::error::{Error, Result};

/// What became of a set of properties: everything in it is named, nothing is passed over in silence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "an unknown key may be a misspelt setting"]
pub struct PropertiesReport {
    pub(super) unknown: Vec<UnknownKey>,
    pub(super) bad_values: Vec<BadValue>,
    pub(super) other_roles: Vec<(String, Role)>,
    pub(super) without_effect: Vec<String>,
    pub(super) different_defaults: Vec<DifferentDefault>,
}

/// A key that neither this client nor Kafka's own clients know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownKey {
    /// The key.
    pub key: String,
    /// The known name that is nearest to it, if any is near.
    pub suggestion: Option<&'static str>,
}

/// A value that its setting cannot take; building with it fails.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BadValue {
    /// The key.
    pub key: String,
    /// The value given; `***` where it may be a secret.
    pub value: String,
    /// What to give instead.
    pub remedy: String,
}

/// A setting that is not among the properties, whose default here is not that of the client they were written for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DifferentDefault {
    /// The setting's name in the other client.
    pub key: &'static str,
    /// The default here, which is in force.
    pub ours: &'static str,
    /// The other client's default: set it to keep its behaviour.
    pub theirs: &'static str,
    /// The other client.
    pub flavour: Flavour,
}

impl PropertiesReport {
    /// Keys that nobody knows, most likely misspelt.
    pub fn unknown(&self) -> &[UnknownKey] {
        &self.unknown
    }

    /// Values that their settings cannot take.
    pub fn bad_values(&self) -> &[BadValue] {
        &self.bad_values
    }

    /// Keys that are settings of another role: give it the same properties.
    pub fn other_roles(&self) -> &[(String, Role)] {
        &self.other_roles
    }

    /// Keys that mean something to Kafka's own clients and nothing to this one.
    pub fn without_effect(&self) -> &[String] {
        &self.without_effect
    }

    /// Settings left to their defaults where the other client's default is another.
    pub fn different_defaults(&self) -> &[DifferentDefault] {
        &self.different_defaults
    }

    /// Insists on properties without unknown keys and bad values.
    ///
    /// # Errors
    /// The first bad value, or else the first unknown key.
    pub fn check(&self) -> Result<()> {
        if let Some(error) = self.bad_value() {
            return Err(error);
        }
        match self.unknown.first() {
            Some(unknown) => Err(Error::config(&unknown.key, "", unknown.remedy())),
            None => Ok(()),
        }
    }

    /// The first bad value as the error with which building has to fail.
    pub fn bad_value(&self) -> Option<Error> {
        self.bad_values.first().map(BadValue::error)
    }

    /// Adds a value that turned out to be bad beside the others.
    pub(crate) fn add(&mut self, bad: BadValue) {
        self.bad_values.push(bad);
    }
}

impl BadValue {
    /// The error with which building has to fail.
    pub(crate) fn error(&self) -> Error {
        Error::config(&self.key, &self.value, &self.remedy)
    }
}

impl UnknownKey {
    fn remedy(&self) -> String {
        match self.suggestion {
            Some(suggestion) => format!("no such setting; did you mean {suggestion}?"),
            None => "no such setting; remove it".to_owned(),
        }
    }
}

/// The value stays out: it may be a password under the wrong name.
impl fmt::Debug for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BadValue")
            .field("key", &self.key)
            .field("remedy", &self.remedy)
            .finish_non_exhaustive()
    }
}

/// One line per key, for a log.
impl fmt::Display for PropertiesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = self.unknown.iter().map(|unknown| format!("{}: {}", unknown.key, unknown.remedy()));
        let bad = self.bad_values.iter().map(|bad| format!("{} = {:?}: {}", bad.key, bad.value, bad.remedy));
        let other = self.other_roles.iter().map(|(key, role)| format!("{key}: belongs to the {role}"));
        let idle = self.without_effect.iter().map(|key| format!("{key}: has no effect in this client"));
        let differing = self.different_defaults.iter().map(|default| {
            let DifferentDefault { key, ours, theirs, flavour } = default;
            let client = match flavour {
                Flavour::Java => "the Java client's",
                Flavour::Librdkafka => "librdkafka's",
            };
            format!("{key}: left at {}; {client} default is {}", shown(ours), shown(theirs))
        });
        let lines: Vec<String> = unknown.chain(bad).chain(other).chain(idle).chain(differing).collect();
        f.write_str(&lines.join("\n"))
    }
}

fn shown(value: &str) -> &str {
    if value.is_empty() { "nothing" } else { value }
}
