//! Keys in and out of their files.

use ring::rand::SystemRandom;

use super::*;

#[test]
fn a_generated_key_survives_its_file() {
    let rng = SystemRandom::new();
    for alg in [Alg::Es256, Alg::EdDsa] {
        let der = SigningKey::generate(alg, &rng).unwrap();
        let key = SigningKey::from_pkcs8(&der, &rng).unwrap();
        assert_eq!(key.alg(), alg);
        let pem = to_pkcs8_pem(&der);
        assert!(pem.lines().all(|line| line.len() <= 64));
        let again = SigningKey::from_pkcs8_pem(&pem, &rng).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        // Files come with other line ends, too.
        let again = SigningKey::from_pkcs8_pem(&pem.replace('\n', "\r\n"), &rng).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        let signature = key.sign(b"message", &rng).unwrap();
        assert!(key.public_key().accepts(b"message", signature.as_ref()));
        assert!(!key.public_key().accepts(b"massage", signature.as_ref()));
        let other =
            SigningKey::from_pkcs8(&SigningKey::generate(alg, &rng).unwrap(), &rng).unwrap();
        assert_ne!(other.public_key(), key.public_key());
    }
}

#[test]
fn the_size_bound_of_a_file_holds_exactly() {
    let rng = SystemRandom::new();
    let pem = to_pkcs8_pem(&SigningKey::generate(Alg::Es256, &rng).unwrap());
    assert!(pem.ends_with("-----END PRIVATE KEY-----\n"));
    let padded = |bytes: usize| format!("{}{}", *pem, "\n".repeat(bytes - pem.len()));
    assert!(SigningKey::from_pkcs8_pem(&padded(MAX_PEM_BYTES), &rng).is_ok());
    assert_eq!(
        SigningKey::from_pkcs8_pem(&padded(MAX_PEM_BYTES + 1), &rng).err(),
        Some(SigningKeyError::NotPem)
    );
}

/// The private key of RFC 8410 §10.3, which has no public half: other tools write it so.
#[test]
fn an_ed25519_file_without_public_half_is_read() {
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    let key = SigningKey::from_pkcs8_pem(pem, &SystemRandom::new()).unwrap();
    assert_eq!(key.alg(), Alg::EdDsa);
    // The public key of RFC 8410 §10.1.
    assert!(
        key.public_key()
            .to_json()
            .contains("Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE")
    );
}

#[test]
fn other_files_are_refused() {
    let rng = SystemRandom::new();
    let der = SigningKey::generate(Alg::Es256, &rng).unwrap();
    let pem = to_pkcs8_pem(&der);
    let block = pem.trim_end();
    let cases = [
        (String::new(), SigningKeyError::NotPem),
        (
            block.replace("PRIVATE KEY", "EC PRIVATE KEY"),
            SigningKeyError::NotPem,
        ),
        (
            block.replace("BEGIN PRIVATE", "BEGIN PUBLIC"),
            SigningKeyError::NotPem,
        ),
        (block[1..].to_owned(), SigningKeyError::NotPem),
        (block[..block.len() - 1].to_owned(), SigningKeyError::NotPem),
        (format!("{block}\n{block}"), SigningKeyError::NotPem),
        (
            block.replacen("-----\n", "-----\n*", 1),
            SigningKeyError::NotPem,
        ),
        (
            format!("{block}{}", " ".repeat(MAX_PEM_BYTES)),
            SigningKeyError::NotPem,
        ),
        (to_pkcs8_pem(&[]).to_string(), SigningKeyError::NotPkcs8),
        (
            to_pkcs8_pem(&der[1..]).to_string(),
            SigningKeyError::NotPkcs8,
        ),
        (
            to_pkcs8_pem(&der[..der.len() - 1]).to_string(),
            SigningKeyError::NotPkcs8,
        ),
    ];
    for (text, error) in cases {
        assert_eq!(
            SigningKey::from_pkcs8_pem(&text, &rng).map(drop),
            Err(error),
            "{text}"
        );
    }
    // A public half that is not the private one's.
    let mut mixed = der.to_vec();
    let last = mixed.len() - 1;
    mixed[last] ^= 1;
    assert_eq!(
        SigningKey::from_pkcs8(&mixed, &rng).map(drop),
        Err(SigningKeyError::NotPkcs8)
    );
}

#[test]
fn debug_shows_no_private_half() {
    let rng = SystemRandom::new();
    let key =
        SigningKey::from_pkcs8(&SigningKey::generate(Alg::Es256, &rng).unwrap(), &rng).unwrap();
    let thumbprint = key.public_key().thumbprint();
    assert_eq!(
        format!("{key:?}"),
        format!("SigningKey {{ public: Thumbprint({thumbprint}), .. }}")
    );
}
