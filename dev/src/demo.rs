//! `demo`: the main job on loopback, step by step, each outcome checked.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use attestation::{Roots, RootsError};
use http::StatusCode;
use jose::dpop::{ProofParams, random_jti};
use jose::signing_key::SigningKeyError;
use proto::v1;
use proto::v1::freeze_subject::Subject;
use ring::rand::SystemRandom;
use testkit::fetch::{self, FetchError};
use testkit::provider::{ApiOutcome, Event, TokenDigest};
use tokenkeep::dpop_key::{DpopKeyError, SignerError};
use tokenkeep::gateway::CallError;
use tokenkeep::rpc_error::answer;
use tokenkeep::token_client::TokenError;
use tokenkeep::{
    AccessToken, AttestedChannel, AttestedConfig, Clock as _, ConnectError, DpopKey, GatewayClient,
    RpcError, Signer as _, SystemClock, TokenClient, TokenRequest, Verification,
};

use crate::call::get;
use crate::lab::LabError;
use crate::names::{CLIENT, GRANT, SCOPES, TENANT};
use crate::provider::TOKEN_MARKER;
use crate::registration::{self, RegistrationError};
use crate::screen::Screen;
use crate::stack::{Logs, Stack, StackError};
use crate::stop::StopSignals;
use crate::thief::{Answer, CarelessSigner, Thief, ThiefError};
use crate::up::temporary;

/// Digits of a digest that are shown.
const SHOWN_DIGITS: usize = 16;

/// Why the demo ended early.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A step had another outcome than it must have.
    #[error("{step}: expected {expected}, found {found}")]
    Wrong {
        /// Which.
        step: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it was.
        found: String,
    },
    /// Any of the others, with the place where the service's log is.
    #[error("the demo ended early (the service's log: {})", .log.display())]
    Ended {
        /// What went wrong.
        #[source]
        error: Box<Self>,
        /// The log, kept.
        log: PathBuf,
    },
    /// SIGTERM or SIGINT came.
    #[error("the demo was stopped")]
    Stopped,
    /// The signals cannot be heard.
    #[error("the signals to stop cannot be heard")]
    Signals(#[source] io::Error),
    /// No temporary directory.
    #[error("no temporary directory can be made")]
    Directory(#[source] io::Error),
    /// The stack.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// AMD's roots.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// Registration or deposit.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// A connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A token.
    #[error("no token: {0}")]
    Token(#[from] TokenError),
    /// A call.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The freeze.
    #[error("the freeze was not taken: {0}")]
    Freeze(RpcError),
    /// The thief's client.
    #[error(transparent)]
    Thief(#[from] ThiefError),
    /// The thief's key.
    #[error(transparent)]
    Key(#[from] DpopKeyError),
    /// A proof.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// Randomness for a proof.
    #[error(transparent)]
    Random(#[from] SigningKeyError),
    /// The API, called directly.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

fn wrong(step: &'static str, expected: &'static str, found: impl ToString) -> DemoError {
    DemoError::Wrong {
        step,
        expected,
        found: found.to_string(),
    }
}

/// Walks through the main job in a temporary directory. `next` is how `tokenkeep-dev` is called again.
///
/// # Errors
/// [`DemoError`] at the first outcome that is not what it must be.
pub async fn demo(colour: bool, next: &str) -> Result<(), DemoError> {
    let mut screen = Screen::new(colour);
    screen.say("Tokenkeep: a refresh token goes into an attested enclave, and only tokens that are useless to a");
    screen.say(
        "thief come out. All of this runs on your machine, on loopback; the enclave is emulated.",
    );
    let mut signals = StopSignals::listen().map_err(DemoError::Signals)?;
    let folder = temporary().map_err(DemoError::Directory)?;
    let walked = async {
        let stack = Box::pin(Stack::start(folder.path(), Logs::ToFile)).await?;
        Box::pin(walk(&stack, &mut screen)).await?;
        Ok(stack.stop().await?)
    };
    let walked = tokio::select! {
        walked = Box::pin(walked) => walked,
        () = signals.asked() => return Err(DemoError::Stopped),
    };
    match walked {
        Ok(()) => {}
        Err(error) => {
            let log = folder.keep().join(crate::lab::LOG);
            return Err(DemoError::Ended {
                error: Box::new(error),
                log,
            });
        }
    }
    screen.say(format_args!(
        "\nAll as it must be. Next: `{next} up` keeps this running and prints commands to try; README.md has the rest."
    ));
    Ok(())
}

async fn walk(stack: &Stack, screen: &mut Screen) -> Result<(), DemoError> {
    screen.step("Verify: is it the enclave that it claims to be?");
    let admin = Box::pin(verify(stack, screen)).await?;

    screen.step("Deposit: Acme's administrator seals a refresh token to the verified enclave.");
    Box::pin(deposit(stack, &admin, screen)).await?;

    screen.step("Token: the integration asks for an access token, with a key of its own.");
    let channel = stack.client().await?;
    let signer = Arc::new(CarelessSigner::new(stack.files().dpop_key()?));
    let tokens = Arc::new(TokenClient::new(&channel, signer.clone()));
    let resource = stack.resource();
    let request = TokenRequest::new(GRANT, &resource);
    let token = Box::pin(tokens.token(&request)).await?;
    screen.good(
        "issued",
        format_args!(
            "for {} s, for {resource} alone, bound to key {}",
            token.expires_in_s(),
            signer.jkt()
        ),
    );

    screen.step("Call: the integration uses it at the API, through the enclave's gateway.");
    let gateway = GatewayClient::new(&channel, tokens)?;
    let url = format!("{resource}/contacts");
    Box::pin(call(stack, &gateway, &token, &url, screen)).await?;

    screen.step(
        "Theft: someone has copied the integration's token and a whole request from its logs.",
    );
    Box::pin(theft(stack, &channel, &signer, &token, &url, screen)).await?;

    screen.step("Freeze: Acme stops the integration at once.");
    Box::pin(freeze(&admin, &channel, &gateway, signer, &url, screen)).await
}

async fn verify(stack: &Stack, screen: &Screen) -> Result<AttestedChannel, DemoError> {
    let files = stack.files();
    let url = &stack.urls().grpc;
    let ours = files.verification()?;
    let hardware = Verification::new(Roots::amd()?, ours.policy);
    let as_hardware = AttestedConfig::new(url, hardware);
    match Box::pin(AttestedChannel::connect(&as_hardware)).await {
        Err(ConnectError::NotAccepted(_)) => screen
            .refused("by AMD's roots, as anyone in production verifies: this is no AMD hardware"),
        Err(error) => return Err(error.into()),
        Ok(_) => return Err(wrong("verify by AMD's roots", "a refusal", "an acceptance")),
    }
    let admin = stack.admin().await?;
    stack.keep_ca(&admin)?;
    let appraised = admin.accepted().appraised();
    screen.good(
        "accepted",
        format_args!(
            "under the development root (--allow-emulated): tier {}, measurement {}…",
            appraised.tier(),
            shown(appraised.measurement())
        ),
    );
    let shares = stack.keyholder_shares()?;
    if shares != 1 {
        return Err(wrong("root key", "one share at the keyholder", shares));
    }
    screen.good(
        "opened",
        "its root key, by a keyholder that compared the same evidence with reference values of its own",
    );
    screen.good(
        "bound",
        format_args!(
            "to that evidence: its keys, its manifest, its TLS certificates (key bundle {}…)",
            shown(admin.inspection().bundle_digest())
        ),
    );
    Ok(admin)
}

async fn deposit(stack: &Stack, admin: &AttestedChannel, screen: &Screen) -> Result<(), DemoError> {
    let url = stack.provider().base_url();
    Box::pin(registration::register(admin, stack.files(), url)).await?;
    let grant = Box::pin(registration::deposit(admin, stack.provider())).await?;
    if grant.state() != v1::GrantState::Active || grant.frozen {
        return Err(wrong(
            "deposit",
            "an active grant",
            grant.state().as_str_name(),
        ));
    }
    screen.good(
        "done",
        format_args!(
            "grant {GRANT}: only {CLIENT} may use it, for {}; its vendor never saw the token",
            SCOPES.join(" and ")
        ),
    );
    Ok(())
}

async fn call(
    stack: &Stack,
    gateway: &GatewayClient,
    token: &AccessToken,
    url: &str,
    screen: &Screen,
) -> Result<(), DemoError> {
    let (status, received) = Box::pin(get(gateway, url)).await?;
    if status != StatusCode::OK || !received.contains("Ada Lovelace") {
        return Err(wrong(
            "call",
            "200 and Acme's contacts",
            format!("{status}: {received}"),
        ));
    }
    screen.good(
        "200",
        "the API answered with Acme's contacts, Ada Lovelace first",
    );
    let ledger = stack.provider().ledger();
    let bearer = ledger
        .entries
        .iter()
        .rev()
        .find_map(|entry| match &entry.event {
            Event::ApiCall {
                token,
                outcome: ApiOutcome::Accepted,
                ..
            } => *token,
            Event::ApiCall { .. }
            | Event::Consented { .. }
            | Event::Presented { .. }
            | Event::Revoked { .. }
            | Event::Faulted { .. } => None,
        });
    let bearer = bearer.ok_or_else(|| wrong("call", "a bearer at the API", "none"))?;
    let own = token.expose_secret();
    if bearer == TokenDigest::of(own)
        || received.contains(TOKEN_MARKER)
        || own.contains(TOKEN_MARKER)
    {
        return Err(wrong(
            "call",
            "a bearer that stays inside",
            "it reached the client",
        ));
    }
    screen.good(
        "inside",
        "the enclave put the provider's bearer token in; the integration never saw it",
    );
    Ok(())
}

pub(crate) async fn theft(
    stack: &Stack,
    channel: &AttestedChannel,
    signer: &CarelessSigner,
    token: &AccessToken,
    url: &str,
    screen: &Screen,
) -> Result<(), DemoError> {
    let thief = Thief::new(&channel.bundle().enclave_ca_der)?;
    let stolen = token.expose_secret();

    let alone = thief.get(url, stolen, None).await?;
    must_be(&alone, "the token alone", "INVALID_DPOP_PROOF", "missing")?;
    let api = format!("{}/api/contacts", stack.provider().base_url());
    let bearer = format!("Bearer {stolen}");
    let direct = fetch::get(&api, &[("authorization", &bearer)])
        .await?
        .status;
    if direct != StatusCode::UNAUTHORIZED {
        return Err(wrong("the token alone, at the API itself", "401", direct));
    }
    screen.refused(format_args!(
        "the token alone: {} ({}); at the API itself: {}",
        alone.status.as_u16(),
        alone.detail,
        direct.as_u16()
    ));

    let key = DpopKey::generate()?;
    let jti = random_jti(&SystemRandom::new())?;
    let proof = key.proof(&ProofParams {
        htm: "GET",
        htu: url,
        iat_s: SystemClock.unix_time_s(),
        jti: &jti,
        nonce: alone.nonce.as_deref(),
        access_token: Some(stolen),
    })?;
    let other_key = thief.get(url, stolen, Some(&proof)).await?;
    must_be(
        &other_key,
        "the token with another key",
        "INVALID_DPOP_PROOF",
        "by another key",
    )?;
    screen.refused(format_args!(
        "the token with another key: {} ({})",
        other_key.status.as_u16(),
        other_key.detail
    ));

    let proof = signer
        .newest_proof()
        .ok_or_else(|| wrong("the same proof twice", "a proof of the call", "none"))?;
    let replayed = thief.get(url, stolen, Some(&proof)).await?;
    must_be(
        &replayed,
        "the same proof twice",
        "INVALID_DPOP_PROOF",
        "used before",
    )?;
    screen.refused(format_args!(
        "the same proof twice: {} ({})",
        replayed.status.as_u16(),
        replayed.detail
    ));
    Ok(())
}

/// The gateway's refusal is a 401 with this reason, for this cause.
fn must_be(
    answer: &Answer,
    step: &'static str,
    reason: &'static str,
    cause: &str,
) -> Result<(), DemoError> {
    let Answer {
        status,
        reason: found,
        detail,
        nonce: _,
    } = answer;
    if *status == StatusCode::UNAUTHORIZED && found == reason && detail.contains(cause) {
        Ok(())
    } else {
        Err(wrong(step, reason, format!("{status} {found}: {detail}")))
    }
}

async fn freeze(
    admin: &AttestedChannel,
    channel: &AttestedChannel,
    gateway: &GatewayClient,
    signer: Arc<CarelessSigner>,
    url: &str,
    screen: &Screen,
) -> Result<(), DemoError> {
    let request = v1::FreezeRequest {
        subject: Some(v1::FreezeSubject {
            subject: Some(Subject::Client(CLIENT.to_owned())),
        }),
        reason: "its logs were stolen".to_owned(),
        tenant: TENANT.to_owned(),
    };
    answer(admin.grants().freeze(request))
        .await
        .map_err(DemoError::Freeze)?;
    screen.good(
        "frozen",
        format_args!("{CLIENT}; durable before the answer came"),
    );

    // The token at hand is still good by its dates.
    let (status, received) = Box::pin(get(gateway, url)).await?;
    if status != StatusCode::FORBIDDEN || !received.contains("\"FROZEN\"") {
        return Err(wrong(
            "a call after the freeze",
            "403 FROZEN",
            format!("{status}: {received}"),
        ));
    }
    screen.refused("a call with the token it still has: 403 (FROZEN)");

    let tokens = TokenClient::new(channel, signer);
    let resource = url.strip_suffix("/contacts").unwrap_or(url);
    match Box::pin(tokens.token(&TokenRequest::new(GRANT, resource))).await {
        Err(TokenError::Rpc(error)) if error.reason() == Some("FROZEN") => {
            screen.refused("a new token: FAILED_PRECONDITION (FROZEN)");
            Ok(())
        }
        Err(error) => Err(wrong("a token after the freeze", "FROZEN", error)),
        Ok(_) => Err(wrong("a token after the freeze", "FROZEN", "a token")),
    }
}

fn shown(digest: &[u8]) -> String {
    hex::encode(digest).chars().take(SHOWN_DIGITS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_for_another_cause_ends_the_demo() {
        let good = Answer {
            status: StatusCode::UNAUTHORIZED,
            reason: "INVALID_DPOP_PROOF".to_owned(),
            detail: "the DPoP proof was used before".to_owned(),
            nonce: None,
        };
        let judge = |answer: &Answer| must_be(answer, "step", "INVALID_DPOP_PROOF", "used before");
        judge(&good).unwrap();
        let rows = [
            (
                Answer {
                    status: StatusCode::OK,
                    ..good.clone()
                },
                "step: expected INVALID_DPOP_PROOF, found 200 OK INVALID_DPOP_PROOF: the DPoP proof was used before",
            ),
            (
                Answer {
                    reason: "USE_DPOP_NONCE".to_owned(),
                    ..good.clone()
                },
                "step: expected INVALID_DPOP_PROOF, found 401 Unauthorized USE_DPOP_NONCE: the DPoP proof was used before",
            ),
            (
                Answer {
                    detail: "expired".to_owned(),
                    ..good.clone()
                },
                "step: expected INVALID_DPOP_PROOF, found 401 Unauthorized INVALID_DPOP_PROOF: expired",
            ),
        ];
        for (answer, message) in rows {
            assert_eq!(judge(&answer).unwrap_err().to_string(), message);
        }
    }
}
