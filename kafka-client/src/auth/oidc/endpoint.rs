//! Where tokens come from: the address of the token endpoint, and whether credentials may be sent to it.

use std::fmt;
use std::net::IpAddr;

use hyper::Uri;
use kafka_wire::address::NodeAddress;

/// The setting's name in Java.
pub(super) const SETTING: &str = "sasl.oauthbearer.token.endpoint.url";

#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) tls: bool,
    pub(super) address: NodeAddress,
    /// The path, and the query if there is one.
    pub(super) target: String,
    /// As in the `Host` header: without a port that is the scheme's own.
    pub(super) authority: String,
}

impl Endpoint {
    /// Reads a URL.
    ///
    /// # Errors
    /// What to give instead.
    pub(super) fn parse(url: &str, plaintext_allowed: bool) -> Result<Self, String> {
        const EXAMPLE: &str = "give a URL such as https://login.example/oauth2/token";
        let uri: Uri = url.parse().map_err(|error| format!("{EXAMPLE}: {error}"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(EXAMPLE.to_owned()),
        };
        let authority = uri.authority().ok_or(EXAMPLE)?;
        if authority.as_str().contains('@') {
            return Err("leave the user out of the URL: it is not sent".to_owned());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(EXAMPLE.to_owned());
        }
        if !tls && !plaintext_allowed && !is_loopback(host) {
            return Err("give https://, because credentials would be sent for everyone to read; or call \
                        dangerous_plaintext_http"
                .to_owned());
        }
        // `Authority::port` passes over what is none.
        let port = match authority.as_str().rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
            Some((_, port)) => port.parse().map_err(|_| format!("{EXAMPLE}: {port:?} is no port"))?,
            None if tls => 443,
            None => 80,
        };
        let target = uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        let address = NodeAddress { host: host.into(), port };
        Ok(Self { tls, address, target, authority: authority.to_string() })
    }
}

/// Without the query, in which somebody may have put a key.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split('?').next().unwrap_or_default();
        write!(f, "{}://{}{path}", if self.tls { "https" } else { "http" }, self.authority)
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Endpoint, String> {
        Endpoint::parse(url, false)
    }

    #[test]
    fn a_url_is_taken_apart() {
        let endpoint = parse("https://login.example/oauth2/token?key=1").unwrap();
        assert_eq!((endpoint.tls, endpoint.address.to_string()), (true, "login.example:443".into()));
        assert_eq!((&*endpoint.target, &*endpoint.authority), ("/oauth2/token?key=1", "login.example"));
        assert_eq!(endpoint.to_string(), "https://login.example/oauth2/token");
        let endpoint = parse("http://[::1]:8080").unwrap();
        assert_eq!((&*endpoint.address.host, endpoint.address.port), ("::1", 8080));
        assert_eq!((&*endpoint.target, &*endpoint.authority), ("/", "[::1]:8080"));
    }

    #[test]
    fn plaintext_is_for_this_machine_unless_it_is_asked_for() {
        for url in ["http://localhost/t", "http://LOCALHOST:1/t", "http://127.0.0.9/t", "http://[::1]/t"] {
            assert!(parse(url).is_ok(), "{url}");
        }
        for url in ["http://login.example/t", "http://10.0.0.1/t", "http://localhost.example/t"] {
            assert!(parse(url).unwrap_err().contains("dangerous_plaintext_http"), "{url}");
            assert!(Endpoint::parse(url, true).is_ok(), "{url}");
        }
    }

    #[test]
    fn what_is_no_url_for_tokens_is_refused() {
        for url in [
            "",
            "login.example",
            "/token",
            "ftp://a/b",
            "https://",
            "https://a:99999/",
            "https://a:/",
            "file:///etc/token",
        ] {
            assert!(parse(url).unwrap_err().contains("https://login.example"), "{url}");
        }
        assert!(parse("https://me:secret@a/").unwrap_err().contains("leave the user out"));
    }
}
