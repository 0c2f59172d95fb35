//! Finds the time for which a broker has muted a connection in an answer that is not decoded yet (KIP-219).

use std::time::Duration;

use kafka_wire::api::Api;
use kafka_wire::primitives::{Reader, Result};

/// How long the broker will not read after this answer; `None` if it does not say so, or says so unintelligibly: that
/// is for whoever decodes the answer to report.
pub(crate) fn throttle_time(api: Api, version: i16, body: &[u8]) -> Option<Duration> {
    // An older broker has waited before it answered.
    if api.throttles_since().is_none_or(|since| version < since) {
        return None;
    }
    let mut reader = Reader::new(body);
    let before = match api {
        Api::Produce => skip_produce(&mut reader, version),
        Api::ApiVersions => skip_api_versions(&mut reader, version),
        Api::OffsetDelete => reader.i16().map(|_error_code| ()),
        // Every other answer begins with it.
        _ => Ok(()),
    };
    let millis = before.and_then(|()| reader.i32()).ok()?;
    u64::try_from(millis).ok().filter(|millis| *millis > 0).map(Duration::from_millis)
}

/// Skips the topics of a produce response.
fn skip_produce(reader: &mut Reader<'_>, version: i16) -> Result<()> {
    let flexible = Api::Produce.is_flexible(version);
    for _ in 0..reader.count(flexible, 2)? {
        if version >= 13 {
            reader.uuid()?;
        } else {
            reader.nullable_string(flexible)?;
        }
        for _ in 0..reader.count(flexible, 22)? {
            // Index, error code, base offset, log append time, log start offset (from version 5 on).
            reader.array::<30>()?;
            if version >= 8 {
                for _ in 0..reader.count(flexible, 5)? {
                    reader.i32()?;
                    reader.nullable_string(flexible)?;
                    skip_tags(reader, flexible)?;
                }
                reader.nullable_string(flexible)?;
            }
            skip_tags(reader, flexible)?;
        }
        skip_tags(reader, flexible)?;
    }
    Ok(())
}

fn skip_api_versions(reader: &mut Reader<'_>, version: i16) -> Result<()> {
    let flexible = Api::ApiVersions.is_flexible(version);
    reader.i16()?;
    for _ in 0..reader.count(flexible, 6)? {
        reader.array::<6>()?;
        skip_tags(reader, flexible)?;
    }
    Ok(())
}

fn skip_tags(reader: &mut Reader<'_>, flexible: bool) -> Result<()> {
    if flexible { reader.skip_tagged_fields() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_wire::api::Request;
    use kafka_wire::messages::{
        ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, MetadataResponse, OffsetDeleteRequest,
        OffsetDeleteResponse, api_versions_response,
    };

    use super::*;

    fn encoded<R: Request>(response: &R::Response, version: i16) -> BytesMut {
        let mut body = BytesMut::new();
        R::encode_response(response, version, &mut body).unwrap();
        body
    }

    const SECOND: Option<Duration> = Some(Duration::from_secs(1));

    #[test]
    fn every_version_that_asks_for_it_is_heard_and_no_other() {
        let response = MetadataResponse::default().with_throttle_time_ms(1000);
        for version in 3..=13 {
            let body = encoded::<MetadataRequest>(&response, version);
            let expected = if version >= 6 { SECOND } else { None };
            assert_eq!(throttle_time(Api::Metadata, version, &body), expected, "version {version}");
        }
        let body = encoded::<MetadataRequest>(&MetadataResponse::default(), 12);
        assert_eq!(throttle_time(Api::Metadata, 12, &body), None);
    }

    #[test]
    fn answers_that_do_not_begin_with_it_are_walked() {
        let body =
            encoded::<OffsetDeleteRequest>(&OffsetDeleteResponse::default().with_throttle_time_ms(1000), 0);
        assert_eq!(throttle_time(Api::OffsetDelete, 0, &body), SECOND);
        let key = api_versions_response::ApiVersion::default().with_api_key(1).with_max_version(4);
        let response = ApiVersionsResponse::default()
            .with_throttle_time_ms(1000)
            .with_api_keys(vec![key; 3].into_iter().collect());
        for version in 2..=4 {
            let body = encoded::<ApiVersionsRequest>(&response, version);
            assert_eq!(throttle_time(Api::ApiVersions, version, &body), SECOND, "version {version}");
        }
    }

    #[test]
    fn negative_times_and_truncated_answers_do_not_mute() {
        assert_eq!(throttle_time(Api::Fetch, 12, &[0xff; 8]), None);
        for length in 0..4 {
            assert_eq!(throttle_time(Api::Fetch, 12, &[1; 4][..length]), None);
        }
        assert_eq!(throttle_time(Api::Produce, 9, &[0xff; 64]), None);
    }
}
