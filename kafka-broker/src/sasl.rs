//! SaslHandshake and SaslAuthenticate where a listener has no SASL: a client that tries it is told so, and does not have to
//! guess from a closed connection.

use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse, StrBytes,
};

use crate::shared::RequestContext;

pub(crate) async fn handshake(_: &RequestContext, _: SaslHandshakeRequest) -> SaslHandshakeResponse {
    SaslHandshakeResponse::default().with_error_code(ErrorCode::ILLEGAL_SASL_STATE.0)
}

pub(crate) async fn authenticate(_: &RequestContext, _: SaslAuthenticateRequest) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse::default()
        .with_error_code(ErrorCode::ILLEGAL_SASL_STATE.0)
        .with_error_message(Some(StrBytes::from_static_str("this listener has no SASL")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire_test::{Wire, memory_cluster};

    #[tokio::test]
    async fn a_client_that_tries_sasl_is_told_and_can_go_on_without() {
        let cluster = memory_cluster(1, "t", 1, 1).await;
        let mut wire = Wire::to(&cluster, 1);
        let asked = SaslHandshakeRequest::default().with_mechanism("PLAIN".into());
        let answer = wire.call(1, asked).await;
        assert_eq!(ErrorCode(answer.error_code), ErrorCode::ILLEGAL_SASL_STATE);
        assert!(answer.mechanisms.is_empty(), "none is enabled");
        let answer = wire.call(2, SaslAuthenticateRequest::default()).await;
        assert_eq!(ErrorCode(answer.error_code), ErrorCode::ILLEGAL_SASL_STATE);
        assert!(answer.error_message.is_some() && answer.auth_bytes.is_empty());
    }
}
