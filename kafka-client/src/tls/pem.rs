//! Reads certificates and private keys from PEM, and says what to give instead of what it cannot read.

use rustls_pki_types::pem::{PemObject as _, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::auth::Secret;

/// Every certificate in the text, in its order.
///
/// # Errors
/// The remedy: the text is no PEM, or has no certificate.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(format!("give PEM with at least one CERTIFICATE section; {}", looks_like(pem)))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("give whole PEM sections: {error}")),
    }
}

/// The first private key in the text: PKCS#8, PKCS#1 or SEC1; encrypted PKCS#8 with its password.
///
/// # Errors
/// The remedy: there is none, or it cannot be decrypted.
pub(crate) fn private_key(pem: &[u8], password: Option<&Secret>) -> Result<PrivateKeyDer<'static>, String> {
    if has_section(pem, b"ENCRYPTED PRIVATE KEY") {
        return decrypt(pem, password);
    }
    if contains(pem, b"Proc-Type: 4,ENCRYPTED") {
        return Err("this old way of encryption is not supported; convert the key once: \
                    openssl pkcs8 -topk8 -in KEY -out NEWKEY"
            .to_owned());
    }
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
        let (kind, der) = section.map_err(|error| format!("give whole PEM sections: {error}"))?;
        if let Some(key) = PrivateKeyDer::from_pem(kind, der) {
            return Ok(key);
        }
    }
    Err(format!(
        "give PEM with a PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY section; {}",
        looks_like(pem)
    ))
}

#[cfg(feature = "encrypted-keys")]
fn decrypt(pem: &[u8], password: Option<&Secret>) -> Result<PrivateKeyDer<'static>, String> {
    use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};

    let Some(password) = password else {
        return Err("the key is encrypted: give its password (ssl.key.password)".to_owned());
    };
    let text = std::str::from_utf8(pem).map_err(|_| "give PEM, which is text".to_owned())?;
    // The file may hold certificates too.
    let section = text.find(ENCRYPTED_BEGIN).map_or(text, |begin| &text[begin..]);
    let section = section.find(ENCRYPTED_END).map_or(section, |end| &section[..end + ENCRYPTED_END.len()]);
    let unreadable = "give encrypted PKCS#8 in PEM, as `openssl pkcs8 -topk8 -v2 aes-256-cbc` writes it";
    let (_, encrypted) = SecretDocument::from_pem(section).map_err(|_| unreadable.to_owned())?;
    let encrypted =
        EncryptedPrivateKeyInfoRef::try_from(encrypted.as_bytes()).map_err(|_| unreadable.to_owned())?;
    let key = encrypted.decrypt(password.expose()).map_err(|_| {
        "the password does not decrypt the key, or it is encrypted in another way than PBES2 with AES and SHA-2 or \
         scrypt: openssl pkcs8 -topk8 -v2 aes-256-cbc -in KEY -out NEWKEY"
            .to_owned()
    })?;
    Ok(PrivateKeyDer::Pkcs8(key.as_bytes().to_vec().into()))
}

#[cfg(feature = "encrypted-keys")]
const ENCRYPTED_BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
#[cfg(feature = "encrypted-keys")]
const ENCRYPTED_END: &str = "-----END ENCRYPTED PRIVATE KEY-----";

#[cfg(not(feature = "encrypted-keys"))]
fn decrypt(_pem: &[u8], _password: Option<&Secret>) -> Result<PrivateKeyDer<'static>, String> {
    Err("the key is encrypted: turn on kafka-client's feature `encrypted-keys`, or decrypt the key once: \
         openssl pkcs8 -in KEY -out NEWKEY"
        .to_owned())
}

/// What the bytes are, for those who gave something else than PEM.
fn looks_like(bytes: &[u8]) -> &'static str {
    match bytes {
        [] => "there is nothing in it",
        [0xfe, 0xed, 0xfe, 0xed, ..] => {
            "this is a JKS store: keytool -importkeystore -srckeystore STORE -destkeystore STORE.p12 -deststoretype \
             PKCS12, then openssl pkcs12 -in STORE.p12 -nodes -out STORE.pem"
        }
        [0x30, 0x80..=0x84, ..] => {
            "this is DER: a PKCS#12 store becomes PEM by openssl pkcs12 -in STORE -nodes -out STORE.pem, a \
             certificate by openssl x509 -inform der -in FILE -out FILE.pem"
        }
        _ => "there is none in it",
    }
}

fn has_section(pem: &[u8], label: &[u8]) -> bool {
    contains(pem, &[b"-----BEGIN ", label, b"-----"].concat())
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_pem_is_told_what_it_is_and_how_to_convert_it() {
        for (bytes, hint) in [
            (&[0xfe, 0xed, 0xfe, 0xed, 0, 0][..], "JKS"),
            (&[0x30, 0x82, 1, 2], "PKCS#12"),
            (b"", "nothing"),
            (b"hello", "none"),
        ] {
            let remedy = certificates(bytes).unwrap_err();
            assert!(remedy.contains(hint), "{remedy}");
            let remedy = private_key(bytes, None).unwrap_err();
            assert!(remedy.contains(hint), "{remedy}");
        }
        let cut = b"-----BEGIN CERTIFICATE-----\nMIIB";
        assert!(certificates(cut).unwrap_err().contains("whole"));
        assert!(private_key(cut, None).unwrap_err().contains("whole"));
    }

    #[test]
    fn a_key_in_the_old_encryption_is_refused_with_the_command_that_converts_it() {
        let pem =
            b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n\
                    -----END RSA PRIVATE KEY-----\n";
        assert!(private_key(pem, None).unwrap_err().contains("openssl pkcs8 -topk8"));
    }
}
