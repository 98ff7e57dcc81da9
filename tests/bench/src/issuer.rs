//! What any issuer of bound tokens must do, and no more: one proof is verified and one token signed; nothing is
//! authorized, remembered or written down.

use std::hint::black_box;
use std::time::Duration;

use jose::dpop::{Expected, IatRule, Proof, ProofParams, random_jti};
use jose::jws::{self, HeaderMember};
use jose::target_uri::TargetUri;
use jose::{Alg, SigningKey};
use proto::v1::{IssueTokenRequest, IssueTokenResponse, TokenMode};
use ring::rand::SystemRandom;
use serde_json::{Value, json};

use crate::caller::Ask;
use crate::machine;

/// The moment of what is measured in process.
const NOW_S: u64 = 1_800_000_000;

/// Different proofs, so that no branch is learned by heart.
const PROOFS: usize = 200;

/// Calls between two looks at the clock.
const BATCH: u32 = 50;

/// The issuer.
pub(crate) struct Issuer {
    htu: String,
    key: SigningKey,
    rng: SystemRandom,
}

impl Issuer {
    /// With a key of its own.
    ///
    /// # Errors
    /// No randomness.
    pub(crate) fn new(origin: &str) -> anyhow::Result<Self> {
        let rng = SystemRandom::new();
        let pkcs8 = SigningKey::generate(Alg::Es256, &rng)?;
        Ok(Self {
            htu: format!("{origin}/tokenkeep.v1.TokenService/IssueToken"),
            key: SigningKey::from_pkcs8(&pkcs8, &rng)?,
            rng,
        })
    }

    /// Verifies a proof and mints a token that is bound to its key.
    ///
    /// # Errors
    /// The proof is not valid, or the token can't be signed.
    #[inline(never)]
    pub(crate) fn bound_to_key<'a>(
        &self,
        values: impl Iterator<Item = &'a [u8]>,
        message: &IssueTokenRequest,
        now_s: u64,
    ) -> anyhow::Result<IssueTokenResponse> {
        let proof = Proof::from_header_values(values)?;
        let expected = Expected {
            htm: "POST",
            htu: TargetUri::parse(&self.htu)?,
            access_token: None,
            bound_jkt: None,
            now_s,
            iat: IatRule::WITH_NONCE,
        };
        let proof = proof.verify(&expected)?;
        let cnf = json!({ "jkt": proof.jkt().to_string() });
        self.token(message, cnf, proof.iat_s(), "DPoP")
    }

    /// Mints a token that is bound to a certificate: the connection has proved the key.
    ///
    /// # Errors
    /// The token can't be signed.
    #[inline(never)]
    pub(crate) fn bound_to_certificate(
        &self,
        sha256: &str,
        message: &IssueTokenRequest,
        now_s: u64,
    ) -> anyhow::Result<IssueTokenResponse> {
        self.token(message, json!({ "x5t#S256": sha256 }), now_s, "Bearer")
    }

    fn token(
        &self,
        message: &IssueTokenRequest,
        cnf: Value,
        iat_s: u64,
        token_type: &str,
    ) -> anyhow::Result<IssueTokenResponse> {
        let claims = json!({
            "iss": "https://bare.test",
            "sub": "client",
            "aud": message.resource,
            "exp": iat_s.saturating_add(300),
            "iat": iat_s,
            "jti": "0123456789abcdef012345",
            "client_id": "client",
            "scope": "contacts.read contacts.write",
            "cnf": cnf,
            "grant": message.grant,
            "tier": "emulated",
        });
        let members = [HeaderMember::Typ("at+jwt"), HeaderMember::Kid("bare")];
        let claims = claims.to_string();
        let access_token = jws::sign(&members, claims.as_bytes(), &self.key, &self.rng)?;
        Ok(IssueTokenResponse {
            access_token,
            token_type: token_type.to_owned(),
            expires_in_s: 300,
            scopes: vec!["contacts.read".to_owned(), "contacts.write".to_owned()],
            resource: message.resource.clone(),
            mode: TokenMode::Minted.into(),
            receipt: None,
        })
    }
}

/// The issuer in this process, with requests to answer.
pub(crate) struct InProcess {
    issuer: Issuer,
    proofs: Vec<String>,
    message: IssueTokenRequest,
}

impl InProcess {
    /// With proofs made ahead.
    ///
    /// # Errors
    /// No randomness.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let issuer = Issuer::new("https://127.0.0.1:7443")?;
        let rng = SystemRandom::new();
        let key = SigningKey::from_pkcs8(&SigningKey::generate(Alg::Es256, &rng)?, &rng)?;
        let mut proofs = Vec::new();
        for _ in 0..PROOFS {
            let params = ProofParams {
                htm: "POST",
                htu: &issuer.htu,
                iat_s: NOW_S,
                jti: &random_jti(&rng)?,
                // As long as the service's are.
                nonce: Some("AQEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
                access_token: None,
            };
            proofs.push(params.sign(&key, &rng)?);
        }
        Ok(Self {
            issuer,
            proofs,
            message: IssueTokenRequest {
                grant: "acme-crm".to_owned(),
                resource: "https://127.0.0.1:7445/g/acme-crm/api".to_owned(),
                ..IssueTokenRequest::default()
            },
        })
    }

    /// Answers one request.
    ///
    /// # Errors
    /// It can't be answered.
    pub(crate) fn once(&self, ask: Ask, number: u32) -> anyhow::Result<()> {
        let message = black_box(&self.message);
        let issued = match ask {
            Ask::Dpop => {
                let turn = usize::try_from(number)?.checked_rem(self.proofs.len());
                let proof = turn.and_then(|turn| self.proofs.get(turn));
                let values = proof.into_iter().map(String::as_bytes);
                self.issuer.bound_to_key(values, message, NOW_S)
            }
            Ask::Certificate => {
                let sha256 = "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2";
                self.issuer.bound_to_certificate(sha256, message, NOW_S)
            }
            Ask::Empty => Ok(IssueTokenResponse::default()),
        };
        black_box(issued?);
        Ok(())
    }

    /// The CPU time of an answer in microseconds, over as many as fit into a time.
    ///
    /// # Errors
    /// A request can't be answered.
    pub(crate) fn cpu_us(&self, ask: Ask, time: Duration) -> anyhow::Result<f64> {
        let begun = machine::thread_cpu()?;
        let mut answers = 0_u32;
        loop {
            for _ in 0..BATCH {
                self.once(ask, answers)?;
                answers = answers.saturating_add(1);
            }
            let used = machine::thread_cpu()?.saturating_sub(begun);
            if used >= time {
                return Ok(used.as_secs_f64() * 1e6 / f64::from(answers));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_what_it_is_measured_for() {
        let bare = InProcess::new().unwrap();
        for number in 0..2 {
            bare.once(Ask::Dpop, number).unwrap();
            bare.once(Ask::Certificate, number).unwrap();
        }
        let proof = bare.proofs[0].replace('.', "x");
        let values = std::iter::once(proof.as_bytes());
        assert!(
            bare.issuer
                .bound_to_key(values, &bare.message, NOW_S)
                .is_err()
        );
        let values = std::iter::once(bare.proofs[0].as_bytes());
        let issued = bare
            .issuer
            .bound_to_key(values, &bare.message, NOW_S)
            .unwrap();
        assert_eq!(issued.token_type, "DPoP");
        assert_eq!(issued.access_token.split('.').count(), 3);
    }
}
