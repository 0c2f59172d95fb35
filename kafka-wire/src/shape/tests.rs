//! The shape pass against kafka-protocol: equal on what is well formed, in front of it on everything else.

use bytes::Bytes;

use super::sample::sample;
use super::*;
use crate::api::{Request, recode};
use crate::messages::{ApiVersionsRequest, MetadataRequest, OffsetCommitRequest, OffsetCommitResponse};
use crate::testing::seeded;

const DIRECTIONS: [Direction; 2] = [Direction::Request, Direction::Response];

/// Every message that the table has a codec for, in every version.
pub(super) fn messages() -> impl Iterator<Item = (Api, i16, Direction)> {
    let apis = Api::ALL.iter().filter(|api| !matches!(api, Api::Produce | Api::Fetch));
    let versions =
        apis.flat_map(|api| (api.versions().min..=api.versions().max).map(|version| (*api, version)));
    versions.flat_map(|(api, version)| DIRECTIONS.map(|direction| (api, version, direction)))
}

fn fault(api: Api, version: i16, direction: Direction, body: &[u8]) -> ProtocolErrorKind {
    let error = check(api, version, direction, body).unwrap_err();
    assert_eq!((error.api_key, error.version), (api.key(), version));
    error.kind
}

#[test]
fn every_api_has_its_shape() {
    assert!(APIS.is_sorted_by_key(|shape| shape.key));
    for api in Api::ALL {
        let has_throttle_time = ApiShape::of(*api).unwrap().throttle.is_some();
        assert_eq!(api.throttles_since().is_some(), has_throttle_time, "{api}");
    }
}

#[test]
fn every_populated_message_survives_a_round_trip() {
    let mut random = seeded();
    for (api, version, direction) in messages() {
        for _ in 0..20 {
            let body = Bytes::from(sample(&mut random, api, version, direction));
            let again = recode(api, version, direction, body.clone()).unwrap();
            assert_eq!(again, body, "{api} v{version} {direction:?}");
        }
    }
}

#[test]
fn a_message_cut_anywhere_is_an_error() {
    let mut random = seeded();
    for (api, version, direction) in messages() {
        let body = sample(&mut random, api, version, direction);
        for end in 0..body.len() {
            assert!(
                check(api, version, direction, &body[..end]).is_err(),
                "{api} v{version} {direction:?} at {end}"
            );
        }
        let longer = [&body[..], &[0]].concat();
        assert_eq!(fault(api, version, direction, &longer), ProtocolErrorKind::TrailingBytes(1));
    }
}

// Without the shape pass this aborts the process: kafka-protocol reserves 192 GiB.
#[test]
fn four_bytes_of_metadata_cannot_reserve_memory() {
    let body = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]);
    let error = MetadataRequest::decode_response(0, body).unwrap_err();
    assert_eq!(
        error.kind,
        ProtocolErrorKind::CountTooLarge { count: i32::MAX as usize, minimum: 10, remaining: 0 }
    );
}

#[test]
fn a_body_beyond_its_limit_is_refused_before_it_is_read() {
    let body = vec![0xff; MAX_CONTROL_BODY + 1];
    let too_large = ProtocolErrorKind::TooLarge { length: body.len(), limit: MAX_CONTROL_BODY };
    assert_eq!(fault(Api::Heartbeat, 0, Direction::Request, &body), too_large);
    assert_ne!(fault(Api::Metadata, 9, Direction::Response, &body), too_large);
    assert_ne!(fault(Api::Heartbeat, 0, Direction::Request, &body[1..]), too_large);
}

#[test]
fn null_is_accepted_only_where_the_version_has_it() {
    let all_topics = [0xff, 0xff, 0xff, 0xff];
    assert_eq!(fault(Api::Metadata, 0, Direction::Request, &all_topics), ProtocolErrorKind::UnexpectedNull);
    assert_eq!(check(Api::Metadata, 1, Direction::Request, &all_topics), Ok(()));
}

/// An `ApiVersions` response whose tagged section is `tags`.
fn api_versions_response(tags: &[u8]) -> Vec<u8> {
    [&[0, 0, 1, 0, 0, 0, 0], tags].concat()
}

#[test]
fn a_tag_must_be_as_long_as_it_says_and_come_in_order() {
    let check = |tags: &[u8]| check(Api::ApiVersions, 3, Direction::Response, &api_versions_response(tags));
    let fault = |tags: &[u8]| check(tags).unwrap_err().kind;
    let epoch = [1, 8, 0, 0, 0, 0, 0, 0, 0, 7];
    assert_eq!(check(&[&[1][..], &epoch].concat()), Ok(()));
    assert_eq!(
        fault(&[1, 1, 9, 0, 0, 0, 0, 0, 0, 0, 7, 0]),
        ProtocolErrorKind::TagSize { tag: 1, announced: 9, used: 8 }
    );
    assert_eq!(
        fault(&[1, 1, 7, 0, 0, 0, 0, 0, 0, 0]),
        ProtocolErrorKind::Truncated { needed: 8, remaining: 7 }
    );
    assert_eq!(
        fault(&[&[2][..], &epoch, &epoch].concat()),
        ProtocolErrorKind::TagOrder { previous: 1, tag: 1 }
    );
    assert_eq!(fault(&[1, 1, 8, 0]), ProtocolErrorKind::Truncated { needed: 8, remaining: 1 });
}

#[test]
fn an_unknown_tag_is_skipped() {
    let body = api_versions_response(&[1, 99, 2, 0xff, 0xff]).into();
    assert!(ApiVersionsRequest::decode_response(3, body).is_ok());
    // No throttle time, no topics, an unknown tag.
    let body = Bytes::from_static(&[0, 0, 0, 0, 1, 1, 99, 2, 0xff, 0xff]);
    assert_eq!(OffsetCommitRequest::decode_response(10, body).unwrap(), OffsetCommitResponse::default());
}

// kafka-protocol fails on these where Kafka skips them, so none must reach it.
#[test]
fn no_tag_that_kafka_protocol_decodes_is_younger_than_the_flexible_versions() {
    fn visit(api: Api, fields: &[Field]) {
        for field in fields {
            let mut versions = api.versions().min..=api.versions().max;
            let young = versions.any(|version| api.is_flexible(version) && !field.exists_in(version));
            assert!(field.tag.is_none() || !young, "{api}");
            if let Kind::Struct(fields) = field.kind {
                visit(api, fields);
            }
        }
    }
    for api in Api::ALL.iter().filter(|api| !matches!(api, Api::Produce | Api::Fetch)) {
        let shape = ApiShape::of(*api).unwrap();
        DIRECTIONS.iter().for_each(|direction| visit(*api, shape.fields(*direction)));
    }
}

#[test]
fn a_known_tag_in_a_version_before_it_is_skipped() {
    // Node endpoints are tag 0 of Produce from version 10 on; these two bytes are none.
    let response = [1, 0, 0, 0, 0, 1, 0, 2, 0xff, 0xff];
    assert_eq!(check(Api::Produce, 9, Direction::Response, &response), Ok(()));
    assert!(check(Api::Produce, 10, Direction::Response, &response).is_err());
}

#[test]
fn the_throttle_time_is_found_wherever_the_response_has_it() {
    let mut random = seeded();
    for (api, version, direction) in messages().filter(|(.., direction)| *direction == Direction::Response) {
        let body = sample(&mut random, api, version, direction);
        let found = throttle_time(api, version, &body);
        let leading = || i32::from_be_bytes(body[..4].try_into().unwrap());
        match api {
            _ if api.throttles_since().is_none_or(|since| version < since) => assert_eq!(found, None),
            // Behind error codes, arrays or a token.
            Api::ApiVersions
            | Api::OffsetDelete
            | Api::CreateDelegationToken
            | Api::RenewDelegationToken
            | Api::ExpireDelegationToken
            | Api::DescribeDelegationToken => {
                let marked = found.unwrap().to_be_bytes();
                assert!(body.windows(4).any(|window| window == marked), "{api} v{version}");
            }
            _ => assert_eq!(found, Some(leading()), "{api} v{version}"),
        }
        assert_eq!(throttle_time(api, version, &[]), None);
    }
    let response = api_versions_response(&[0]);
    assert_eq!(throttle_time(Api::ApiVersions, 3, &response), Some(0));
    // One topic "t" with one partition, then 77 ms.
    let mut produce = vec![0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1];
    produce.extend([0; 30]);
    produce.extend(77_i32.to_be_bytes());
    assert_eq!(throttle_time(Api::Produce, 7, &produce), Some(77));
    assert_eq!(throttle_time(Api::Produce, 5, &produce), None);
}
