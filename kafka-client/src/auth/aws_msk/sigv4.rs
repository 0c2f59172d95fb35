//! AWS Signature Version 4 in the query of a URL ("presigning"), of a `GET /` with no body and no header but `host`.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::AwsCredentials;
use crate::auth::percent;

pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
pub(super) const SIGNED_HEADERS: &str = "host";
/// Of no bytes at all.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What is to be signed.
pub(super) struct Presign<'a> {
    pub(super) host: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    /// How long the signature is valid, in seconds.
    pub(super) expires: u64,
    /// The query's own parameters.
    pub(super) query: &'a [(&'a str, &'a str)],
}

/// What makes a signature verifiable, besides what was signed.
pub(super) struct Presigned {
    pub(super) credential: String,
    pub(super) date: String,
    pub(super) signature: String,
    /// The query with everything but the signature, in canonical order and encoding. It has the session token in it.
    pub(super) query: Zeroizing<String>,
}

impl Presign<'_> {
    pub(super) fn sign(&self, credentials: &AwsCredentials, now: SystemTime) -> Presigned {
        let date = timestamp(now);
        let day = &date[..8];
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let credential = format!("{}/{scope}", credentials.access_key_id());
        let query = self.canonical_query(credentials, &credential, &date);
        let request = Zeroizing::new(format!(
            "GET\n/\n{}\nhost:{}\n\n{SIGNED_HEADERS}\n{EMPTY_SHA256}",
            *query, self.host
        ));
        let to_sign = format!("{ALGORITHM}\n{date}\n{scope}\n{}", hex(&Sha256::digest(request.as_bytes())));
        let secret = Zeroizing::new(format!("AWS4{}", credentials.secret_access_key().expose()));
        let key = [day, self.region, self.service, "aws4_request"]
            .iter()
            .fold(Zeroizing::new(secret.as_bytes().to_vec()), |key, part| {
                Zeroizing::new(hmac(&key, part.as_bytes()).to_vec())
            });
        Presigned { credential, signature: hex(&hmac(&key, to_sign.as_bytes())), date, query }
    }

    fn canonical_query(
        &self,
        credentials: &AwsCredentials,
        credential: &str,
        date: &str,
    ) -> Zeroizing<String> {
        let expires = self.expires.to_string();
        let mut pairs: Vec<(&str, &str)> = self.query.to_vec();
        pairs.extend([
            ("X-Amz-Algorithm", ALGORITHM),
            ("X-Amz-Credential", credential),
            ("X-Amz-Date", date),
            ("X-Amz-Expires", &expires),
            ("X-Amz-SignedHeaders", SIGNED_HEADERS),
        ]);
        pairs.extend(credentials.session_token().map(|token| ("X-Amz-Security-Token", token.expose())));
        // By the encoded name, as AWS sorts.
        pairs.sort_by_cached_key(|(name, _)| {
            let mut encoded = String::new();
            percent::encode_into(&mut encoded, name);
            encoded
        });
        // Room for all at once, so that growing leaves no copy of the token behind.
        let room = pairs.iter().map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum();
        let mut query = Zeroizing::new(String::with_capacity(room));
        for (name, value) in pairs {
            percent::pair_into(&mut query, name, value);
        }
        query
    }
}

#[expect(clippy::expect_used, reason = "HMAC is defined for keys of every length")]
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes every key");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

/// `20150830T123600Z`. A time before 1970 is given as 1970.
fn timestamp(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Year, month and day of a number of days since 1970, in eras of 400 years that begin on the first of March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// 2015-08-30T12:36:00Z, the time of AWS's test suite.
    fn suite_time() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_440_938_160)
    }

    fn suite_credentials() -> AwsCredentials {
        AwsCredentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    }

    fn suite(query: &[(&str, &str)]) -> Presigned {
        suite_with(query, &suite_credentials())
    }

    fn suite_with(query: &[(&str, &str)], credentials: &AwsCredentials) -> Presigned {
        let (host, region, service) = ("example.amazonaws.com", "us-east-1", "service");
        Presign { host, region, service, expires: 3600, query }.sign(credentials, suite_time())
    }

    /// The query-signature.txt of aws-c-auth's aws-signing-test-suite/v4, by the names of its directories.
    #[test]
    fn signatures_are_those_of_the_published_suite() {
        const UNRESERVED: &str = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        /// The test's name, the query's parameters, the signature.
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
        let cases: [Case<'_>; 6] = [
            ("get-vanilla", &[], "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d"),
            (
                "get-vanilla-query-order-key-case",
                &[("Param2", "value2"), ("Param1", "value1")],
                "86012e2c9ad4d77369f5d81c11f75158aae4f895a085212cc6d3f923d300bed5",
            ),
            (
                "get-vanilla-query-order-encoded",
                &[("Param-3", "Value3"), ("Param", "Value2"), ("\u{1234}", "Value1")],
                "c5f1848ceec943ac2ca68ee720460c23aaae30a2300586597ada94c4a65e4787",
            ),
            (
                "get-vanilla-query-unreserved",
                &[(UNRESERVED, UNRESERVED)],
                "8e76a88a7433637b12778d5592799b29ad21ecd6cf6325051c21d86f0acda2bf",
            ),
            (
                "get-vanilla-empty-query-key",
                &[("Param1", "value1")],
                "49096700cbbaa5753443850f40df10f904fc2fdb544dc9512203cc77c471a9de",
            ),
            (
                "get-vanilla-utf8-query",
                &[("\u{1234}", "bar")],
                "0bdd809b1519ac4f0c1dc3540e2cc46bd0c7f778eda408b2ebf3b913d21ff600",
            ),
        ];
        for (name, query, signature) in cases {
            assert_eq!(suite(query).signature, signature, "{name}");
        }
    }

    #[test]
    fn a_session_token_is_signed_with_the_rest() {
        let token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
        let signed = suite_with(&[], &suite_credentials().with_session_token(token));
        assert_eq!(signed.signature, "7ff2b50b376cb4d151970630573d6291dc128cc5c2a12ffb237f73cc53f67b6c");
        assert!(signed.query.contains(&format!("&X-Amz-Security-Token={token}&X-Amz-SignedHeaders=host")));
    }

    #[test]
    fn the_canonical_query_is_that_of_the_published_suite() {
        let signed = suite(&[("\u{1234}", "bar")]);
        assert_eq!(
            *signed.query,
            "%E1%88%B4=bar&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1\
             %2Fservice%2Faws4_request&X-Amz-Date=20150830T123600Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host"
        );
        assert_eq!(signed.credential, "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |seconds| timestamp(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "19700101T000000Z");
        assert_eq!(at(951_782_399), "20000228T235959Z");
        assert_eq!(at(951_782_400), "20000229T000000Z");
        assert_eq!(at(1_709_164_800), "20240229T000000Z");
        assert_eq!(at(1_709_251_200), "20240301T000000Z");
        assert_eq!(at(4_107_542_400), "21000301T000000Z");
        assert_eq!(timestamp(UNIX_EPOCH - Duration::from_secs(1)), "19700101T000000Z");
    }
}
