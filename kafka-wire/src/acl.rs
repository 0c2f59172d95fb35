//! The words of Kafka's access control lists, with their codes on the wire and their names in Kafka's documentation.

use std::fmt;
use std::str::FromStr;

/// A word that is none of an enum's names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is no {kind} of access control lists")]
pub struct UnknownWord {
    /// What was read.
    pub word: String,
    /// What it should have been, such as `operation`.
    pub kind: &'static str,
}

macro_rules! words {
    ($(#[$about:meta])* $name:ident, $kind:literal { $($(#[$doc:meta])* $variant:ident = $code:literal, $word:literal;)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i8)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* $variant = $code,)*
        }

        impl $name {
            /// Every one of them, by ascending code.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The one with this code, if there is one.
            #[must_use]
            pub const fn from_code(code: i8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Its code on the wire.
            #[must_use]
            pub const fn code(self) -> i8 {
                self as i8
            }

            /// Its name, as Kafka's documentation and tools write it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(self.name())
            }
        }

        /// Reads the name without regard to case, `_` and `-`: `DescribeConfigs`, `DESCRIBE_CONFIGS`, `describe-configs`.
        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                let same = |name: &str| {
                    let plain = word.bytes().filter(|byte| !matches!(byte, b'_' | b'-'));
                    plain.map(|byte| byte.to_ascii_lowercase()).eq(name.bytes().map(|byte| byte.to_ascii_lowercase()))
                };
                let found = Self::ALL.iter().copied().find(|one| same(one.name()));
                found.ok_or_else(|| UnknownWord { word: word.to_owned(), kind: $kind })
            }
        }
    };
}

words! {
    /// What a principal does with a resource.
    AclOperation, "operation" {
        /// In filters only: every operation.
        Any = 1, "Any";
        /// Every operation on the resource.
        All = 2, "All";
        /// Read records or offsets; implies `Describe`.
        Read = 3, "Read";
        /// Write records; implies `Describe`.
        Write = 4, "Write";
        /// Create topics.
        Create = 5, "Create";
        /// Delete; implies `Describe`.
        Delete = 6, "Delete";
        /// Change; implies `Describe`.
        Alter = 7, "Alter";
        /// See that it exists, and what it is like.
        Describe = 8, "Describe";
        /// What brokers ask of brokers, and elections and reassignments.
        ClusterAction = 9, "ClusterAction";
        /// Read settings.
        DescribeConfigs = 10, "DescribeConfigs";
        /// Change settings; implies `DescribeConfigs`.
        AlterConfigs = 11, "AlterConfigs";
        /// Write as an idempotent producer, where the right to write to some topic is not enough.
        IdempotentWrite = 12, "IdempotentWrite";
        /// Make delegation tokens for a user.
        CreateTokens = 13, "CreateTokens";
        /// See the delegation tokens of a user.
        DescribeTokens = 14, "DescribeTokens";
        /// Prepare a transaction of an external transaction manager.
        TwoPhaseCommit = 15, "TwoPhaseCommit";
    }
}

words! {
    /// What an access control list is about.
    ResourceType, "resource type" {
        /// In filters only: every type.
        Any = 1, "Any";
        /// A topic.
        Topic = 2, "Topic";
        /// A consumer group.
        Group = 3, "Group";
        /// The cluster itself, whose only name is [`CLUSTER_NAME`].
        Cluster = 4, "Cluster";
        /// The id of a transactional producer.
        TransactionalId = 5, "TransactionalId";
        /// A delegation token.
        DelegationToken = 6, "DelegationToken";
        /// A user, for whom delegation tokens are made.
        User = 7, "User";
    }
}

words! {
    /// How the name of a resource is to be read.
    PatternType, "pattern type" {
        /// In filters only: every pattern with this name.
        Any = 1, "Any";
        /// In filters only: every pattern that covers the resource of this name.
        Match = 2, "Match";
        /// The resource of exactly this name; `*` is every name.
        Literal = 3, "Literal";
        /// The resources whose names begin so.
        Prefixed = 4, "Prefixed";
    }
}

words! {
    /// Whether an access control list allows or denies.
    PermissionType, "permission type" {
        /// In filters only: both.
        Any = 1, "Any";
        /// Refuse, whatever others allow.
        Deny = 2, "Deny";
        /// Allow, unless another denies.
        Allow = 3, "Allow";
    }
}

/// The name of the one resource of type [`ResourceType::Cluster`].
pub const CLUSTER_NAME: &str = "kafka-cluster";

/// As a name, every resource of a type; as a host, every host.
pub const WILDCARD: &str = "*";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_one_to_one() {
        macro_rules! check {
            ($($name:ident)*) => { $(
                assert!($name::ALL.is_sorted());
                for one in $name::ALL {
                    assert_eq!($name::from_code(one.code()), Some(*one));
                    assert_eq!(one.name().parse(), Ok(*one));
                }
                assert_eq!($name::from_code(0), None, "Kafka's UNKNOWN");
            )* };
        }
        check!(AclOperation ResourceType PatternType PermissionType);
    }

    #[test]
    fn names_are_read_as_java_and_the_tools_write_them() {
        for word in ["DescribeConfigs", "DESCRIBE_CONFIGS", "describe-configs"] {
            assert_eq!(word.parse(), Ok(AclOperation::DescribeConfigs), "{word}");
        }
        let error = "Peek".parse::<AclOperation>().unwrap_err();
        assert_eq!(error.to_string(), "\"Peek\" is no operation of access control lists");
        assert_eq!("TRANSACTIONAL_ID".parse(), Ok(ResourceType::TransactionalId));
    }
}
