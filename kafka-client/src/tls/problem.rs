//! Says what is wrong between the two sides of a TLS connection, with the host, the reason and the dates.

use std::fmt;
use std::io;
use std::time::{Duration, SystemTime};

use kafka_wire::address::NodeAddress;
use kafka_wire::error::{ProtocolError, ProtocolErrorKind};
use rustls::{AlertDescription, CertificateError};
use rustls_pki_types::{ServerName, UnixTime};

use crate::error::{Error, ErrorKind};

/// Why a connection could not be made secure.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsProblem {
    /// A certificate of the broker's has expired: renew it, or look at this machine's clock.
    Expired {
        /// Since when, where the operating system's verifier tells.
        not_after: Option<SystemTime>,
        /// This machine's time when it was checked.
        now: SystemTime,
    },
    /// A certificate of the broker's is not valid yet: look at both machines' clocks.
    NotYetValid {
        /// From when on, where the operating system's verifier tells.
        not_before: Option<SystemTime>,
        /// This machine's time when it was checked.
        now: SystemTime,
    },
    /// Nobody whom this client trusts has issued the broker's certificate: give the authority's certificate as a root,
    /// or have the broker send the intermediate ones.
    UnknownIssuer,
    /// The broker's certificate is for other names: dial one of those, or set [`Tls::server_name`](super::Tls::server_name).
    WrongName {
        /// The name, or IP address, that it was checked for.
        expected: String,
        /// The names in the certificate.
        presented: Vec<String>,
    },
    /// The broker's certificate was revoked.
    Revoked,
    /// Something else about the broker's certificate.
    BadCertificate {
        /// What.
        reason: String,
    },
    /// The broker demands a certificate of this client, which has none: give it an identity.
    ClientCertificateRequired,
    /// The broker does not accept this client's certificate.
    ClientCertificateRefused {
        /// What it said, in the words of TLS.
        alert: String,
    },
    /// The peer answered something else than TLS: its port is one for plaintext.
    PeerIsPlaintext,
    /// The peer answered nothing and closed the connection, as Kafka does to TLS on a port for plaintext; a proxy in
    /// front of a broker that is down does the same, so it is tried again.
    ClosedInHandshake,
    /// The peer answered plaintext with TLS: its port is one for TLS, and the client was not told to use it.
    PeerSpeaksTls,
    /// The two sides have no version of TLS, or no cipher, in common.
    Incompatible {
        /// What.
        reason: String,
    },
    /// Whatever else.
    Other {
        /// What.
        reason: String,
    },
}

impl TlsProblem {
    /// Whether the same may work a moment later with nobody changing a certificate or a setting.
    pub(crate) fn is_retriable(&self) -> bool {
        matches!(self, Self::ClosedInHandshake)
    }

    /// What to do about it, where that can be said.
    fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::UnknownIssuer => {
                "give the certificate of its authority to Tls::roots_pem (ssl.truststore…)"
            }
            Self::WrongName { .. } => "dial one of those names, or set Tls::server_name",
            Self::ClientCertificateRequired => "give one by Tls::identity_pem (ssl.keystore…)",
            Self::PeerIsPlaintext | Self::ClosedInHandshake => {
                "is the port one for plaintext (security.protocol PLAINTEXT or SASL_PLAINTEXT)?"
            }
            Self::PeerSpeaksTls => "give ClientBuilder::tls (security.protocol SSL or SASL_SSL)",
            _ => return None,
        })
    }
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { not_after: Some(at), now } => {
                write!(f, "its certificate expired at {}, and now it is {}", Utc(*at), Utc(*now))
            }
            Self::Expired { not_after: None, now } => {
                write!(f, "its certificate has expired, now that it is {}", Utc(*now))
            }
            Self::NotYetValid { not_before: Some(at), now } => {
                write!(f, "its certificate is valid from {} on, and now it is {}", Utc(*at), Utc(*now))
            }
            Self::NotYetValid { not_before: None, now } => {
                write!(f, "its certificate is not valid yet, now that it is {}", Utc(*now))
            }
            Self::UnknownIssuer => f.write_str("its certificate is from nobody whom this client trusts"),
            Self::WrongName { expected, presented } if presented.is_empty() => {
                write!(f, "its certificate has no names, and not {expected}")
            }
            Self::WrongName { expected, presented } => {
                write!(f, "its certificate is for {}, not for {expected}", presented.join(", "))
            }
            Self::Revoked => f.write_str("its certificate was revoked"),
            Self::BadCertificate { reason } => write!(f, "its certificate cannot be accepted: {reason}"),
            Self::ClientCertificateRequired => f.write_str("it demands a certificate of this client"),
            Self::ClientCertificateRefused { alert } => {
                write!(f, "it refuses this client's certificate: {alert}")
            }
            Self::PeerIsPlaintext => f.write_str("it does not speak TLS"),
            Self::ClosedInHandshake => f.write_str("it closed the connection at the first words of TLS"),
            Self::PeerSpeaksTls => f.write_str("it speaks TLS, and this client does not"),
            Self::Incompatible { reason } => write!(f, "the two sides have no TLS in common: {reason}"),
            Self::Other { reason } => f.write_str(reason),
        }?;
        self.remedy().map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

pub(super) fn error(address: &NodeAddress, problem: TlsProblem, source: Option<io::Error>) -> Error {
    ErrorKind::Tls { address: address.clone(), problem, source }.into()
}

/// Why a handshake failed in which the peer began with the bytes `first`, and we had a certificate to show or had not.
pub(super) fn handshake_error(
    address: &NodeAddress,
    name: &ServerName<'_>,
    failure: io::Error,
    first: &[u8],
    has_identity: bool,
) -> Error {
    let Some(cause) = rustls_error(&failure) else {
        return match failure.kind() {
            // Kafka has read four bytes, finds no length in them and closes; what it has not read makes it a reset.
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
                if first.is_empty() =>
            {
                error(address, TlsProblem::ClosedInHandshake, Some(failure))
            }
            // Cut short by the network: as any lost connection.
            _ => Error::disconnected(address.clone(), format!("in the TLS handshake: {failure}")),
        };
    };
    // Alerts, handshake messages and what else may begin a record; then the version.
    let is_tls = matches!(first, [0x14..=0x17, 0x03, ..]);
    let problem = match cause {
        rustls::Error::InvalidCertificate(cause) => of_certificate(cause, name),
        rustls::Error::AlertReceived(alert) => of_alert(*alert, has_identity),
        _ if !is_tls => TlsProblem::PeerIsPlaintext,
        rustls::Error::PeerIncompatible(_) => TlsProblem::Incompatible { reason: cause.to_string() },
        _ => TlsProblem::Other { reason: format!("the TLS handshake failed: {cause}") },
    };
    error(address, problem, Some(failure))
}

/// Why a stream failed on which the broker has not said anything yet. In TLS 1.3 our side of the handshake ends before
/// the broker looks at our certificate, so it is only then that it refuses it.
pub(crate) fn stream_error(address: &NodeAddress, failure: io::Error) -> Error {
    match rustls_error(&failure) {
        Some(rustls::Error::AlertReceived(alert)) => error(address, of_alert(*alert, true), Some(failure)),
        _ => Error::disconnected(address.clone(), failure.to_string()),
    }
}

/// What is wrong with the first bytes of a peer, which may be those of a TLS alert.
pub(crate) fn protocol_error(address: &NodeAddress, source: ProtocolError) -> Error {
    match source.kind {
        ProtocolErrorKind::PeerSpeaksTls => error(address, TlsProblem::PeerSpeaksTls, None),
        _ => ErrorKind::Protocol { address: address.clone(), source }.into(),
    }
}

fn rustls_error(failure: &io::Error) -> Option<&rustls::Error> {
    failure.get_ref()?.downcast_ref()
}

fn of_certificate(cause: &CertificateError, name: &ServerName<'_>) -> TlsProblem {
    let now = SystemTime::now();
    match cause {
        CertificateError::Expired => TlsProblem::Expired { not_after: None, now },
        CertificateError::ExpiredContext { time, not_after } => {
            TlsProblem::Expired { not_after: Some(system_time(*not_after)), now: system_time(*time) }
        }
        CertificateError::NotValidYet => TlsProblem::NotYetValid { not_before: None, now },
        CertificateError::NotValidYetContext { time, not_before } => {
            TlsProblem::NotYetValid { not_before: Some(system_time(*not_before)), now: system_time(*time) }
        }
        CertificateError::UnknownIssuer => TlsProblem::UnknownIssuer,
        CertificateError::NotValidForName => {
            TlsProblem::WrongName { expected: name.to_str().into_owned(), presented: Vec::new() }
        }
        CertificateError::NotValidForNameContext { expected, presented } => TlsProblem::WrongName {
            expected: expected.to_str().into_owned(),
            presented: presented.iter().map(|name| plain(name)).collect(),
        },
        CertificateError::Revoked => TlsProblem::Revoked,
        other => TlsProblem::BadCertificate { reason: other.to_string() },
    }
}

/// A presented name without the type that rustls puts around it.
fn plain(name: &str) -> String {
    let inner = name.strip_suffix(')').and_then(|name| name.split_once('(')).map_or(name, |(_, inner)| inner);
    inner.trim_matches('"').to_owned()
}

fn of_alert(alert: AlertDescription, has_identity: bool) -> TlsProblem {
    use AlertDescription as Alert;
    let words = format!("{alert:?}");
    match alert {
        Alert::CertificateRequired => TlsProblem::ClientCertificateRequired,
        // TLS 1.2 has no word for it; Java says this one.
        Alert::BadCertificate | Alert::NoCertificate if !has_identity => {
            TlsProblem::ClientCertificateRequired
        }
        Alert::HandshakeFailure if !has_identity => TlsProblem::Incompatible {
            reason: format!(
                "it ended the handshake with {words}; does it demand a certificate of this client?"
            ),
        },
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied
        | Alert::NoCertificate => TlsProblem::ClientCertificateRefused { alert: words },
        Alert::ProtocolVersion | Alert::InsufficientSecurity | Alert::HandshakeFailure => {
            TlsProblem::Incompatible { reason: format!("it ended the handshake with {words}") }
        }
        _ => TlsProblem::Other { reason: format!("it ended the TLS handshake with {words}") },
    }
}

fn system_time(time: UnixTime) -> SystemTime {
    let since = Duration::from_secs(time.as_secs());
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// `2026-01-31 12:00:00 UTC`.
struct Utc(SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        // Years begin in March, so that the leap day is a year's last; 400 of them have 146,097 days.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(seconds: u64) -> String {
        Utc(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_399), "2000-02-28 23:59:59 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_709_251_199), "2024-02-29 23:59:59 UTC");
        assert_eq!(utc(4_102_444_800), "2100-01-01 00:00:00 UTC");
        assert_eq!(utc(4_107_542_400), "2100-03-01 00:00:00 UTC");
    }

    #[test]
    fn an_alert_about_our_certificate_is_told_apart_from_others() {
        assert_eq!(
            of_alert(AlertDescription::CertificateRequired, true),
            TlsProblem::ClientCertificateRequired
        );
        let TlsProblem::ClientCertificateRefused { alert } = of_alert(AlertDescription::UnknownCA, true)
        else {
            panic!("not about the certificate")
        };
        assert_eq!(alert, "UnknownCA");
        let in_java = of_alert(AlertDescription::BadCertificate, false);
        assert_eq!(in_java, TlsProblem::ClientCertificateRequired);
        let incompatible = of_alert(AlertDescription::ProtocolVersion, true);
        assert!(matches!(incompatible, TlsProblem::Incompatible { .. }), "{incompatible:?}");
    }
}
