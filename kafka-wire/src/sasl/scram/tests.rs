//! The RFCs' vectors, and messages that are not what they should be.

use super::*;

/// Both sides of an exchange with the nonces, the salt and the count of a vector.
struct Vector {
    hash: ScramHash,
    client_first: &'static str,
    server_first: &'static str,
    client_final: &'static str,
    server_final: &'static str,
}

/// RFC 7677, section 3; its password is `pencil`.
const RFC_7677: Vector = Vector {
    hash: ScramHash::Sha256,
    client_first: "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
    server_first: "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    client_final: "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                   p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    server_final: "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
};

/// No RFC has one for SHA-512: computed by Python's hashlib and hmac.
const SHA_512: Vector = Vector {
    hash: ScramHash::Sha512,
    client_first: "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
    server_first: "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,\
                   s=Yin2FuHTt/M0kJWb0t9OI32n2VmOGi3m+JfjOvuDF88=,i=4096",
    client_final: "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=ZJwakXYZnOH0/MczEfuEE2annvfegaSPLpXVgj4\
                   INycvDRiSagh2sKHl7JCSS9IyVgIgeB/oHztaxVOqZollxg==",
    server_final: "v=fUpMOoDWCmoYJJo6MSzBJj/6YEvuH3UjAvDGUhtkHmKqogClvuVZnM7/aZoOVw1EWTqcnOvKz40xXTnMMxbq+Q==",
};

#[test]
fn the_vectors_come_out_on_the_clients_side() {
    for vector in [RFC_7677, SHA_512] {
        let nonce = vector.client_first.split_once("r=").unwrap().1;
        let client = ClientFirst::new("user", nonce, &[]).unwrap();
        assert_eq!(client.to_bytes(), vector.client_first.as_bytes());
        let server = ServerFirst::parse(vector.server_first.as_bytes(), &client).unwrap();
        let salted = salted_password(vector.hash, "pencil", &server.salt, server.iterations);
        let (proof, expected) = ClientFinal::prove(vector.hash, &salted, &client, &server);
        assert_eq!(String::from_utf8(proof.to_bytes()).unwrap(), vector.client_final);
        let last = ServerFinal::parse(vector.server_final.as_bytes()).unwrap();
        last.verify(&expected).unwrap();
    }
}

#[test]
fn the_vectors_come_out_on_the_servers_side() {
    for vector in [RFC_7677, SHA_512] {
        let client = ClientFirst::parse(vector.client_first.as_bytes()).unwrap();
        assert_eq!((client.user.as_str(), client.authorization_id.as_str()), ("user", ""));
        let read = ServerFirst::parse(vector.server_first.as_bytes(), &client).unwrap();
        let nonce = read.nonce.strip_prefix(&client.nonce).unwrap();
        let server = ServerFirst::new(&client, nonce, &read.salt, read.iterations).unwrap();
        assert_eq!(server, read);
        assert_eq!(server.to_bytes(), vector.server_first.as_bytes());
        let salted = salted_password(vector.hash, "pencil", &server.salt, server.iterations);
        let keys = ScramKeys::from_salted_password(vector.hash, &salted);
        let last = ClientFinal::parse(vector.client_final.as_bytes()).unwrap();
        let answer = last.verify(&keys, &client, &server).unwrap();
        assert_eq!(answer.to_bytes(), vector.server_final.as_bytes());

        let salted = salted_password(vector.hash, "crayon", &server.salt, server.iterations);
        let others = ScramKeys::from_salted_password(vector.hash, &salted);
        assert_eq!(last.verify(&others, &client, &server).unwrap_err(), SaslError::ClientProof);
        assert!(keys.same_as(&keys.clone()) && !keys.same_as(&others));
    }
}

/// RFC 5802, section 5: the messages are those of SHA-1, which Kafka does not have, but their forms are the same.
#[test]
fn the_messages_of_rfc_5802_are_read() {
    let client = ClientFirst::parse(b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL").unwrap();
    assert_eq!((client.user.as_str(), client.nonce.as_str()), ("user", "fyko+d2lbbFgONRv9qkxdawL"));
    let first = b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096";
    let server = ServerFirst::parse(first, &client).unwrap();
    assert_eq!((server.salt.len(), server.iterations), (12, 4096));
    let last = b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=";
    assert_eq!(ClientFinal::parse(last).unwrap().to_bytes(), last);
    assert!(ServerFinal::parse(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=").is_ok());
}

#[test]
fn stretching_a_password_gives_what_python_gives() {
    let expected = "c4a49510323ab4f952cac1fa99441939e78ea74d6be81ddf7096e87513dc615d";
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let salted = salted_password(ScramHash::Sha256, "pencil", &salt, 4096);
    assert_eq!(salted.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), expected);
}

#[test]
fn stretching_stops_when_nobody_wants_the_result() {
    let mut looks = 0;
    let salted = salted_password_while(ScramHash::Sha512, "pencil", b"salt", MAX_ITERATIONS, || {
        looks += 1;
        looks < 3
    });
    assert_eq!((salted, looks), (None, 3));
    let whole = salted_password_while(ScramHash::Sha512, "pencil", b"salt", 4096, || true);
    assert_eq!(whole, Some(salted_password(ScramHash::Sha512, "pencil", b"salt", 4096)));
}

#[test]
fn user_names_with_commas_and_equals_signs_come_through() {
    for user in ["a,b", "a=b", "=,=,", "=2C", "jürgen", " "] {
        let client = ClientFirst::new(user, "abc", &[("tokenauth", "true")]).unwrap();
        let read = ClientFirst::parse(&client.to_bytes()).unwrap();
        assert_eq!(read, client, "{user:?}");
    }
    assert_eq!(ClientFirst::new("a=,b", "r", &[]).unwrap().to_bytes(), b"n,,n=a=3D=2Cb,r=r");
    for user in ["a=", "a=2", "a=2c", "a=3d", "a=41"] {
        let message = format!("n,,n={user},r=abc");
        assert!(matches!(ClientFirst::parse(message.as_bytes()), Err(SaslError::Malformed(_))), "{user}");
    }
}

#[test]
fn first_messages_that_are_not_as_they_must_be_are_refused() {
    for message in [
        "",
        "n",
        "n,",
        "n,,",
        "n,,n=user",
        "n,,n=,r=a",
        "n,,r=a,n=user",
        "n,,m=x,n=user,r=a",
        "n,,n=user,r=",
        "n,,n=user,r=a b",
        "n,,n=user,r=a,",
        "n,,n=user,r=a,m=1",
        "n,,n=user,r=a,x1=1",
        "n,a,n=user,r=a",
        "n,a=,n=user,r=a",
        "x,,n=user,r=a",
        "p=tls-unique,,n=user,r=a",
        "n,,n=u\0,r=a",
    ] {
        assert!(
            matches!(ClientFirst::parse(message.as_bytes()), Err(SaslError::Malformed(_))),
            "{message:?}"
        );
    }
    let read = ClientFirst::parse(b"y,a=boss,n=user,r=a").unwrap();
    assert_eq!(read.authorization_id, "boss");
    for (user, nonce, extension) in
        [("", "a", ("a", "b")), ("u", "a,b", ("a", "b")), ("u", "a", ("a1", "b")), ("u", "a", ("a", "b,"))]
    {
        assert!(matches!(ClientFirst::new(user, nonce, &[extension]), Err(SaslError::Unsayable(_))));
    }
}

#[test]
fn a_server_whose_nonce_does_not_extend_the_clients_is_refused() {
    let client = ClientFirst::new("user", "abc", &[]).unwrap();
    for nonce in ["abc", "ab", "abX", "xabc1"] {
        let message = format!("r={nonce},s=c2FsdA==,i=4096");
        assert_eq!(ServerFirst::parse(message.as_bytes(), &client), Err(SaslError::Nonce), "{nonce}");
    }
}

#[test]
fn iterations_are_bounded_before_anything_is_computed() {
    let client = ClientFirst::new("user", "abc", &[]).unwrap();
    let parse = |count: &str| ServerFirst::parse(format!("r=abcd,s=c2FsdA==,i={count}").as_bytes(), &client);
    for (count, iterations) in [
        ("0", 0),
        ("4095", 4095),
        ("1000001", 1_000_001),
        ("2147483648", 1 << 31),
        ("99999999999999999999999", u64::MAX),
    ] {
        assert_eq!(parse(count), Err(SaslError::Iterations { iterations }), "{count}");
    }
    for count in ["4096", "1000000", "04096"] {
        assert!(parse(count).is_ok(), "{count}");
    }
    for count in ["", "-4096", "+4096", "4096.0", "4096 "] {
        assert!(matches!(parse(count), Err(SaslError::Malformed(_))), "{count}");
    }
    assert!(ServerFirst::new(&client, "d", b"salt", 4095).is_err());
}

#[test]
fn salts_are_bounded() {
    let client = ClientFirst::new("user", "abc", &[]).unwrap();
    let parse = |salt: &str| ServerFirst::parse(format!("r=abcd,s={salt},i=4096").as_bytes(), &client);
    assert!(parse(&STANDARD.encode(vec![7; MAX_SALT])).is_ok());
    for salt in
        [STANDARD.encode(vec![7; MAX_SALT + 1]), STANDARD.encode(vec![7; 40_000]), "".into(), "***".into()]
    {
        assert!(matches!(parse(&salt), Err(SaslError::Malformed(_))), "{}", salt.len());
    }
    assert!(ServerFirst::new(&client, "d", &[7; MAX_SALT + 1], 4096).is_err());
    let huge = vec![b'a'; MAX_MESSAGE + 1];
    assert!(matches!(ServerFirst::parse(&huge, &client), Err(SaslError::TooLong { .. })));
}

#[test]
fn a_wrong_or_missing_server_signature_is_refused() {
    let client = ClientFirst::new("user", "abc", &[]).unwrap();
    let server = ServerFirst::new(&client, "def", b"salt", 4096).unwrap();
    let salted = salted_password(ScramHash::Sha256, "pencil", b"salt", 4096);
    let (_, expected) = ClientFinal::prove(ScramHash::Sha256, &salted, &client, &server);
    let verify = |text: &str| ServerFinal::parse(text.as_bytes()).and_then(|last| last.verify(&expected));
    assert_eq!(verify("v="), Err(SaslError::ServerSignature));
    assert_eq!(verify(&format!("v={}", STANDARD.encode([0; 32]))), Err(SaslError::ServerSignature));
    assert_eq!(verify("e=invalid-proof"), Err(SaslError::ServerError("invalid-proof".into())));
    for text in ["", "x=1", "v=*", "v=AAAA,", "v=AAAA,m=1"] {
        assert!(matches!(verify(text), Err(SaslError::Malformed(_))), "{text:?}");
    }
}

#[test]
fn a_client_that_changes_its_header_or_nonce_half_way_is_refused() {
    let client = ClientFirst::new("user", "abc", &[]).unwrap();
    let server = ServerFirst::new(&client, "def", b"salt", 4096).unwrap();
    let salted = salted_password(ScramHash::Sha256, "pencil", b"salt", 4096);
    let keys = ScramKeys::from_salted_password(ScramHash::Sha256, &salted);
    let (proof, _) = ClientFinal::prove(ScramHash::Sha256, &salted, &client, &server);
    assert!(proof.verify(&keys, &client, &server).is_ok());
    let said = String::from_utf8(proof.to_bytes()).unwrap();
    let verify = |text: String| {
        ClientFinal::parse(text.as_bytes()).and_then(|proof| proof.verify(&keys, &client, &server)).map(drop)
    };
    assert_eq!(verify(said.replace("r=abcdef", "r=abcdeg")), Err(SaslError::Nonce));
    assert!(matches!(verify(said.replace("c=biws", "c=eSws")), Err(SaslError::Malformed(_))));
    assert_eq!(verify(said.replace(",p=", ",x=y,p=")), Err(SaslError::ClientProof));
    assert_eq!(verify("c=biws,r=abcdef,p=AAAA".into()), Err(SaslError::ClientProof));
    for text in ["", "c=biws,r=abcdef", "c=*,r=abcdef,p=AAAA", "c=biws,p=AAAA", "c=biws,r=abcdef,p=*"] {
        assert!(matches!(verify(text.into()), Err(SaslError::Malformed(_))), "{text:?}");
    }
}

#[test]
fn nothing_that_is_shown_holds_a_key_or_a_proof() {
    let client = ClientFirst::new("user", "abc", &[]).unwrap();
    let server = ServerFirst::new(&client, "def", b"salt", 4096).unwrap();
    let salted = salted_password(ScramHash::Sha256, "pencil", b"salt", 4096);
    let keys = ScramKeys::from_salted_password(ScramHash::Sha256, &salted);
    let (proof, signature) = ClientFinal::prove(ScramHash::Sha256, &salted, &client, &server);
    let shown = format!("{keys:?} {proof:?} {signature:?}");
    assert!(!shown.contains(['[', '+', '/']), "{shown}");
}
