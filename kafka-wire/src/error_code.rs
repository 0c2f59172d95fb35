//! Kafka's error codes up to 136: their names, their meaning, and what Java's client does about each.

use std::fmt;

/// An error code inside a response; 0 means success.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ErrorCode(pub i16);

impl ErrorCode {
    /// Whether this is success.
    #[must_use]
    pub const fn is_ok(self) -> bool {
        self.0 == 0
    }

    /// `Ok` for success, the code itself otherwise.
    ///
    /// # Errors
    /// Every code but 0.
    pub const fn check(self) -> Result<(), Self> {
        if self.is_ok() { Ok(()) } else { Err(self) }
    }

    /// Kafka's name for the code, `UNKNOWN_CODE` for one that is not in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.entry().map_or("UNKNOWN_CODE", |entry| entry.name)
    }

    /// What the code means, in a sentence.
    #[must_use]
    pub fn message(self) -> &'static str {
        self.entry().map_or("A code that this client does not know.", |entry| entry.message)
    }

    /// Whether the same request may succeed later: Java's `RetriableException`.
    #[must_use]
    pub fn is_retriable(self) -> bool {
        self.entry().is_some_and(|entry| entry.class != Class::Final)
    }

    /// Whether the code shows that our view of topics and leaders is old: Java's `InvalidMetadataException`.
    #[must_use]
    pub fn refreshes_metadata(self) -> bool {
        self.entry().is_some_and(|entry| entry.class == Class::Refresh)
    }

    fn entry(self) -> Option<&'static Entry> {
        TABLE.get(usize::try_from(self.0.checked_sub(FIRST)?).ok()?)
    }
}

impl From<i16> for ErrorCode {
    fn from(code: i16) -> Self {
        Self(code)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({})", self.name(), self.0)
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl std::error::Error for ErrorCode {}

struct Entry {
    #[cfg(test)]
    code: i16,
    name: &'static str,
    class: Class,
    message: &'static str,
}

#[derive(PartialEq, Eq)]
enum Class {
    Final,
    Retriable,
    Refresh,
}

macro_rules! class {
    (final) => {
        Class::Final
    };
    (retriable) => {
        Class::Retriable
    };
    (refresh) => {
        Class::Refresh
    };
}

macro_rules! error_codes {
    ($($code:literal $name:ident $class:ident $message:literal;)*) => {
        impl ErrorCode {
            $(#[doc = $message] pub const $name: Self = Self($code);)*
        }
        static TABLE: &[Entry] = &[$(Entry {
            #[cfg(test)]
            code: $code,
            name: stringify!($name),
            class: class!($class),
            message: $message,
        }),*];
    };
}

/// The code of the first entry; the others follow without a gap.
const FIRST: i16 = -1;

// Those of `org.apache.kafka.common.protocol.Errors` in 4.3.1, and the three that 4.4 adds.
// final: do not repeat. retriable: repeat after a backoff. refresh: repeat after a new look at the metadata.
error_codes! {
     -1 UNKNOWN_SERVER_ERROR final "The server experienced an unexpected error when processing the request.";
      0 NONE final "No error.";
      1 OFFSET_OUT_OF_RANGE final "The requested offset is not within the range of offsets maintained by the server.";
      2 CORRUPT_MESSAGE retriable "A record batch failed its CRC check, exceeds the valid size, has a null key for a compacted topic, or is otherwise corrupt.";
      3 UNKNOWN_TOPIC_OR_PARTITION refresh "This server does not host this topic-partition.";
      4 INVALID_FETCH_SIZE final "The requested fetch size is invalid.";
      5 LEADER_NOT_AVAILABLE refresh "There is no leader for this topic-partition as we are in the middle of a leadership election.";
      6 NOT_LEADER_OR_FOLLOWER refresh "The broker is not the leader of the topic-partition, or not a replica of it.";
      7 REQUEST_TIMED_OUT retriable "The request timed out.";
      8 BROKER_NOT_AVAILABLE final "The broker is not available.";
      9 REPLICA_NOT_AVAILABLE refresh "The replica is not available for the requested topic-partition.";
     10 MESSAGE_TOO_LARGE final "The request included a message larger than the max message size the server will accept.";
     11 STALE_CONTROLLER_EPOCH final "The controller moved to another broker.";
     12 OFFSET_METADATA_TOO_LARGE final "The metadata field of the offset request was too large.";
     13 NETWORK_EXCEPTION refresh "The server disconnected before a response was received.";
     14 COORDINATOR_LOAD_IN_PROGRESS retriable "The coordinator is loading and hence can't process requests.";
     15 COORDINATOR_NOT_AVAILABLE retriable "The coordinator is not available.";
     16 NOT_COORDINATOR retriable "This is not the correct coordinator.";
     17 INVALID_TOPIC_EXCEPTION final "The request attempted to perform an operation on an invalid topic.";
     18 RECORD_LIST_TOO_LARGE final "The request included message batch larger than the configured segment size on the server.";
     19 NOT_ENOUGH_REPLICAS retriable "Messages are rejected since there are fewer in-sync replicas than required.";
     20 NOT_ENOUGH_REPLICAS_AFTER_APPEND retriable "Messages are written to the log, but to fewer in-sync replicas than required.";
     21 INVALID_REQUIRED_ACKS final "Produce request specified an invalid value for required acks.";
     22 ILLEGAL_GENERATION final "Specified group generation id is not valid.";
     23 INCONSISTENT_GROUP_PROTOCOL final "The group member's supported protocols are incompatible with those of existing members.";
     24 INVALID_GROUP_ID final "The group id is invalid.";
     25 UNKNOWN_MEMBER_ID final "The coordinator is not aware of this member.";
     26 INVALID_SESSION_TIMEOUT final "The session timeout is not within the range allowed by the broker (as configured by group.min.session.timeout.ms and group.max.session.timeout.ms).";
     27 REBALANCE_IN_PROGRESS final "The group is rebalancing, so a rejoin is needed.";
     28 INVALID_COMMIT_OFFSET_SIZE final "The committing offset data size is not valid.";
     29 TOPIC_AUTHORIZATION_FAILED final "Topic authorization failed.";
     30 GROUP_AUTHORIZATION_FAILED final "Group authorization failed.";
     31 CLUSTER_AUTHORIZATION_FAILED final "Cluster authorization failed.";
     32 INVALID_TIMESTAMP final "The timestamp of the message is out of acceptable range.";
     33 UNSUPPORTED_SASL_MECHANISM final "The broker does not support the requested SASL mechanism.";
     34 ILLEGAL_SASL_STATE final "Request is not valid given the current SASL state.";
     35 UNSUPPORTED_VERSION final "The version of API is not supported.";
     36 TOPIC_ALREADY_EXISTS final "Topic with this name already exists.";
     37 INVALID_PARTITIONS final "Number of partitions is below 1.";
     38 INVALID_REPLICATION_FACTOR final "Replication factor is below 1 or larger than the number of available brokers.";
     39 INVALID_REPLICA_ASSIGNMENT final "Replica assignment is invalid.";
     40 INVALID_CONFIG final "Configuration is invalid.";
     41 NOT_CONTROLLER retriable "This is not the correct controller for this cluster.";
     42 INVALID_REQUEST final "The request is malformed, or was sent to an incompatible broker; the broker's logs tell more.";
     43 UNSUPPORTED_FOR_MESSAGE_FORMAT final "The message format version on the broker does not support the request.";
     44 POLICY_VIOLATION final "Request parameters do not satisfy the configured policy.";
     45 OUT_OF_ORDER_SEQUENCE_NUMBER final "The broker received an out of order sequence number.";
     46 DUPLICATE_SEQUENCE_NUMBER final "The broker received a duplicate sequence number.";
     47 INVALID_PRODUCER_EPOCH final "Producer attempted to produce with an old epoch.";
     48 INVALID_TXN_STATE final "The producer attempted a transactional operation in an invalid state.";
     49 INVALID_PRODUCER_ID_MAPPING final "The producer attempted to use a producer id which is not currently assigned to its transactional id.";
     50 INVALID_TRANSACTION_TIMEOUT final "The transaction timeout is larger than the maximum value allowed by the broker (as configured by transaction.max.timeout.ms).";
     51 CONCURRENT_TRANSACTIONS retriable "The producer attempted to update a transaction while another concurrent operation on the same transaction was ongoing.";
     52 TRANSACTION_COORDINATOR_FENCED final "Indicates that the transaction coordinator sending a WriteTxnMarker is no longer the current coordinator for a given producer.";
     53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED final "Transactional Id authorization failed.";
     54 SECURITY_DISABLED final "Security features are disabled.";
     55 OPERATION_NOT_ATTEMPTED final "The broker did not attempt to execute this operation, as others of the batch failed.";
     56 KAFKA_STORAGE_ERROR refresh "Disk error when trying to access log file on the disk.";
     57 LOG_DIR_NOT_FOUND final "The user-specified log directory is not found in the broker config.";
     58 SASL_AUTHENTICATION_FAILED final "SASL Authentication failed.";
     59 UNKNOWN_PRODUCER_ID final "The broker has no state of the producer id, for instance because its records were deleted.";
     60 REASSIGNMENT_IN_PROGRESS final "A partition reassignment is in progress.";
     61 DELEGATION_TOKEN_AUTH_DISABLED final "Delegation Token feature is not enabled.";
     62 DELEGATION_TOKEN_NOT_FOUND final "Delegation Token is not found on server.";
     63 DELEGATION_TOKEN_OWNER_MISMATCH final "Specified Principal is not valid Owner/Renewer.";
     64 DELEGATION_TOKEN_REQUEST_NOT_ALLOWED final "Delegation Token requests are not allowed on PLAINTEXT/1-way SSL channels and on delegation token authenticated channels.";
     65 DELEGATION_TOKEN_AUTHORIZATION_FAILED final "Delegation Token authorization failed.";
     66 DELEGATION_TOKEN_EXPIRED final "Delegation Token is expired.";
     67 INVALID_PRINCIPAL_TYPE final "Supplied principalType is not supported.";
     68 NON_EMPTY_GROUP final "The group is not empty.";
     69 GROUP_ID_NOT_FOUND final "The group id does not exist.";
     70 FETCH_SESSION_ID_NOT_FOUND retriable "The fetch session ID was not found.";
     71 INVALID_FETCH_SESSION_EPOCH retriable "The fetch session epoch is invalid.";
     72 LISTENER_NOT_FOUND refresh "There is no listener on the leader broker that matches the listener on which metadata request was processed.";
     73 TOPIC_DELETION_DISABLED final "Topic deletion is disabled.";
     74 FENCED_LEADER_EPOCH refresh "The leader epoch in the request is older than the epoch on the broker.";
     75 UNKNOWN_LEADER_EPOCH retriable "The leader epoch in the request is newer than the epoch on the broker.";
     76 UNSUPPORTED_COMPRESSION_TYPE final "The requesting client does not support the compression type of given partition.";
     77 STALE_BROKER_EPOCH final "Broker epoch has changed.";
     78 OFFSET_NOT_AVAILABLE retriable "The leader high watermark has not caught up from a recent leader election so the offsets cannot be guaranteed to be monotonically increasing.";
     79 MEMBER_ID_REQUIRED final "The group member needs to have a valid member id before actually entering a consumer group.";
     80 PREFERRED_LEADER_NOT_AVAILABLE refresh "The preferred leader was not available.";
     81 GROUP_MAX_SIZE_REACHED final "The group has reached its maximum size.";
     82 FENCED_INSTANCE_ID final "The broker rejected this static consumer since another consumer with the same group.instance.id has registered with a different member.id.";
     83 ELIGIBLE_LEADERS_NOT_AVAILABLE refresh "Eligible topic partition leaders are not available.";
     84 ELECTION_NOT_NEEDED refresh "Leader election not needed for topic partition.";
     85 NO_REASSIGNMENT_IN_PROGRESS final "No partition reassignment is in progress.";
     86 GROUP_SUBSCRIBED_TO_TOPIC final "Deleting offsets of a topic is forbidden while the consumer group is actively subscribed to it.";
     87 INVALID_RECORD final "This record has failed the validation on broker and hence will be rejected.";
     88 UNSTABLE_OFFSET_COMMIT retriable "There are unstable offsets that need to be cleared.";
     89 THROTTLING_QUOTA_EXCEEDED retriable "The throttling quota has been exceeded.";
     90 PRODUCER_FENCED final "There is a newer producer with the same transactionalId which fences the current one.";
     91 RESOURCE_NOT_FOUND final "A request illegally referred to a resource that does not exist.";
     92 DUPLICATE_RESOURCE final "A request illegally referred to the same resource twice.";
     93 UNACCEPTABLE_CREDENTIAL final "Requested credential would not meet criteria for acceptability.";
     94 INCONSISTENT_VOTER_SET final "Indicates that the either the sender or recipient of a voter-only request is not one of the expected voters.";
     95 INVALID_UPDATE_VERSION final "The given update version was invalid.";
     96 FEATURE_UPDATE_FAILED final "Unable to update finalized features due to an unexpected server error.";
     97 PRINCIPAL_DESERIALIZATION_FAILURE final "Request principal deserialization failed during forwarding. This indicates an internal error on the broker cluster security setup.";
     98 SNAPSHOT_NOT_FOUND final "Requested snapshot was not found.";
     99 POSITION_OUT_OF_RANGE final "Requested position is not greater than or equal to zero, and less than the size of the snapshot.";
    100 UNKNOWN_TOPIC_ID refresh "This server does not host this topic ID.";
    101 DUPLICATE_BROKER_REGISTRATION final "This broker ID is already in use.";
    102 BROKER_ID_NOT_REGISTERED final "The given broker ID was not registered.";
    103 INCONSISTENT_TOPIC_ID refresh "The log's topic ID did not match the topic ID in the request.";
    104 INCONSISTENT_CLUSTER_ID final "The clusterId in the request does not match that found on the server.";
    105 TRANSACTIONAL_ID_NOT_FOUND final "The transactionalId could not be found.";
    106 FETCH_SESSION_TOPIC_ID_ERROR retriable "The fetch session encountered inconsistent topic ID usage.";
    107 INELIGIBLE_REPLICA final "The new ISR contains at least one ineligible replica.";
    108 NEW_LEADER_ELECTED final "The AlterPartition request successfully updated the partition state but the leader has changed.";
    109 OFFSET_MOVED_TO_TIERED_STORAGE final "The requested offset is moved to tiered storage.";
    110 FENCED_MEMBER_EPOCH final "The member epoch is fenced by the group coordinator. The member must abandon all its partitions and rejoin.";
    111 UNRELEASED_INSTANCE_ID final "The instance ID is still used by another member in the consumer group. That member must leave first.";
    112 UNSUPPORTED_ASSIGNOR final "The assignor or its version range is not supported by the consumer group.";
    113 STALE_MEMBER_EPOCH final "The member epoch is stale. The member must retry after receiving its updated member epoch via the ConsumerGroupHeartbeat API.";
    114 MISMATCHED_ENDPOINT_TYPE final "The request was sent to an endpoint of the wrong type.";
    115 UNSUPPORTED_ENDPOINT_TYPE final "This endpoint type is not supported yet.";
    116 UNKNOWN_CONTROLLER_ID final "This controller ID is not known.";
    117 UNKNOWN_SUBSCRIPTION_ID final "Client sent a push telemetry request with an invalid or outdated subscription ID.";
    118 TELEMETRY_TOO_LARGE final "Client sent a push telemetry request larger than the maximum size the broker will accept.";
    119 INVALID_REGISTRATION final "The controller has considered the broker registration to be invalid.";
    120 TRANSACTION_ABORTABLE final "The server encountered an error with the transaction. The client can abort the transaction to continue using this transactional ID.";
    121 INVALID_RECORD_STATE final "The record state is invalid. The acknowledgement of delivery could not be completed.";
    122 SHARE_SESSION_NOT_FOUND retriable "The share session was not found.";
    123 INVALID_SHARE_SESSION_EPOCH retriable "The share session epoch is invalid.";
    124 FENCED_STATE_EPOCH final "The share coordinator rejected the request because the share-group state epoch did not match.";
    125 INVALID_VOTER_KEY final "The voter key doesn't match the receiving replica's key.";
    126 DUPLICATE_VOTER final "The voter is already part of the set of voters.";
    127 VOTER_NOT_FOUND final "The voter is not part of the set of voters.";
    128 INVALID_REGULAR_EXPRESSION final "The regular expression is not valid.";
    129 REBOOTSTRAP_REQUIRED final "Client metadata is stale. The client should rebootstrap to obtain new metadata.";
    130 STREAMS_INVALID_TOPOLOGY final "The supplied topology is invalid.";
    131 STREAMS_INVALID_TOPOLOGY_EPOCH final "The supplied topology epoch is invalid.";
    132 STREAMS_TOPOLOGY_FENCED final "The supplied topology epoch is outdated.";
    133 SHARE_SESSION_LIMIT_REACHED retriable "The limit of share sessions has been reached.";
    134 GROUP_DELETION_FAILED final "The group could not be deleted.";
    135 STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED final "The description of the topology could not be updated.";
    136 CONTROLLER_ID_NOT_REGISTERED final "The given controller ID was not registered.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_no_gap_so_that_a_code_is_its_index() {
        for (index, entry) in TABLE.iter().enumerate() {
            assert_eq!(entry.code, index as i16 + FIRST, "{}", entry.name);
        }
        assert_eq!(TABLE.len(), 138);
    }

    #[test]
    fn codes_beyond_the_table_are_named_as_such() {
        for code in [i16::MIN, -2, 137, i16::MAX] {
            assert_eq!(ErrorCode(code).to_string(), format!("UNKNOWN_CODE ({code})"));
            assert!(!ErrorCode(code).is_retriable());
        }
    }

    #[test]
    fn retriability_is_that_of_java() {
        assert!(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS.is_retriable());
        assert!(!ErrorCode::COORDINATOR_LOAD_IN_PROGRESS.refreshes_metadata());
        assert!(ErrorCode::NOT_LEADER_OR_FOLLOWER.refreshes_metadata());
        assert!(!ErrorCode::UNKNOWN_SERVER_ERROR.is_retriable());
        assert!(!ErrorCode::REBALANCE_IN_PROGRESS.is_retriable());
        assert_eq!(ErrorCode::NONE.check(), Ok(()));
        assert_eq!(format!("{:?}", ErrorCode::REBOOTSTRAP_REQUIRED), "REBOOTSTRAP_REQUIRED (129)");
    }
}
