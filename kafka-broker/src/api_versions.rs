//! What this broker speaks: every line of the router's table, and the answer to clients that are newer than it (KIP-511).

use bytes::{Bytes, BytesMut};
use kafka_wire::api::{Api, Request};
use kafka_wire::error::ProtocolError;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_wire::messages::{ApiVersionsRequest, ApiVersionsResponse};

use crate::router::{ROUTES, Route};
use crate::shared::RequestContext;

/// A feature of the cluster: name, the lowest and highest level supported, the level in force.
///
/// Only those whose levels this broker knows: a client may act on any that it sees.
pub(crate) const FEATURES: &[(&str, i16, i16, i16)] =
    &[("kraft.version", 0, 1, 1), ("metadata.version", 7, 30, 30)];

pub(crate) async fn handle(ctx: &RequestContext, request: ApiVersionsRequest) -> ApiVersionsResponse {
    let named = |text: &str| is_software_name(text);
    if ctx.version >= 3 && !(named(&request.client_software_name) && named(&request.client_software_version))
    {
        return ApiVersionsResponse::default().with_error_code(ErrorCode::INVALID_REQUEST.0);
    }
    let mut response = ApiVersionsResponse::default().with_api_keys(ROUTES.iter().map(entry).collect());
    if ctx.version >= 3 {
        // Clients before version 4 fail on a range that starts at 0.
        let shown = FEATURES.iter().filter(|(_, min, ..)| ctx.version >= 4 || *min > 0);
        let supported = shown.map(|(name, min, max, _)| {
            SupportedFeatureKey::default()
                .with_name((*name).into())
                .with_min_version(*min)
                .with_max_version(*max)
        });
        let finalized = FEATURES.iter().map(|(name, .., level)| {
            FinalizedFeatureKey::default()
                .with_name((*name).into())
                .with_min_version_level(*level)
                .with_max_version_level(*level)
        });
        response = response
            .with_supported_features(supported.collect())
            .with_finalized_features(finalized.collect())
            .with_finalized_features_epoch(1);
    }
    response
}

/// The answer to a version that we do not know, in the layout of version 0: an error and our range for this API alone.
pub(crate) fn fallback() -> Result<Bytes, ProtocolError> {
    let own = Route::find(Api::ApiVersions).map(entry);
    let response = ApiVersionsResponse::default()
        .with_error_code(ErrorCode::UNSUPPORTED_VERSION.0)
        .with_api_keys(own.into_iter().collect());
    let mut out = BytesMut::new();
    ApiVersionsRequest::encode_response(&response, 0, &mut out)?;
    Ok(out.freeze())
}

fn entry(route: &Route) -> ApiVersion {
    let versions = route.advertised();
    ApiVersion::default()
        .with_api_key(route.api.key())
        .with_min_version(versions.min)
        .with_max_version(versions.max)
}

/// Kafka's `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`.
fn is_software_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let ends = [text.bytes().next(), text.bytes().next_back()];
    ends.iter().all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric())) && text.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::wire_test::{Wire, memory_cluster};

    /// The whole frame that answers an ApiVersions request of this version with this body, length prefix left out.
    async fn answer(version: i16, body: &[u8]) -> Vec<u8> {
        let cluster = memory_cluster(1, "t", 1, 1).await;
        let mut wire = Wire::to(&cluster, 1);
        let mut frame = vec![0, 18];
        frame.extend(version.to_be_bytes());
        frame.extend([0, 0, 0, 7, 0, 1, b'c']);
        frame.extend_from_slice(body);
        wire.stream.write_i32(frame.len() as i32).await.unwrap();
        wire.stream.write_all(&frame).await.unwrap();
        wire.receive_frame().await.expect("an answer").to_vec()
    }

    /// The entries of all APIs: with an empty tag section after each in flexible versions.
    fn entries(flexible: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        for route in ROUTES {
            let versions = route.advertised();
            for field in [route.api.key(), versions.min, versions.max] {
                bytes.extend(field.to_be_bytes());
            }
            bytes.extend(flexible.then_some(0));
        }
        bytes
    }

    const SOFTWARE: &[u8] = &[0, 5, b'r', b'u', b's', b't', 4, b'1', b'.', b'0', 0];

    #[tokio::test]
    async fn versions_0_to_2_list_the_apis_in_the_old_layout() {
        let count = (ROUTES.len() as i32).to_be_bytes();
        let old = [&[0, 0, 0, 7, 0, 0][..], &count, &entries(false)].concat();
        assert_eq!(answer(0, &[]).await, old);
        let with_throttle = [&old[..], &[0, 0, 0, 0]].concat();
        assert_eq!(answer(1, &[]).await, with_throttle);
        assert_eq!(answer(2, &[]).await, with_throttle);
    }

    #[tokio::test]
    async fn versions_3_and_4_add_features_and_keep_the_old_header() {
        let count = [ROUTES.len() as u8 + 1];
        let head = [&[0, 0, 0, 7, 0, 0][..], &count, &entries(true), &[0, 0, 0, 0]].concat();
        let metadata = b"\x11metadata.version";
        let kraft = b"\x0ekraft.version";
        let supported_metadata = [&metadata[..], &[0, 7, 0, 30, 0]].concat();
        let supported_kraft = [&kraft[..], &[0, 0, 0, 1, 0]].concat();
        let finalized = [&kraft[..], &[0, 1, 0, 1, 0], metadata, &[0, 30, 0, 30, 0]].concat();
        let tags = |supported: &[u8]| {
            let sizes = [supported.len() as u8, 8, finalized.len() as u8 + 1];
            let epoch = [1, sizes[1], 0, 0, 0, 0, 0, 0, 0, 1];
            [&[3, 0, sizes[0]][..], supported, &epoch, &[2, sizes[2], 3], &finalized].concat()
        };
        // A range that starts at 0 is not shown to version 3.
        let three = tags(&[&[2][..], &supported_metadata].concat());
        assert_eq!(answer(3, SOFTWARE).await, [&head[..], &three].concat());
        let four = tags(&[&[3][..], &supported_kraft, &supported_metadata].concat());
        assert_eq!(answer(4, SOFTWARE).await, [&head[..], &four].concat());
    }

    #[tokio::test]
    async fn newer_versions_are_told_our_range_in_the_layout_of_version_0() {
        let fallback = [0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4];
        assert_eq!(answer(5, SOFTWARE).await, fallback);
        assert_eq!(answer(99, SOFTWARE).await, fallback);
        assert_eq!(answer(99, &[0xff; 30]).await, fallback, "whatever layout version 99 has");
        assert_eq!(answer(i16::MAX, &[]).await, fallback);
    }

    #[tokio::test]
    async fn a_bad_software_name_is_an_invalid_request() {
        let body = [0, 2, b'-', 2, b'1', 0];
        let answer = answer(3, &body).await;
        assert_eq!(answer[4..], [0, 42, 1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn software_names_follow_kafkas_pattern() {
        for good in ["a", "kafka-rs", "1.2.3", "A9"] {
            assert!(is_software_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", ".", "a b", "naïve", "a_b"] {
            assert!(!is_software_name(bad), "{bad}");
        }
    }
}
