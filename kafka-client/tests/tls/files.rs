//! Certificates and keys on disk and in memory: what can be read, what is refused, and what happens when it changes.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::front::{mutual, server};

/// A directory that is removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("kafka-client-tls-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn refusal(tls: Tls) -> Error {
    Client::builder("broker-1:9093").tls(tls).build().unwrap_err()
}

fn setting(error: &Error) -> (&str, &str) {
    match error.kind() {
        ErrorKind::Config { setting, remedy, .. } => (setting, remedy),
        other => panic!("not a configuration error: {other:?}"),
    }
}

#[test]
fn what_cannot_be_used_fails_the_build_with_its_setting_and_a_remedy() {
    let directory = Directory::new();
    let authority = Authority::new("ca");
    let me = authority.issue(&[]);
    let other = authority.issue(&[]);
    let trusting = || Tls::roots_pem(authority.pem.clone());
    let junk = directory.write("junk.pem", "hello");
    let missing = Path::new("/nonexistent/ca.pem");
    for (tls, name, hint) in [
        (Tls::roots_pem("hello"), "ssl.truststore.certificates", "CERTIFICATE"),
        (Tls::roots_pem_file(missing), "ssl.truststore.location", "exists"),
        (Tls::roots_pem_file(&directory.0), "ssl.truststore.location", "can be read"),
        (Tls::roots_pem_file(&junk), "ssl.truststore.location", "CERTIFICATE"),
        (trusting().identity_pem(&*me.key, &*me.key), "ssl.keystore.certificate.chain", "CERTIFICATE"),
        (trusting().identity_pem(&*me.chain, &*me.chain), "ssl.keystore.key", "PRIVATE KEY"),
        (trusting().identity_pem(&*me.chain, &*other.key), "ssl.keystore.key", "belongs"),
        (trusting().identity_pem_files(missing, &junk), "ssl.keystore.location", "exists"),
        (trusting().server_name("not a name"), "Tls::server_name", "host name"),
        (trusting().versions([]), "ssl.enabled.protocols", "TLSv1.3"),
        (
            Tls::platform_roots().dangerous_accept_any_server_name(),
            "Tls::dangerous_accept_any_server_name",
            "roots_pem",
        ),
    ] {
        let error = refusal(tls);
        let (told, remedy) = setting(&error);
        assert_eq!(told, name, "{error}");
        assert!(remedy.contains(hint), "{error}");
        assert!(!error.to_string().contains(me.key.lines().nth(1).unwrap()), "{error}");
    }
}

#[test]
fn what_is_shown_of_it_has_no_key_in_it() {
    let authority = Authority::new("ca");
    let me = authority.issue(&[]);
    let tls = Tls::roots_pem(authority.pem).identity_pem(&*me.chain, &*me.key).key_password("hunter2");
    let client = Client::builder("broker-1:9093").tls(tls);
    let shown = format!("{client:?}");
    assert!(shown.contains("bytes of PEM"), "{shown}");
    for secret in ["hunter2", me.key.lines().nth(1).unwrap(), "PRIVATE"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

/// Connects once more and says whether that worked.
async fn once_more(client: &Client) -> kafka_client::Result<()> {
    client.connection(1, kafka_client::raw::Lane::Produce, &client.owner()).await.map(|_| ())
}

#[tokio::test]
async fn an_authority_that_is_removed_from_the_file_is_not_trusted_any_more() {
    let cluster = cluster().await;
    let directory = Directory::new();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let listener = Listener::new(server(&old.issue(HOSTS)));
    let roots = directory.write("ca.pem", &old.pem);
    let client = connect(&cluster, listener.before(&cluster), Tls::roots_pem_file(roots)).await.unwrap();
    once_more(&client).await.unwrap();
    // A broken file changes nothing.
    for broken in ["", "hello", &old.pem[..200]] {
        directory.write("ca.pem", broken);
        once_more(&client).await.unwrap();
    }
    std::fs::remove_file(directory.0.join("ca.pem")).unwrap();
    once_more(&client).await.unwrap();
    directory.write("ca.pem", &new.pem);
    let error = once_more(&client).await.unwrap_err();
    assert_eq!(problem(&error), &TlsProblem::UnknownIssuer);
    directory.write("ca.pem", &format!("{}{}", new.pem, old.pem));
    connect(&cluster, listener.before(&cluster), Tls::roots_pem_file(directory.0.join("ca.pem")))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_from_the_next_connection_on() {
    let cluster = cluster().await;
    let directory = Directory::new();
    let (authority, elsewhere) = (Authority::new("ca"), Authority::new("elsewhere"));
    let listener = Listener::new(mutual(&authority.issue(HOSTS), &authority));
    let good = authority.issue(&[]);
    let bad = elsewhere.issue(&[]);
    let chain = directory.write("me.pem", &good.chain);
    let key = directory.write("me.key", &good.key);
    let tls = Tls::roots_pem(authority.pem.clone()).identity_pem_files(&chain, &key);
    let client = connect(&cluster, listener.before(&cluster), tls).await.unwrap();
    // Half of a renewal: the key is not the certificate's, so the old pair stays.
    let renewed = authority.issue(&[]);
    directory.write("me.pem", &renewed.chain);
    once_more(&client).await.unwrap();
    directory.write("me.key", &renewed.key);
    once_more(&client).await.unwrap();
    directory.write("me.pem", &bad.chain);
    directory.write("me.key", &bad.key);
    let error = once_more(&client).await.unwrap_err();
    assert!(matches!(problem(&error), TlsProblem::ClientCertificateRefused { .. }), "{error:?}");
}

const EC: &str = include_str!("keys/ec.pem");
const ENCRYPTED: &str = include_str!("keys/ec.encrypted.key");

#[test]
fn keys_are_read_in_every_form_that_openssl_writes() {
    let rsa = include_str!("keys/rsa.pem");
    for (chain, key) in [
        (EC, include_str!("keys/ec.pkcs8.key")),
        (EC, include_str!("keys/ec.sec1.key")),
        (rsa, include_str!("keys/rsa.pkcs1.key")),
    ] {
        let both_in_one = format!("{key}{chain}");
        for (chain, key) in [(chain, key), (&both_in_one, &both_in_one)] {
            let tls = Tls::roots_pem(EC).identity_pem(chain, key);
            Client::builder("broker-1:9093").tls(tls).build().unwrap();
        }
    }
    let old = Tls::roots_pem(EC).identity_pem(rsa, include_str!("keys/rsa.old-encryption.key"));
    assert!(setting(&refusal(old)).1.contains("openssl pkcs8 -topk8"));
}

#[cfg(feature = "encrypted-keys")]
#[test]
fn an_encrypted_key_needs_its_password() {
    let both_in_one = format!("{EC}{ENCRYPTED}{EC}");
    for key in [ENCRYPTED, &both_in_one] {
        let identity = || Tls::roots_pem(EC).identity_pem(EC, key);
        Client::builder("broker-1:9093").tls(identity().key_password("hunter2")).build().unwrap();
        for (tls, hint) in
            [(identity(), "ssl.key.password"), (identity().key_password("wrong"), "does not decrypt")]
        {
            let error = refusal(tls);
            let (told, remedy) = setting(&error);
            assert_eq!(told, "ssl.keystore.key");
            assert!(remedy.contains(hint), "{error}");
        }
    }
}

#[cfg(not(feature = "encrypted-keys"))]
#[test]
fn an_encrypted_key_needs_the_feature() {
    let tls = Tls::roots_pem(EC).identity_pem(EC, ENCRYPTED).key_password("hunter2");
    let error = refusal(tls);
    assert!(setting(&error).1.contains("`encrypted-keys`"), "{error}");
}
