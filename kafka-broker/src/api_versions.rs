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
const FEATURES: &[(&str, i16, i16, i16)] = &[("kraft.version", 0, 1, 1), ("metadata.version", 7, 30, 30)];

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
    use super::*;

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
