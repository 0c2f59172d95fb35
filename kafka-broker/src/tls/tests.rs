//! Certificates and the names in them.

use super::*;

fn name_of(identity: &Identity) -> String {
    principal(&identity.chain().unwrap()[0]).unwrap().to_string()
}

#[test]
fn a_certificates_subject_is_written_as_java_writes_it() {
    let ca = TestCa::new();
    assert_eq!(name_of(&ca.client_certificate("alice")), "User:CN=alice");
    let spec = CertificateSpec::client("alice").unit("payments");
    assert_eq!(name_of(&ca.issue(&spec)), "User:CN=alice,OU=payments");
    let odd = ca.client_certificate(" a,b+c\"d\\e<f>g;h=i#j ä ");
    assert_eq!(name_of(&odd), "User:CN=\\ a\\,b\\+c\\\"d\\\\e\\<f\\>g\\;h\\=i\\#j ä\\ ");
}

#[test]
fn what_is_no_certificate_has_no_name_and_never_panics() {
    let der = TestCa::new().client_certificate("alice").chain().unwrap()[0].to_vec();
    for length in 0..der.len() {
        assert_eq!(principal(&der[..length]), None, "{length} bytes of it");
    }
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    eprintln!("SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..20_000 {
        let mut damaged = der.clone();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..damaged.len());
            damaged[at] = rng.u8(..);
        }
        let _ = principal(&damaged);
    }
}

#[test]
fn unknown_attributes_are_written_as_numbers() {
    // The subject of a certificate with an e-mail address, which RFC 2253 has no word for.
    let attribute = b"\x30\x0f\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01\x16\x02ab";
    let set = [&[0x31, attribute.len() as u8][..], attribute].concat();
    let names = [&[0x30, set.len() as u8][..], &set].concat();
    let inner = [&[0x02, 1, 1, 0x30, 0, 0x30, 0, 0x30, 0][..], &names].concat();
    let inner = [&[0x30, inner.len() as u8][..], &inner].concat();
    let whole = [&[0x30, inner.len() as u8][..], &inner].concat();
    assert_eq!(principal(&whole).unwrap().to_string(), "User:1.2.840.113549.1.9.1=#16026162");
}

#[test]
fn bad_certificates_and_keys_are_named() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let (one, two) = (ca.server_certificate(["a"]), ca.server_certificate(["b"]));
    let refused = |tls: ServerTls, auth| {
        tls.for_hosts(Vec::new()).and_then(|tls| tls.server_config(auth, "TLSv1.3").map(drop)).unwrap_err()
    };
    let mixed = Identity::from_pem(one.certificate_pem(), two.key_pem());
    assert!(refused(mixed.into(), ClientAuth::None).contains("certificate and key"));
    let empty = Identity::from_pem("", one.key_pem());
    assert_eq!(refused(empty.into(), ClientAuth::None), "there is no certificate in the PEM");
    let keyless = Identity::from_pem(one.certificate_pem(), one.certificate_pem());
    assert!(refused(keyless.into(), ClientAuth::None).contains("no private key"));
    let no_ca = refused(one.clone().into(), ClientAuth::Required);
    assert_eq!(no_ca, "give the authority that clients' certificates must come from");
    let with_ca = ServerTls::from(one).client_ca_pem(other.ca_pem());
    assert!(
        with_ca.for_hosts(Vec::new()).unwrap().server_config(ClientAuth::Required, "TLSv1.2,TLSv1.3").is_ok()
    );
}

#[test]
fn secrets_are_not_in_debug() {
    let ca = TestCa::new();
    let identity = ca.client_certificate("alice");
    let shown = format!("{identity:?} {ca:?} {:?}", ServerTls::from(identity.clone()));
    let secret = identity.key_pem().lines().nth(1).unwrap();
    assert!(!shown.contains(secret) && shown.contains("***"), "{shown}");
}

#[test]
fn files_for_other_languages_are_written() {
    let dir = std::env::temp_dir().join(format!("kafka-broker-{}", fastrand::u64(..)));
    let ca = TestCa::new();
    ca.write_pem(&dir).unwrap();
    ca.write_client_pem(&dir, "alice").unwrap();
    for (name, count) in [("ca.pem", 1), ("server.pem", 2), ("alice.pem", 2)] {
        let pem = std::fs::read_to_string(dir.join(name)).unwrap();
        assert_eq!(chain(&pem).unwrap().len(), count, "{name}");
    }
    for name in ["server.key", "alice.key"] {
        let pem = std::fs::read_to_string(dir.join(name)).unwrap();
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----"), "{name} is PKCS#8");
    }
    for bad in ["", "..", "a/b", "server"] {
        assert!(ca.write_client_pem(&dir, bad).is_err(), "{bad}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
