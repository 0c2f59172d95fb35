//! The table of APIs: which we speak, in which versions, and the codec of each message.

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::codec;
use crate::error::{ProtocolError, ProtocolErrorKind};
use crate::messages::*;
use crate::shape::Direction;

/// The versions of an API from `min` to `max`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VersionRange {
    /// The lowest version.
    pub min: i16,
    /// The highest version.
    pub max: i16,
}

impl VersionRange {
    /// The versions from `min` to `max`.
    #[must_use]
    pub const fn new(min: i16, max: i16) -> Self {
        Self { min, max }
    }

    /// Whether `version` is one of these.
    #[must_use]
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    /// The versions in both, if there are any.
    #[must_use]
    pub fn intersect(self, other: Self) -> Option<Self> {
        let both = Self::new(self.min.max(other.min), self.max.min(other.max));
        (both.min <= both.max).then_some(both)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.min, self.max)
    }
}

/// A request, its API and its response, each in both directions: clients and brokers share one codec.
pub trait Request: Sized + Send + 'static {
    /// The API that this is a request of.
    const API: Api;
    /// The answer to it.
    type Response: Send + 'static;

    /// Appends the body of the request to `out`.
    ///
    /// # Errors
    /// A version that we do not know, or a field that is set and that the version cannot express.
    fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), ProtocolError>;

    /// Reads the body of a request: checks its shape, decodes it, and refuses trailing bytes.
    ///
    /// # Errors
    /// Whatever keeps the bytes from being this request; the connection is of no use any more.
    fn decode(version: i16, body: Bytes) -> Result<Self, ProtocolError>;

    /// Appends the body of a response to `out`.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    fn encode_response(
        response: &Self::Response,
        version: i16,
        out: &mut BytesMut,
    ) -> Result<(), ProtocolError>;

    /// Reads the body of a response, as [`decode`](Self::decode) does.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    fn decode_response(version: i16, body: Bytes) -> Result<Self::Response, ProtocolError>;
}

/// What the table says about one API.
#[derive(Clone, Copy)]
struct Entry {
    name: &'static str,
    versions: VersionRange,
    flexible: i16,
    throttles: Option<i16>,
}

/// Stands for "no version" in the table.
const NEVER: i16 = i16::MAX;

macro_rules! throttles {
    (never) => {
        None
    };
    ($since:literal) => {
        Some($since)
    };
}

macro_rules! apis {
    ($(
        $key:literal $name:ident $min:literal..=$max:literal flexible $flexible:tt throttles $throttles:tt
        $(=> $request:ident $(, $response:ident)? $(as $codec:literal)?)?;
    )*) => {
        /// The APIs that this crate can encode and decode.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i16)]
        #[non_exhaustive]
        pub enum Api {
            $(#[doc = concat!("API key ", $key, ", versions ", $min, " to ", $max, ".")] $name = $key,)*
        }

        impl Api {
            /// Every API, by ascending key.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The API with this key, if we speak it.
            #[must_use]
            pub const fn from_key(key: i16) -> Option<Self> {
                match key {
                    $($key => Some(Self::$name),)*
                    _ => None,
                }
            }

            const fn entry(self) -> Entry {
                match self {
                    $(Self::$name => Entry {
                        name: stringify!($name),
                        versions: VersionRange::new($min, $max),
                        flexible: flexible!($flexible),
                        throttles: throttles!($throttles),
                    },)*
                }
            }
        }

        /// Reads a body as [`Request`] does and writes it again: what tests and fuzz targets compare.
        ///
        /// # Errors
        /// Those of the codec.
        #[doc(hidden)]
        pub fn recode(
            api: Api,
            version: i16,
            direction: Direction,
            body: Bytes,
        ) -> Result<BytesMut, ProtocolError> {
            let mut out = BytesMut::new();
            match (api, direction) {
                $($((Api::$name, Direction::Request) => {
                    <$request as Request>::decode(version, body)?.encode(version, &mut out)?;
                }
                (Api::$name, Direction::Response) => {
                    let response = <$request as Request>::decode_response(version, body)?;
                    <$request as Request>::encode_response(&response, version, &mut out)?;
                })?)*
                _ => return Err(ProtocolErrorKind::UnknownApi.at(api.key(), version)),
            }
            Ok(out)
        }

        /// The default message, written, read and compared.
        #[cfg(test)]
        fn default_survives(api: Api, version: i16) {
            let mut out = BytesMut::new();
            match api {
                $($(Api::$name => {
                    let request = $request::default();
                    request.encode(version, &mut out).unwrap();
                    assert_eq!(<$request as Request>::decode(version, out.split().freeze()).unwrap(), request);
                    let response = <$request as Request>::Response::default();
                    <$request as Request>::encode_response(&response, version, &mut out).unwrap();
                    assert_eq!(<$request as Request>::decode_response(version, out.freeze()).unwrap(), response);
                })?)*
                _ => {}
            }
        }

        $($(impl Request for $request {
            const API: Api = Api::$name;
            type Response = response!($request $($response)?);

            fn encode(&self, version: i16, out: &mut BytesMut) -> Result<(), ProtocolError> {
                codec::encode(self, Self::API, version, codec_version!(version $($codec)?), out)
            }

            fn decode(version: i16, body: Bytes) -> Result<Self, ProtocolError> {
                codec::decode(Self::API, version, codec_version!(version $($codec)?), Direction::Request, &body)
            }

            fn encode_response(
                response: &Self::Response,
                version: i16,
                out: &mut BytesMut,
            ) -> Result<(), ProtocolError> {
                codec::encode(response, Self::API, version, codec_version!(version $($codec)?), out)
            }

            fn decode_response(version: i16, body: Bytes) -> Result<Self::Response, ProtocolError> {
                codec::decode(Self::API, version, codec_version!(version $($codec)?), Direction::Response, &body)
            }
        })?)*
    };
}

macro_rules! flexible {
    (never) => {
        NEVER
    };
    ($since:literal) => {
        $since
    };
}

/// The answer to a request: kafka-protocol knows it for its own messages.
macro_rules! response {
    ($request:ident) => {
        <$request as kafka_protocol::protocol::Request>::Response
    };
    ($request:ident $response:ident) => {
        $response
    };
}

/// The version to give to the codec, where the highest ones have the layout of an older one that it knows.
macro_rules! codec_version {
    ($version:ident) => {
        $version
    };
    ($version:ident $codec:literal) => {
        $version.min($codec)
    };
}

// key, name, versions; since when flexible; since when a throttled client must wait itself (KIP-219); messages.
// "as n": the codec knows version n, and later ones have its layout. No message: the codec is written by hand.
apis! {
    0 Produce 3..=13 flexible 9 throttles 6;
    1 Fetch 4..=18 flexible 12 throttles 8;
    2 ListOffsets 1..=11 flexible 6 throttles 3 => ListOffsetsRequest as 10;
    3 Metadata 0..=13 flexible 9 throttles 6 => MetadataRequest;
    8 OffsetCommit 2..=10 flexible 8 throttles 4 => OffsetCommitRequest, OffsetCommitResponse;
    9 OffsetFetch 1..=10 flexible 6 throttles 4 => OffsetFetchRequest, OffsetFetchResponse;
    10 FindCoordinator 0..=6 flexible 3 throttles 2 => FindCoordinatorRequest;
    11 JoinGroup 0..=9 flexible 6 throttles 3 => JoinGroupRequest;
    12 Heartbeat 0..=4 flexible 4 throttles 2 => HeartbeatRequest;
    13 LeaveGroup 0..=5 flexible 4 throttles 2 => LeaveGroupRequest;
    14 SyncGroup 0..=5 flexible 4 throttles 2 => SyncGroupRequest;
    15 DescribeGroups 0..=6 flexible 5 throttles 2 => DescribeGroupsRequest;
    16 ListGroups 0..=5 flexible 3 throttles 2 => ListGroupsRequest;
    17 SaslHandshake 0..=1 flexible never throttles never => SaslHandshakeRequest;
    18 ApiVersions 0..=4 flexible 3 throttles 2 => ApiVersionsRequest;
    19 CreateTopics 2..=7 flexible 5 throttles 3 => CreateTopicsRequest;
    20 DeleteTopics 1..=6 flexible 4 throttles 2 => DeleteTopicsRequest;
    21 DeleteRecords 0..=2 flexible 2 throttles 1 => DeleteRecordsRequest;
    // Version 6 is two-phase commit, which Kafka still calls unstable.
    22 InitProducerId 0..=5 flexible 2 throttles 1 => InitProducerIdRequest;
    23 OffsetForLeaderEpoch 2..=4 flexible 4 throttles 2 => OffsetForLeaderEpochRequest;
    24 AddPartitionsToTxn 0..=5 flexible 3 throttles 1 => AddPartitionsToTxnRequest;
    25 AddOffsetsToTxn 0..=4 flexible 3 throttles 1 => AddOffsetsToTxnRequest;
    26 EndTxn 0..=5 flexible 3 throttles 1 => EndTxnRequest;
    28 TxnOffsetCommit 0..=5 flexible 3 throttles 1 => TxnOffsetCommitRequest;
    29 DescribeAcls 1..=3 flexible 2 throttles 1 => DescribeAclsRequest;
    30 CreateAcls 1..=3 flexible 2 throttles 1 => CreateAclsRequest;
    31 DeleteAcls 1..=3 flexible 2 throttles 1 => DeleteAclsRequest;
    32 DescribeConfigs 1..=4 flexible 4 throttles 2 => DescribeConfigsRequest;
    33 AlterConfigs 0..=2 flexible 2 throttles 1 => AlterConfigsRequest;
    35 DescribeLogDirs 1..=5 flexible 2 throttles 1 => DescribeLogDirsRequest, DescribeLogDirsResponse;
    36 SaslAuthenticate 0..=2 flexible 2 throttles never => SaslAuthenticateRequest;
    37 CreatePartitions 0..=3 flexible 2 throttles 1 => CreatePartitionsRequest;
    38 CreateDelegationToken 1..=3 flexible 2 throttles 1 => CreateDelegationTokenRequest;
    39 RenewDelegationToken 1..=2 flexible 2 throttles 1 => RenewDelegationTokenRequest;
    40 ExpireDelegationToken 1..=2 flexible 2 throttles 1 => ExpireDelegationTokenRequest;
    41 DescribeDelegationToken 1..=3 flexible 2 throttles 1 => DescribeDelegationTokenRequest;
    42 DeleteGroups 0..=2 flexible 2 throttles 1 => DeleteGroupsRequest;
    43 ElectLeaders 0..=2 flexible 2 throttles 0 => ElectLeadersRequest;
    44 IncrementalAlterConfigs 0..=1 flexible 1 throttles 0 => IncrementalAlterConfigsRequest;
    45 AlterPartitionReassignments 0..=1 flexible 0 throttles 0 => AlterPartitionReassignmentsRequest;
    46 ListPartitionReassignments 0..=0 flexible 0 throttles 0 => ListPartitionReassignmentsRequest;
    47 OffsetDelete 0..=0 flexible never throttles 0 => OffsetDeleteRequest;
    48 DescribeClientQuotas 0..=1 flexible 1 throttles 0 => DescribeClientQuotasRequest;
    49 AlterClientQuotas 0..=1 flexible 1 throttles 0 => AlterClientQuotasRequest;
    50 DescribeUserScramCredentials 0..=0 flexible 0 throttles 0 => DescribeUserScramCredentialsRequest;
    51 AlterUserScramCredentials 0..=0 flexible 0 throttles 0 => AlterUserScramCredentialsRequest;
    55 DescribeQuorum 0..=2 flexible 0 throttles never => DescribeQuorumRequest;
    57 UpdateFeatures 0..=2 flexible 0 throttles 0 => UpdateFeaturesRequest;
    60 DescribeCluster 0..=2 flexible 0 throttles 0 => DescribeClusterRequest;
    61 DescribeProducers 0..=0 flexible 0 throttles 0 => DescribeProducersRequest;
    64 UnregisterBroker 0..=0 flexible 0 throttles 0 => UnregisterBrokerRequest;
    65 DescribeTransactions 0..=0 flexible 0 throttles 0 => DescribeTransactionsRequest;
    66 ListTransactions 0..=2 flexible 0 throttles 0 => ListTransactionsRequest;
    68 ConsumerGroupHeartbeat 0..=1 flexible 0 throttles 0 => ConsumerGroupHeartbeatRequest;
    69 ConsumerGroupDescribe 0..=1 flexible 0 throttles 0 => ConsumerGroupDescribeRequest;
    74 ListConfigResources 0..=1 flexible 0 throttles 0 => ListConfigResourcesRequest;
    75 DescribeTopicPartitions 0..=0 flexible 0 throttles 0 => DescribeTopicPartitionsRequest;
}

impl Api {
    /// Its key on the wire.
    #[must_use]
    pub const fn key(self) -> i16 {
        self as i16
    }

    /// Its name in Kafka's documentation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.entry().name
    }

    /// The versions that we can encode and decode.
    #[must_use]
    pub const fn versions(self) -> VersionRange {
        self.entry().versions
    }

    /// Whether this version has compact lengths and tagged fields (KIP-482).
    #[must_use]
    pub const fn is_flexible(self, version: i16) -> bool {
        version >= self.entry().flexible
    }

    /// The version of the header before a request of this version.
    #[must_use]
    pub const fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The version of the header before a response of this version.
    #[must_use]
    pub const fn response_header_version(self, version: i16) -> i16 {
        // A client reads this response before it knows what the broker speaks (KIP-511).
        if self.is_flexible(version) && !matches!(self, Self::ApiVersions) { 1 } else { 0 }
    }

    /// The version from which on the client has to stay away for the throttle time itself, as the broker
    /// answers at once (KIP-219); `None` if its responses have no throttle time.
    #[must_use]
    pub const fn throttles_since(self) -> Option<i16> {
        self.entry().throttles
    }

    /// Fails for a version that we cannot encode and decode.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::UnsupportedVersion`].
    pub const fn check_version(self, version: i16) -> Result<(), ProtocolError> {
        let VersionRange { min, max } = self.versions();
        if self.versions().contains(version) {
            Ok(())
        } else {
            Err(ProtocolErrorKind::UnsupportedVersion { min, max }.at(self.key(), version))
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_apis_are_one_to_one() {
        for api in Api::ALL {
            assert_eq!(Api::from_key(api.key()), Some(*api));
            assert!(api.versions().min <= api.versions().max, "{api}");
        }
        assert!(Api::ALL.is_sorted());
        assert_eq!(Api::from_key(-1), None);
    }

    #[test]
    fn header_versions_are_those_of_kafka_protocol() {
        for api in Api::ALL {
            let theirs = ApiKey::try_from(api.key()).unwrap();
            for version in api.versions().min..=api.versions().max {
                assert_eq!(
                    api.request_header_version(version),
                    theirs.request_header_version(version),
                    "{api} v{version}"
                );
                assert_eq!(
                    api.response_header_version(version),
                    theirs.response_header_version(version),
                    "{api} v{version}"
                );
            }
        }
    }

    #[test]
    fn a_message_survives_a_round_trip() {
        let request =
            FindCoordinatorRequest::default().with_coordinator_keys(vec![StrBytes::from_static_str("group")]);
        let mut body = BytesMut::new();
        request.encode(4, &mut body).unwrap();
        assert_eq!(FindCoordinatorRequest::decode(4, body.freeze()).unwrap(), request);
    }

    #[test]
    fn the_default_of_every_message_survives_a_round_trip_in_every_version() {
        for api in Api::ALL {
            for version in api.versions().min..=api.versions().max {
                default_survives(*api, version);
            }
        }
    }

    #[test]
    fn a_version_out_of_range_is_refused() {
        let error = MetadataRequest::default().encode(14, &mut BytesMut::new()).unwrap_err();
        assert_eq!(error.to_string(), "Metadata v14: versions 0 to 13 are supported");
    }
}
