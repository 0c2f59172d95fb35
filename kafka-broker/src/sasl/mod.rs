//! SaslHandshake and SaslAuthenticate: clients authenticate where a listener has SASL, and are told where it has none, so
//! that they do not have to guess from a closed connection.

pub(crate) mod admin;
mod credentials;
mod exchange;
mod session;
#[cfg(test)]
mod tests;
mod tokens;

use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse, StrBytes,
};
use tokio::time::Instant;

pub(crate) use self::credentials::{Credentials, ScramCredential};
use self::exchange::Against;
use self::session::Terms;
pub(crate) use self::session::{Admission, Answer, Session};
pub use self::tokens::OauthKeys;
pub(crate) use self::tokens::TokenVerifier;
use crate::shared::{RequestContext, Shared};

pub(crate) async fn handshake(ctx: &RequestContext, request: SaslHandshakeRequest) -> SaslHandshakeResponse {
    let (code, enabled) = ctx.session.handshake(&request.mechanism, ctx.version, Instant::now());
    let mechanisms = enabled.iter().map(|mechanism| StrBytes::from_static_str(mechanism.name()));
    SaslHandshakeResponse::default().with_error_code(code.0).with_mechanisms(mechanisms.collect())
}

pub(crate) async fn authenticate(
    ctx: &RequestContext,
    request: SaslAuthenticateRequest,
) -> SaslAuthenticateResponse {
    let response = SaslAuthenticateResponse::default();
    match take_token(&ctx.shared, &ctx.session, &request.auth_bytes) {
        Answer::Bytes(bytes, lifetime_ms) => {
            let lifetime_ms = if ctx.version >= 1 { lifetime_ms } else { 0 };
            response
                .with_error_code(ErrorCode::NONE.0)
                .with_error_message(None)
                .with_auth_bytes(bytes.into())
                .with_session_lifetime_ms(lifetime_ms)
        }
        Answer::Refused(code, why) => {
            response.with_error_code(code.0).with_error_message(Some(StrBytes::from_string(why)))
        }
    }
}

/// What a client's token leads to, with a header or without.
pub(crate) fn take_token(shared: &Shared, session: &Session, token: &[u8]) -> Answer {
    let image = shared.image();
    let against = Against {
        credentials: &image.credentials,
        tokens: shared.tokens.as_ref(),
        wall_ms: shared.clock.wall_ms(),
    };
    session.token(token, &Terms { against, now: Instant::now() })
}
