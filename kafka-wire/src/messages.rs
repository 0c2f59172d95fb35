//! The messages themselves, kafka-protocol's or generated in the same style: raw material that no public signature shows.

pub use kafka_protocol::messages::*;
pub use kafka_protocol::protocol::StrBytes;
pub use uuid::Uuid;

// In newer versions than kafka-protocol has them.
pub use crate::generated::{
    describe_log_dirs_request, describe_log_dirs_response, offset_commit_request, offset_commit_response,
    offset_fetch_request, offset_fetch_response,
};
pub use describe_log_dirs_request::DescribeLogDirsRequest;
pub use describe_log_dirs_response::DescribeLogDirsResponse;
pub use offset_commit_request::OffsetCommitRequest;
pub use offset_commit_response::OffsetCommitResponse;
pub use offset_fetch_request::OffsetFetchRequest;
pub use offset_fetch_response::OffsetFetchResponse;
