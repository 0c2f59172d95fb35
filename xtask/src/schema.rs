//! Kafka's message schemas as they lie in `common/message/*.json`: JSON with whole-line comments.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::Result;

/// The schemas of all messages, by name.
pub(crate) struct Schemas(BTreeMap<String, Message>);

/// A request, a response or another message.
pub(crate) struct Message {
    pub(crate) name: String,
    pub(crate) api_key: Option<i16>,
    /// The versions in use; `None` for a message that was removed.
    pub(crate) versions: Option<Versions>,
    /// Whether a broker listens for it, and not only a controller.
    pub(crate) for_brokers: bool,
    /// The first flexible version.
    pub(crate) flexible: Option<i16>,
    pub(crate) fields: Vec<Field>,
}

/// One field, with the fields of its struct if it has one.
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) kind: Kind,
    pub(crate) array: bool,
    pub(crate) versions: Versions,
    pub(crate) nullable_since: Option<i16>,
    pub(crate) tag: Option<u8>,
    pub(crate) default: Option<Value>,
    pub(crate) ignorable: bool,
    pub(crate) entity: Option<String>,
}

/// The type of a field, or of the elements of its array.
pub(crate) enum Kind {
    /// A type of a fixed size, by its name in the schema.
    Fixed(String, u8),
    String,
    Bytes,
    Struct(String, Vec<Field>),
}

/// Versions from `first` to `last`, both included; `i16::MAX` for no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) first: i16,
    pub(crate) last: i16,
}

impl Schemas {
    /// Reads every schema in the folder.
    pub(crate) fn read(directory: &Path) -> Result<Self> {
        let mut messages = BTreeMap::new();
        let entries = fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let message = read_message(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                messages.insert(message.name.clone(), message);
            }
        }
        Ok(Self(messages))
    }

    /// The message of this name.
    pub(crate) fn message(&self, name: &str) -> Result<&Message> {
        self.0.get(name).ok_or_else(|| format!("no schema of {name}").into())
    }

    /// The requests and responses of the APIs that brokers serve, by key.
    pub(crate) fn apis(&self) -> Result<Vec<(i16, &Message, &Message)>> {
        let mut apis = Vec::new();
        for request in self.0.values() {
            let (Some(key), Some(name)) = (request.api_key, request.name.strip_suffix("Request")) else {
                continue;
            };
            if request.for_brokers && request.versions.is_some() {
                let response = self.message(&format!("{name}Response"))?;
                if request.flexible != response.flexible {
                    return Err(format!("{name}: only one of request and response is flexible").into());
                }
                apis.push((key, request, response));
            }
        }
        apis.sort_by_key(|(key, ..)| *key);
        Ok(apis)
    }
}

impl Versions {
    fn parse(text: &str) -> Result<Option<Self>> {
        let number = |text: &str| text.parse::<i16>().map_err(|error| format!("versions {text}: {error}"));
        Ok(Some(match (text.strip_suffix('+'), text.split_once('-')) {
            _ if text == "none" => return Ok(None),
            (Some(first), _) => Self { first: number(first)?, last: i16::MAX },
            (None, Some((first, last))) => Self { first: number(first)?, last: number(last)? },
            (None, None) => Self { first: number(text)?, last: number(text)? },
        }))
    }

    /// The versions in both.
    pub(crate) fn intersect(self, other: Self) -> Option<Self> {
        let both = Self { first: self.first.max(other.first), last: self.last.min(other.last) };
        (both.first <= both.last).then_some(both)
    }
}

fn read_message(path: &Path) -> Result<Message> {
    let text = fs::read_to_string(path)?;
    let json: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let json: Value = serde_json::from_str(&json.join("\n"))?;
    let list = |name: &str| json.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let common = list("commonStructs");
    let versions = Versions::parse(text_of(&json, "validVersions")?)?;
    let fields =
        list("fields").iter().map(|field| read_field(field, common, versions)).collect::<Result<_>>()?;
    Ok(Message {
        name: text_of(&json, "name")?.into(),
        api_key: json.get("apiKey").and_then(Value::as_i64).map(i16::try_from).transpose()?,
        versions,
        for_brokers: list("listeners").iter().any(|listener| listener == "broker"),
        flexible: match json.get("flexibleVersions").and_then(Value::as_str) {
            Some(versions) => Versions::parse(versions)?.map(|versions| versions.first),
            None => None,
        },
        fields,
    })
}

fn read_field(json: &Value, common: &[Value], valid: Option<Versions>) -> Result<Field> {
    let name = text_of(json, "name")?.to_owned();
    let invalid = |what: &str| format!("field {name}: {what}");
    let type_name = text_of(json, "type")?;
    let (array, type_name) = match type_name.strip_prefix("[]") {
        Some(element) => (true, element),
        None => (false, type_name),
    };
    let optional = |name: &str| json.get(name).and_then(Value::as_str);
    let versions = Versions::parse(text_of(json, "versions")?)?.ok_or_else(|| invalid("in no version"))?;
    let nullable = optional("nullableVersions").map(Versions::parse).transpose()?.flatten();
    // Some are null only in versions that were removed.
    let nullable = nullable.filter(|nullable| valid.is_some_and(|valid| nullable.last >= valid.first));
    if nullable.is_some_and(|nullable| nullable.last < versions.last) {
        return Err(invalid("a field that stops being nullable").into());
    }
    let tag = json.get("tag").and_then(Value::as_u64).map(u8::try_from).transpose()?;
    if tag.is_some() && optional("taggedVersions") != optional("versions") {
        return Err(invalid("a field that becomes tagged").into());
    }
    let kind = match type_name {
        "bool" | "int8" => Kind::Fixed(type_name.into(), 1),
        "int16" | "uint16" => Kind::Fixed(type_name.into(), 2),
        "int32" | "uint32" => Kind::Fixed(type_name.into(), 4),
        "int64" | "float64" => Kind::Fixed(type_name.into(), 8),
        "uuid" => Kind::Fixed(type_name.into(), 16),
        "string" => Kind::String,
        "bytes" | "records" => Kind::Bytes,
        name => {
            let is_it = |candidate: &&Value| candidate.get("name").is_some_and(|found| found == name);
            let definition = common.iter().find(is_it).unwrap_or(json);
            let fields =
                definition.get("fields").and_then(Value::as_array).ok_or_else(|| invalid("no fields"))?;
            Kind::Struct(
                name.into(),
                fields.iter().map(|field| read_field(field, common, valid)).collect::<Result<_>>()?,
            )
        }
    };
    Ok(Field {
        kind,
        array,
        versions,
        nullable_since: nullable.map(|nullable| nullable.first),
        tag,
        about: optional("about").unwrap_or_default().into(),
        default: json.get("default").cloned(),
        ignorable: json.get("ignorable").is_some_and(|ignorable| ignorable == true),
        entity: optional("entityType").map(str::to_owned),
        name,
    })
}

fn text_of<'a>(json: &'a Value, name: &str) -> Result<&'a str> {
    json.get(name).and_then(Value::as_str).ok_or_else(|| format!("\"{name}\" is missing").into())
}

/// `OffsetCommitRequest` as `offset_commit_request`.
pub(crate) fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for (index, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && index > 0 {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}
