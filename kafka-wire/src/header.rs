//! The headers before every request and response: which API, which version, which request.

use bytes::{BufMut, Bytes, BytesMut};

use crate::api::Api;
use crate::error::{ProtocolError, ProtocolErrorKind};
use crate::primitives::{self, Reader};

/// The header of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// The API called.
    pub api: Api,
    /// The version of the API; as received it may be one that we do not know.
    pub version: i16,
    /// The id that the response repeats.
    pub correlation_id: i32,
    /// The name of the client.
    pub client_id: Option<&'a str>,
}

impl<'a> RequestHeader<'a> {
    /// The length prefix and the header of a request whose body has `body_length` bytes.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::Unencodable`] for a client id of more than 32767 bytes or a frame of 2 GiB.
    pub fn encode(&self, body_length: usize) -> Result<Bytes, ProtocolError> {
        let mut out = BytesMut::with_capacity(16 + self.client_id.map_or(0, str::len));
        self.encode_into(body_length, &mut out)?;
        Ok(out.freeze())
    }

    /// As [`encode`](Self::encode), at the end of `out`.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_into(&self, body_length: usize, out: &mut BytesMut) -> Result<(), ProtocolError> {
        let start = out.len();
        out.put_i32(0);
        out.put_i16(self.api.key());
        out.put_i16(self.version);
        out.put_i32(self.correlation_id);
        let fail = |kind: ProtocolErrorKind| kind.at(self.api.key(), self.version);
        // Not a compact string in flexible versions either, so that every broker can read it.
        primitives::put_nullable_string(out, self.client_id, false).map_err(fail)?;
        if self.api.request_header_version(self.version) >= 2 {
            out.put_u8(0);
        }
        put_frame_length(out, start, body_length).map_err(fail)
    }

    /// Splits a request's frame, without its length prefix, into its header and its body.
    ///
    /// The version is not checked: a broker answers an unknown version of `ApiVersions` instead of failing.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::UnknownApi`] and those of the primitives.
    pub fn decode(frame: &'a Bytes) -> Result<(Self, Bytes), ProtocolError> {
        let mut reader = Reader::new(frame);
        let (key, version, correlation_id) =
            fixed_part(&mut reader).map_err(|kind| ProtocolError { kind, ..unknown(-1, 0) })?;
        let api = Api::from_key(key).ok_or_else(|| unknown(key, version))?;
        let mut rest = || {
            let client_id = reader.nullable_string(false)?;
            if api.request_header_version(version) >= 2 {
                reader.skip_tagged_fields()?;
            }
            Ok((client_id, frame.slice_ref(reader.rest())))
        };
        let (client_id, body) = rest().map_err(|kind: ProtocolErrorKind| kind.at(key, version))?;
        Ok((Self { api, version, correlation_id, client_id }, body))
    }
}

/// The length prefix and the header of a response whose body has `body_length` bytes.
///
/// # Errors
/// [`ProtocolErrorKind::Unencodable`] for a frame of 2 GiB.
pub fn encode_response_header(
    api: Api,
    version: i16,
    correlation_id: i32,
    body_length: usize,
) -> Result<Bytes, ProtocolError> {
    let mut out = BytesMut::with_capacity(16);
    out.put_i32(0);
    out.put_i32(correlation_id);
    if api.response_header_version(version) >= 1 {
        out.put_u8(0);
    }
    put_frame_length(&mut out, 0, body_length).map_err(|kind| kind.at(api.key(), version))?;
    Ok(out.freeze())
}

/// Splits a response's frame, without its length prefix, into its correlation id and its body.
///
/// # Errors
/// Those of the primitives.
pub fn decode_response_header(api: Api, version: i16, frame: &Bytes) -> Result<(i32, Bytes), ProtocolError> {
    let mut reader = Reader::new(frame);
    let mut header = || {
        let correlation_id = reader.i32()?;
        if api.response_header_version(version) >= 1 {
            reader.skip_tagged_fields()?;
        }
        Ok((correlation_id, frame.slice_ref(reader.rest())))
    };
    header().map_err(|kind: ProtocolErrorKind| kind.at(api.key(), version))
}

fn fixed_part(reader: &mut Reader<'_>) -> primitives::Result<(i16, i16, i32)> {
    Ok((reader.i16()?, reader.i16()?, reader.i32()?))
}

fn unknown(key: i16, version: i16) -> ProtocolError {
    ProtocolErrorKind::UnknownApi.at(key, version)
}

fn put_frame_length(out: &mut BytesMut, start: usize, body_length: usize) -> primitives::Result<()> {
    let length = (out.len() - start - 4).saturating_add(body_length);
    let length = i32::try_from(length)
        .map_err(|_| ProtocolErrorKind::Unencodable("a frame of 2 GiB or more".into()))?;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::seeded;

    #[test]
    fn a_request_header_survives_a_round_trip_in_both_forms() {
        for (version, client_id) in [(0, None), (8, Some("billing")), (9, Some("größe")), (13, None)] {
            let header = RequestHeader { api: Api::Metadata, version, correlation_id: -7, client_id };
            let mut frame = BytesMut::from(&header.encode(3).unwrap()[..]);
            frame.extend_from_slice(b"abc");
            assert_eq!(frame[..4], (frame.len() as i32 - 4).to_be_bytes());
            let frame = frame.freeze().slice(4..);
            assert_eq!(RequestHeader::decode(&frame).unwrap(), (header, Bytes::from_static(b"abc")));
            for end in 0..frame.len() - 3 {
                assert!(RequestHeader::decode(&frame.slice(..end)).is_err(), "cut at {end}");
            }
        }
    }

    #[test]
    fn a_response_header_survives_a_round_trip_in_both_forms() {
        for (api, version, length) in [(Api::Metadata, 8, 4), (Api::Metadata, 9, 5), (Api::ApiVersions, 4, 4)]
        {
            let frame = encode_response_header(api, version, 77, 0).unwrap().slice(4..);
            assert_eq!(frame.len(), length, "{api} v{version}");
            assert_eq!(decode_response_header(api, version, &frame).unwrap(), (77, Bytes::new()));
            for end in 0..length {
                assert!(decode_response_header(api, version, &frame.slice(..end)).is_err());
            }
        }
    }

    #[test]
    fn an_unknown_api_or_version_is_told_apart() {
        let frame = Bytes::from_static(&[0x7f, 0xff, 0, 3, 0, 0, 0, 1, 0xff, 0xff]);
        assert_eq!(RequestHeader::decode(&frame).unwrap_err(), unknown(0x7fff, 3));
        let frame = Bytes::from_static(&[0, 18, 0, 99, 0, 0, 0, 1, 0xff, 0xff, 0]);
        let (header, _) = RequestHeader::decode(&frame).unwrap();
        assert_eq!((header.api, header.version), (Api::ApiVersions, 99));
    }

    #[test]
    fn mutated_headers_decode_or_fail_without_a_copy() {
        let mut random = seeded();
        for _ in 0..50_000 {
            let api = *random.choice(Api::ALL).unwrap();
            let version = random.i16(0..14);
            let header = RequestHeader { api, version, correlation_id: 1, client_id: Some("client") };
            let mut bytes = header.encode(0).unwrap()[4..].to_vec();
            bytes.truncate(random.usize(..=bytes.len() + 4));
            if let Some(byte) = random.choice(&mut bytes[..]) {
                *byte = random.u8(..);
            }
            let frame = Bytes::from(bytes);
            let (outcome, used) =
                counting_alloc::measure(|| RequestHeader::decode(&frame).map(|(_, body)| body.len()));
            assert!(outcome.unwrap_or(0) <= frame.len());
            // A shared handle to the frame.
            assert!(used.bytes < 100, "{used:?}");
            let (_, used) = counting_alloc::measure(|| decode_response_header(api, version, &frame).is_ok());
            assert!(used.bytes < 100, "{used:?}");
        }
    }
}
