//! Who a request comes from, as ACLs and quotas name them.

use std::fmt;
use std::sync::{Arc, LazyLock};

/// A kind and a name, such as `User:alice`. Kafka's own authorizer knows the kind `User` only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Principal {
    pub(crate) kind: Arc<str>,
    pub(crate) name: Arc<str>,
}

impl Principal {
    pub(crate) fn user(name: impl Into<Arc<str>>) -> Self {
        Self { kind: "User".into(), name: name.into() }
    }

    /// Reads `User:alice`; what has no colon is a user's name.
    pub(crate) fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((kind, name)) => Self { kind: kind.into(), name: name.into() },
            None => Self::user(text),
        }
    }

    /// Who a client is that has not said it: Kafka's `User:ANONYMOUS`.
    pub(crate) fn anonymous() -> Arc<Self> {
        static ANONYMOUS: LazyLock<Arc<Principal>> = LazyLock::new(|| Arc::new(Principal::user("ANONYMOUS")));
        Arc::clone(&ANONYMOUS)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)
    }
}
