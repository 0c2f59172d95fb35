//! A broker's host and port, as users write them and metadata gives them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeAddress {
    /// A host name or an IP address; an IPv6 address without brackets.
    pub host: Arc<str>,
    /// The TCP port.
    pub port: u16,
}

impl NodeAddress {
    /// The address of `host` at `port`.
    #[must_use]
    pub fn new(host: impl Into<Arc<str>>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Parses a list separated by commas, as in `bootstrap.servers`; empty entries are skipped.
    ///
    /// # Errors
    /// The first entry that is not an address, or [`AddressError`] for a list without any.
    pub fn parse_list(list: &str) -> Result<Vec<Self>, AddressError> {
        let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let addresses = entries.map(str::parse).collect::<Result<Vec<Self>, _>>()?;
        if addresses.is_empty() { Err(AddressError(list.into())) } else { Ok(addresses) }
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(out, "[{}]:{}", self.host, self.port)
        } else {
            write!(out, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for NodeAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || AddressError(text.into());
        // Java's client accepts "PLAINTEXT://host:9092" too.
        let address = text.split_once("://").map_or(text, |(_, address)| address);
        let (host, port) = address.rsplit_once(':').ok_or_else(invalid)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => host,
            None if host.contains(':') => return Err(invalid()),
            None => host,
        };
        let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        if host.is_empty() || !host.chars().all(allowed) {
            return Err(invalid());
        }
        match port.parse() {
            Ok(port) if port > 0 => Ok(Self::new(host, port)),
            _ => Err(invalid()),
        }
    }
}

/// A text that is not a broker's address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("\"{0}\" is not host:port or [IPv6]:port")]
pub struct AddressError(pub Box<str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_as_it_prints() {
        for text in ["localhost:9092", "kafka-1.internal:1", "[::1]:9092", "10.0.0.1:65535", "a_b:7"] {
            assert_eq!(text.parse::<NodeAddress>().unwrap().to_string(), text);
        }
        assert_eq!("[fe80::1%eth0]:9092".parse(), Ok(NodeAddress::new("fe80::1%eth0", 9092)));
        assert_eq!("SASL_SSL://kafka:9093".parse(), Ok(NodeAddress::new("kafka", 9093)));
    }

    #[test]
    fn a_text_that_is_no_address_is_refused_by_name() {
        for text in
            ["", "localhost", "localhost:", ":9092", "localhost:0", "localhost:70000", "::1:9092", "a b:1"]
        {
            assert_eq!(text.parse::<NodeAddress>(), Err(AddressError(text.into())));
        }
    }

    #[test]
    fn a_list_tolerates_spaces_and_empty_entries() {
        let list = NodeAddress::parse_list(" a:1, b:2,,").unwrap();
        assert_eq!(list, [NodeAddress::new("a", 1), NodeAddress::new("b", 2)]);
        assert!(NodeAddress::parse_list(" , ").is_err());
        assert_eq!(NodeAddress::parse_list("a:1,b"), Err(AddressError("b".into())));
    }
}
