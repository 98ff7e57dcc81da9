//! A valid proof, and the handles to make one thing of it wrong.

use std::rc::Rc;

use ring::rand::SystemRandom;

use super::*;

pub(super) const NOW_S: u64 = 1_700_000_000;
pub(super) const JTI: &str = "the-jti";
pub(super) const HTU: &str = "https://broker.example/tokenkeep.v1.TokenService/IssueToken";
pub(super) const ACCESS_TOKEN: &str = "the.access.token";

type Members = Vec<(String, String)>;

/// The parts of a proof as JSON texts, in order, names unchecked; and what the verifier expects.
#[derive(Clone)]
pub(super) struct Forge {
    pub(super) key: Rc<SigningKey>,
    pub(super) jwk: Members,
    pub(super) header: Members,
    pub(super) claims: Members,
    /// Replaces the payload.
    pub(super) payload: Option<Vec<u8>>,
    pub(super) signature: fn(Vec<u8>) -> Vec<u8>,
    /// Changes the finished text.
    pub(super) text: fn(String) -> String,
    /// Makes the header values of the text.
    pub(super) values: fn(String) -> Vec<Vec<u8>>,
    pub(super) access_token: Option<&'static str>,
    pub(super) bound_jkt: Option<Thumbprint>,
    pub(super) now_s: u64,
    pub(super) iat: IatRule,
}

impl Forge {
    pub(super) fn new() -> Self {
        Self::with_key(key(Alg::Es256))
    }

    pub(super) fn with_key(key: SigningKey) -> Self {
        let jwk = members(&key.public_key().to_json());
        let text = |text: &str| format!("\"{text}\"");
        let pair = |name: &str, value: String| (name.to_owned(), value);
        Self {
            jwk,
            header: vec![
                pair("typ", text(PROOF_TYP)),
                pair("alg", text(key.alg().name())),
                // Filled in from `jwk`.
                pair("jwk", String::new()),
            ],
            claims: vec![
                pair("jti", text(JTI)),
                pair("htm", text("POST")),
                pair("htu", text(HTU)),
                pair("iat", NOW_S.to_string()),
                pair("ath", text(&ath(ACCESS_TOKEN))),
                pair("nonce", text("the-nonce")),
            ],
            payload: None,
            signature: |signature| signature,
            text: |text| text,
            values: |text| vec![text.into_bytes()],
            access_token: Some(ACCESS_TOKEN),
            bound_jkt: Some(key.public_key().thumbprint()),
            now_s: NOW_S,
            iat: IatRule::WITHOUT_NONCE,
            key: Rc::new(key),
        }
    }

    /// Signs with another key than the header names, or names another than it signs with.
    pub(super) fn sign_with(&mut self, key: SigningKey) {
        self.key = Rc::new(key);
    }

    pub(super) fn head(&mut self, name: &str, json: &str) {
        set(&mut self.header, name, json);
    }

    pub(super) fn claim(&mut self, name: &str, json: &str) {
        set(&mut self.claims, name, json);
    }

    pub(super) fn jwk(&mut self, name: &str, json: &str) {
        set(&mut self.jwk, name, json);
    }

    /// Puts a member before all others, so that a lenient reader's last one wins.
    pub(super) fn claim_first(&mut self, name: &str, json: &str) {
        self.claims.insert(0, (name.to_owned(), json.to_owned()));
    }

    pub(super) fn head_first(&mut self, name: &str, json: &str) {
        self.header.insert(0, (name.to_owned(), json.to_owned()));
    }

    pub(super) fn without_head(&mut self, name: &str) {
        self.header.retain(|(known, _)| known != name);
    }

    pub(super) fn without_claim(&mut self, name: &str) {
        self.claims.retain(|(known, _)| known != name);
    }

    pub(super) fn htu(&mut self, htu: &str) {
        self.claim(
            "htu",
            &format!("\"{}\"", htu.replace('\\', "\\\\").replace('\t', "\\t")),
        );
    }

    /// The payload as it would be.
    pub(super) fn payload_text(&self) -> String {
        object(&self.claims)
    }

    pub(super) fn text(&self) -> String {
        let mut header = self.header.clone();
        for (name, value) in &mut header {
            if name == "jwk" && value.is_empty() {
                *value = object(&self.jwk);
            }
        }
        let payload = self
            .payload
            .clone()
            .unwrap_or_else(|| self.payload_text().into_bytes());
        let input = format!(
            "{}.{}",
            base64url::encode(object(&header).as_bytes()),
            base64url::encode(&payload)
        );
        let signature = self
            .key
            .sign(input.as_bytes(), &SystemRandom::new())
            .unwrap();
        let signature = (self.signature)(signature.as_ref().to_vec());
        (self.text)(format!("{input}.{}", base64url::encode(&signature)))
    }

    pub(super) fn check(&self) -> Result<VerifiedProof, DpopError> {
        let values = (self.values)(self.text());
        Proof::from_header_values(values.iter().map(Vec::as_slice))?.verify(&Expected {
            htm: "POST",
            htu: TargetUri::parse(HTU).unwrap(),
            access_token: self.access_token,
            bound_jkt: self.bound_jkt,
            now_s: self.now_s,
            iat: self.iat,
        })
    }
}

fn set(members: &mut Members, name: &str, json: &str) {
    match members.iter_mut().find(|(known, _)| known == name) {
        Some((_, value)) => json.clone_into(value),
        None => members.push((name.to_owned(), json.to_owned())),
    }
}

fn object(members: &Members) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// The string members of a flat object.
fn members(json: &str) -> Members {
    let object = crate::json::Object::parse(json.as_bytes(), 4096).unwrap();
    object
        .members()
        .map(|(name, value)| (name.to_owned(), format!("\"{}\"", value.as_str().unwrap())))
        .collect()
}

/// Another valid signature from a valid one: s becomes n - s.
pub(super) fn malleate(mut signature: Vec<u8>) -> Vec<u8> {
    let mut borrow = 0;
    for (s, n) in signature[32..].iter_mut().zip(ORDER).rev() {
        let difference = 256 + i32::from(n) - i32::from(*s) - borrow;
        borrow = i32::from(difference < 256);
        *s = u8::try_from(difference % 256).unwrap();
    }
    signature
}

/// The order n of P-256, big-endian.
pub(super) const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
