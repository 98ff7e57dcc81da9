//! Reading a provider's answer at the token endpoint [RFC 6749 §5].

use std::sync::{Arc, OnceLock};

use base64ct::{Base64UrlUnpadded, Encoding};
use ring::digest::{SHA256, digest};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::{Adoption, BoundTo, RefreshError, UpstreamAccess, salvage};
use crate::connect::ConnectError;
use crate::profile::Profile;
use crate::scope::Scopes;
use crate::seal::length_prefixed;
use crate::secret::{RawResponse, RefreshToken, UpstreamAccessToken};
use crate::time::Now;

/// The longest access or refresh token in bytes.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// How long an access token without `expires_in` is used, in seconds.
const DEFAULT_LIFETIME_S: u64 = 300;

/// The longest time that an access token is used, in seconds.
const MAX_LIFETIME_S: u64 = 24 * 3_600;

/// So long before its end an access token is not used any more: a request with it
/// has to arrive. A tenth of a short life at most.
const MARGIN_MS: u64 = 5_000;

/// The default for `Retry-After` in seconds.
const DEFAULT_RETRY_AFTER_S: u64 = 5;

/// What an answer other than 200 says about the refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// `invalid_grant`: the token that was sent is not accepted.
    InvalidGrant,
    /// Refused before the token was looked at, or in a way that leaves it be.
    Unspent(RefreshError),
    /// The token may have been spent.
    Unclear,
}

/// What a good answer is held against.
pub(super) struct Terms<'a> {
    /// The scopes that the grant has; for a client, those that it may have.
    pub(super) granted: &'a Scopes,
    /// Where in its span the renewal lies, 0 to 255.
    pub(super) jitter: u8,
    /// What the access token must be bound to.
    pub(super) bound_to: BoundTo,
}

/// A string member that is wiped.
struct Wiped(SecretString);

impl<'de> Deserialize<'de> for Wiped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(SecretString::from(text)))
    }
}

#[derive(Deserialize)]
struct Body {
    access_token: Option<Wiped>,
    token_type: Option<String>,
    expires_in: Option<serde_json::Value>,
    refresh_token: Option<Wiped>,
    id_token: Option<Wiped>,
    scope: Option<String>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: String,
}

/// A token is a non-empty run of visible ASCII: it goes into a header or form.
fn token_bytes(text: &SecretString) -> Option<&[u8]> {
    let bytes = text.expose_secret().as_bytes();
    let fits = !bytes.is_empty() && bytes.len() <= MAX_TOKEN_BYTES;
    (fits && bytes.iter().all(u8::is_ascii_graphic)).then_some(bytes)
}

/// Reads the body of a 200. `None` if it can't be read at all: then what became
/// of the refresh token is not known.
///
/// A new refresh token is kept whatever is wrong with the rest, and although the
/// rest is cut off.
pub(super) fn success(raw: &RawResponse, terms: &Terms<'_>, now: &Now) -> Option<Adoption> {
    let Ok(body) = serde_json::from_slice::<Body>(raw.expose()) else {
        return salvaged(raw);
    };
    let successor = body.refresh_token.as_ref();
    let successor = successor.and_then(|token| refresh_token(&token.0));
    let subject = body.id_token.as_ref().map(|token| subject(&token.0));
    let mut access = access(&body, terms, now);
    if subject == Some(None) {
        access = Err(RefreshError::UnusableToken("its id token is ill-formed"));
    }
    // Without either token this is no answer to our request.
    if successor.is_none() && body.access_token.is_none() {
        return None;
    }
    Some(Adoption {
        successor,
        subject_sha256: subject.flatten(),
        access,
    })
}

/// The new refresh token alone, out of a body that is no JSON as a whole.
pub(super) fn salvaged(raw: &RawResponse) -> Option<Adoption> {
    let token = salvage::refresh_token(raw.expose())?;
    Some(Adoption {
        successor: Some(refresh_token(&token)?),
        subject_sha256: None,
        access: Err(RefreshError::ProviderUnclear),
    })
}

fn refresh_token(text: &SecretString) -> Option<RefreshToken> {
    token_bytes(text).map(|bytes| RefreshToken::new(bytes.to_vec()))
}

fn access(body: &Body, terms: &Terms<'_>, now: &Now) -> Result<Arc<UpstreamAccess>, RefreshError> {
    let refused = RefreshError::UnusableToken;
    let token = body
        .access_token
        .as_ref()
        .and_then(|token| token_bytes(&token.0))
        .ok_or(refused("it is absent or ill-formed"))?;
    // One that should be bound and is not is thrown away [RFC 9449 §5].
    let (kind, other) = match terms.bound_to {
        BoundTo::Nothing => ("bearer", "its type is not bearer"),
        BoundTo::OwnKey(_) | BoundTo::ClientKey(_) => ("dpop", "its type is not DPoP"),
    };
    let found = body.token_type.as_deref();
    if !found.is_some_and(|found| found.eq_ignore_ascii_case(kind)) {
        return Err(refused(other));
    }
    let mut scopes = None;
    if let Some(scope) = &body.scope {
        let named = Scopes::parse(scope.split(' ').filter(|token| !token.is_empty()))
            .map_err(|_| refused("its scope is ill-formed"))?;
        if !named.within(terms.granted) {
            return Err(refused(match terms.bound_to {
                BoundTo::ClientKey(_) => "its scope is wider than what was asked for",
                BoundTo::Nothing | BoundTo::OwnKey(_) => "its scope is wider than the grant's",
            }));
        }
        scopes = Some(named);
    }
    let lifetime_s = match &body.expires_in {
        None => DEFAULT_LIFETIME_S,
        // Some providers write the number as a string.
        Some(serde_json::Value::String(text)) => text.parse().unwrap_or(0),
        Some(value) => value.as_u64().unwrap_or(0),
    };
    let lifetime_ms = lifetime_s.min(MAX_LIFETIME_S).saturating_mul(1_000);
    // Another is asked for at 75 to 85 % of its life, so that those that came
    // together do not end together; it serves meanwhile, but not to its very end.
    let tenth_ms = lifetime_ms / 10;
    let jitter_ms = tenth_ms.saturating_mul(u64::from(terms.jitter)) / 256;
    let fresh_ms = (lifetime_ms.saturating_mul(3) / 4).saturating_add(jitter_ms);
    let usable_ms = lifetime_ms.saturating_sub((tenth_ms / 2).max(MARGIN_MS).min(tenth_ms));
    Ok(Arc::new(UpstreamAccess {
        token: UpstreamAccessToken::new(token.to_vec()),
        bound_to: terms.bound_to.clone(),
        scopes,
        fresh_until_ms: now.mono_ms.saturating_add(fresh_ms),
        usable_until_ms: now.mono_ms.saturating_add(usable_ms),
        ends_ms: now.mono_ms.saturating_add(lifetime_ms),
        obtained_ms: now.mono_ms,
        needles: OnceLock::new(),
    }))
}

/// Whose consent an id token speaks of: SHA-256 over issuer and subject. `None` if
/// it is no JWT with both. It came from the token endpoint over TLS, so its signature
/// adds nothing [OpenID Connect Core §3.1.3.7].
fn subject(id_token: &SecretString) -> Option<[u8; 32]> {
    #[derive(Deserialize)]
    struct Claims {
        iss: String,
        sub: String,
    }
    let mut parts = id_token.expose_secret().split('.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let payload = Zeroizing::new(Base64UrlUnpadded::decode_vec(payload).ok()?);
    let Claims { iss, sub } = serde_json::from_slice(&payload).ok()?;
    let named = length_prefixed(&[iss.as_bytes(), sub.as_bytes()]);
    digest(&SHA256, &named).as_ref().try_into().ok()
}

/// Reads the error in a body without tokens, as some providers write it into a 200.
pub(super) fn refusal_in_success(raw: &RawResponse, profile: &Profile) -> Option<Refusal> {
    let body = serde_json::from_slice::<ErrorBody>(raw.expose()).ok()?;
    let refused = |code| Refusal::Unspent(RefreshError::ProviderRefused { code });
    Some(match body.error.as_str() {
        code if profile.is_dead(code) => Refusal::InvalidGrant,
        "slow_down" | "ratelimited" => Refusal::Unspent(RefreshError::RateLimited {
            retry_after_s: DEFAULT_RETRY_AFTER_S,
        }),
        _ => refused("other"),
    })
}

/// Whether the answer is the challenge of RFC 9449 §8.
pub(crate) fn asks_for_nonce(status: u16, raw: &RawResponse) -> bool {
    matches!(status, 400 | 401) && error_code(raw).as_deref() == Some("use_dpop_nonce")
}

/// The error code of a body, if it has one.
pub(crate) fn error_code(raw: &RawResponse) -> Option<String> {
    let body = serde_json::from_slice::<ErrorBody>(raw.expose()).ok()?;
    Some(body.error)
}

/// What an owner's consent came to.
pub(crate) struct Consented {
    pub(crate) refresh_token: RefreshToken,
    /// Whose consent it is, if an id token says so.
    pub(crate) subject_sha256: Option<[u8; 32]>,
    /// The scopes, if the provider names them.
    pub(crate) scopes: Option<Scopes>,
}

/// Reads the answer to a code. `bound` says that a key was shown for it.
pub(crate) fn consented(
    status: u16,
    raw: &RawResponse,
    bound: bool,
) -> Result<Consented, ConnectError> {
    let refused = |refusal| match refusal {
        Refusal::InvalidGrant => ConnectError::Refused("invalid_grant"),
        Refusal::Unspent(RefreshError::ProviderRefused { code }) => ConnectError::Refused(code),
        Refusal::Unspent(_) => ConnectError::Refused("slow_down"),
        Refusal::Unclear => ConnectError::Unclear,
    };
    let profile = Profile::default();
    if status != 200 {
        return Err(refused(refusal(status, None, raw, &profile)));
    }
    let body = serde_json::from_slice::<Body>(raw.expose());
    let body = match body {
        Ok(body) if body.access_token.is_some() || body.refresh_token.is_some() => body,
        Ok(_) | Err(_) => {
            let told = refusal_in_success(raw, &profile);
            return Err(told.map_or(ConnectError::Unclear, refused));
        }
    };
    let unusable = ConnectError::Unusable;
    let found = body.token_type.as_deref().unwrap_or_default();
    if bound != found.eq_ignore_ascii_case("dpop") {
        let why = if bound {
            "its type is not DPoP"
        } else {
            "its type is DPoP, which was not asked for"
        };
        return Err(unusable(why));
    }
    let token = body.refresh_token.as_ref();
    let token = token.ok_or(unusable("there is no refresh token in it"))?;
    let subject = body.id_token.as_ref().map(|token| subject(&token.0));
    if subject == Some(None) {
        return Err(unusable("its id token is ill-formed"));
    }
    let scopes = body.scope.as_deref().map(|text| {
        Scopes::parse(text.split(' ').filter(|token| !token.is_empty()))
            .map_err(|_| unusable("its scope is ill-formed"))
    });
    Ok(Consented {
        refresh_token: refresh_token(&token.0)
            .ok_or(unusable("its refresh token is ill-formed"))?,
        subject_sha256: subject.flatten(),
        scopes: scopes.transpose()?,
    })
}

/// The new refresh token of a good answer, if it holds one.
pub(super) fn successor(raw: &RawResponse) -> Option<RefreshToken> {
    let Ok(body) = serde_json::from_slice::<Body>(raw.expose()) else {
        return salvaged(raw)?.successor;
    };
    refresh_token(&body.refresh_token?.0)
}

/// Reads an answer that is not a 200.
pub(super) fn refusal(
    status: u16,
    retry_after_s: Option<u64>,
    raw: &RawResponse,
    profile: &Profile,
) -> Refusal {
    let rate_limited = || {
        Refusal::Unspent(RefreshError::RateLimited {
            retry_after_s: retry_after_s.unwrap_or(DEFAULT_RETRY_AFTER_S),
        })
    };
    if status == 429 {
        return rate_limited();
    }
    // Whoever gave up waiting may have passed the request on.
    if status == 408 || !(400..500).contains(&status) {
        return Refusal::Unclear;
    }
    let error = serde_json::from_slice::<ErrorBody>(raw.expose());
    let code = error.as_ref().map_or("", |body| body.error.as_str());
    let refused = |code| Refusal::Unspent(RefreshError::ProviderRefused { code });
    match code {
        code if profile.is_dead(code) => Refusal::InvalidGrant,
        "slow_down" => rate_limited(),
        "invalid_request" => refused("invalid_request"),
        "invalid_client" => refused("invalid_client"),
        "unauthorized_client" => refused("unauthorized_client"),
        "unsupported_grant_type" => refused("unsupported_grant_type"),
        "invalid_scope" => refused("invalid_scope"),
        "invalid_target" => refused("invalid_target"),
        "invalid_dpop_proof" => refused("invalid_dpop_proof"),
        "use_dpop_nonce" => refused("use_dpop_nonce"),
        _ => refused("other"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream_dpop::BoundKey;
    use proptest::prelude::*;

    const NOW: Now = Now {
        lo_s: 100,
        hi_s: 101,
        mono_ms: 1_000,
    };

    /// The new refresh token, and until when the access token is fresh.
    type Read = (Option<Vec<u8>>, Result<u64, RefreshError>);

    fn read(body: &str) -> Option<Read> {
        let granted = Scopes::parse(["a", "b"]).unwrap();
        let terms = Terms {
            granted: &granted,
            jitter: 128,
            bound_to: BoundTo::Nothing,
        };
        success(&RawResponse::new(body.as_bytes().to_vec()), &terms, &NOW).map(|adoption| {
            (
                adoption.successor.map(|token| token.expose().to_vec()),
                adoption.access.map(|access| access.fresh_until_ms),
            )
        })
    }

    #[test]
    fn a_good_answer_is_read_whole() {
        let body = r#"{"access_token":"at","token_type":"Bearer","expires_in":100,"refresh_token":"r2","scope":"a"}"#;
        assert_eq!(read(body), Some((Some(b"r2".to_vec()), Ok(81_000))));
        let body = r#"{"access_token":"at","token_type":"bearer","expires_in":"100"}"#;
        assert_eq!(read(body), Some((None, Ok(81_000))));
        let body = r#"{"access_token":"at","token_type":"bearer"}"#;
        assert_eq!(read(body), Some((None, Ok(241_000))));
    }

    #[test]
    fn a_new_refresh_token_is_kept_whatever_is_wrong_with_the_rest() {
        let unusable = |why| Some((Some(b"r2".to_vec()), Err(RefreshError::UnusableToken(why))));
        let long = "x".repeat(MAX_TOKEN_BYTES + 1);
        let rows = [
            (
                r#""token_type":"bearer""#.to_owned(),
                "it is absent or ill-formed",
            ),
            (
                r#""access_token":"","token_type":"bearer""#.to_owned(),
                "it is absent or ill-formed",
            ),
            (
                r#""access_token":"a b","token_type":"bearer""#.to_owned(),
                "it is absent or ill-formed",
            ),
            (
                r#""access_token":"a\r\nb","token_type":"bearer""#.to_owned(),
                "it is absent or ill-formed",
            ),
            (
                format!(r#""access_token":"{long}","token_type":"bearer""#),
                "it is absent or ill-formed",
            ),
            (
                r#""access_token":"at""#.to_owned(),
                "its type is not bearer",
            ),
            (
                r#""access_token":"at","token_type":"DPoP""#.to_owned(),
                "its type is not bearer",
            ),
            (
                r#""access_token":"at","token_type":"bearer","scope":"a c""#.to_owned(),
                "its scope is wider than the grant's",
            ),
            (
                r#""access_token":"at","token_type":"bearer","scope":"\"""#.to_owned(),
                "its scope is ill-formed",
            ),
        ];
        for (members, why) in rows {
            let body = format!(r#"{{"refresh_token":"r2",{members}}}"#);
            assert_eq!(read(&body), unusable(why), "{members:.80}");
        }
    }

    #[test]
    fn a_token_that_must_be_bound_is_no_bearer_token() {
        let rng = ring::rand::SystemRandom::new();
        let key = BoundKey::generate(&rng).unwrap();
        let terms = Terms {
            granted: &Scopes::default(),
            jitter: 0,
            bound_to: BoundTo::OwnKey(Arc::new(BoundKey::open(&key, &rng).unwrap())),
        };
        let unbound = Err(RefreshError::UnusableToken("its type is not DPoP"));
        for (kind, expected) in [
            ("DPoP", Ok(true)),
            ("dpop", Ok(true)),
            ("Bearer", unbound.clone()),
            ("", unbound),
        ] {
            let body =
                format!(r#"{{"access_token":"at","token_type":"{kind}","refresh_token":"r2"}}"#);
            let found = success(&RawResponse::new(body.into_bytes()), &terms, &NOW).unwrap();
            // The new refresh token is kept either way.
            assert_eq!(found.successor.unwrap().expose(), b"r2");
            assert_eq!(
                found
                    .access
                    .map(|access| matches!(access.bound_to, BoundTo::OwnKey(_))),
                expected
            );
        }
    }

    #[test]
    fn a_token_has_a_greatest_length_and_is_visible_ascii() {
        let read = |text: &str| {
            let text = SecretString::from(text.to_owned());
            token_bytes(&text).map(<[u8]>::to_vec)
        };
        let longest = "x".repeat(MAX_TOKEN_BYTES);
        assert_eq!(read(&longest), Some(longest.clone().into_bytes()));
        for bad in ["", " ", "a\u{7f}", "\u{e9}", &format!("{longest}x")] {
            assert_eq!(read(bad), None, "{bad:.8}");
        }
    }

    #[test]
    fn an_id_token_names_a_user_only_if_it_is_one() {
        let of = |text: &str| subject(&SecretString::from(text.to_owned()));
        let payload = |claims: &str| Base64UrlUnpadded::encode_string(claims.as_bytes());
        let alice = payload(r#"{"iss":"https://p.example","sub":"alice"}"#);
        let good = of(&format!("e30.{alice}.c2ln"));
        assert!(good.is_some());
        // Neither header nor signature is of whom it speaks.
        assert_eq!(of(&format!("e31.{alice}.")), good);
        let others = [
            r#"{"iss":"https://p.example","sub":"mallory"}"#,
            r#"{"iss":"https://other.example","sub":"alice"}"#,
            // What one ends with is not what the other begins with.
            r#"{"iss":"https://p.examplea","sub":"lice"}"#,
        ];
        for claims in others {
            let other = of(&format!("e30.{}.c2ln", payload(claims)));
            assert!(other.is_some() && other != good, "{claims}");
        }
        let bad = [
            String::new(),
            alice.clone(),
            format!("e30.{alice}"),
            format!("e30.{alice}.c2ln."),
            format!("e30.{alice}.c2ln.more"),
            "e30.***.c2ln".to_owned(),
            format!("e30.{}.c2ln", payload(r#"{"iss":"https://p.example"}"#)),
            format!("e30.{}.c2ln", payload(r#"{"sub":"alice"}"#)),
        ];
        for bad in bad {
            assert_eq!(of(&bad), None, "{bad}");
        }
    }

    #[test]
    fn an_error_beside_a_status_that_says_well_is_classified() {
        let profile = Profile {
            dead_codes: vec!["token_gone".to_owned()],
            ..Profile::default()
        };
        let other = RefreshError::ProviderRefused { code: "other" };
        let limited = RefreshError::RateLimited { retry_after_s: 5 };
        for (body, expected) in [
            (r#"{"error":"invalid_grant"}"#, Some(Refusal::InvalidGrant)),
            (r#"{"error":"token_gone"}"#, Some(Refusal::InvalidGrant)),
            (
                r#"{"error":"slow_down"}"#,
                Some(Refusal::Unspent(limited.clone())),
            ),
            (
                r#"{"error":"ratelimited"}"#,
                Some(Refusal::Unspent(limited)),
            ),
            (
                r#"{"error":"invalid_client"}"#,
                Some(Refusal::Unspent(other)),
            ),
            (r#"{"error":5}"#, None),
            ("{}", None),
            ("", None),
        ] {
            let raw = RawResponse::new(body.as_bytes().to_vec());
            assert_eq!(refusal_in_success(&raw, &profile), expected, "{body}");
        }
    }

    #[test]
    fn a_challenge_is_a_status_and_a_code() {
        let asks = r#"{"error":"use_dpop_nonce"}"#;
        for (status, body, expected) in [
            (400, asks, true),
            (401, asks, true),
            (403, asks, false),
            (200, asks, false),
            (400, r#"{"error":"invalid_grant"}"#, false),
            (401, r#"{"error":"invalid_dpop_proof"}"#, false),
            (400, "{}", false),
            (400, "", false),
        ] {
            let raw = RawResponse::new(body.as_bytes().to_vec());
            assert_eq!(asks_for_nonce(status, &raw), expected, "{status} {body}");
        }
    }

    #[test]
    fn each_code_of_the_standards_is_told_on_by_its_name() {
        for code in [
            "invalid_request",
            "invalid_client",
            "unauthorized_client",
            "unsupported_grant_type",
            "invalid_scope",
            "invalid_target",
            "invalid_dpop_proof",
            "use_dpop_nonce",
            "other",
        ] {
            for status in [400, 401, 403, 499] {
                let raw = RawResponse::new(format!(r#"{{"error":"{code}"}}"#).into_bytes());
                let found = refusal(status, Some(7), &raw, &Profile::default());
                let expected = RefreshError::ProviderRefused { code };
                assert_eq!(found, Refusal::Unspent(expected), "{status}");
            }
        }
        // The provider's own words are not ours to repeat.
        let raw = RawResponse::new(br#"{"error":"<script>"}"#.to_vec());
        let found = refusal(400, None, &raw, &Profile::default());
        let other = RefreshError::ProviderRefused { code: "other" };
        assert_eq!(found, Refusal::Unspent(other));
    }

    #[test]
    fn what_is_no_answer_is_told_apart() {
        for body in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"access_token":5}"#,
            r#"{"access_token":"a"#,
        ] {
            assert_eq!(read(body), None, "{body}");
        }
    }

    #[test]
    fn each_refusal_is_classified() {
        let refused = |code| Refusal::Unspent(RefreshError::ProviderRefused { code });
        let limited = |retry_after_s| Refusal::Unspent(RefreshError::RateLimited { retry_after_s });
        let rows = [
            (
                400,
                None,
                r#"{"error":"invalid_grant"}"#,
                Refusal::InvalidGrant,
            ),
            (
                401,
                None,
                r#"{"error":"invalid_client"}"#,
                refused("invalid_client"),
            ),
            (
                400,
                None,
                r#"{"error":"invalid_scope"}"#,
                refused("invalid_scope"),
            ),
            (400, None, r#"{"error":"made_up"}"#, refused("other")),
            (403, None, "<html>", refused("other")),
            (400, None, r#"{"error":"slow_down"}"#, limited(5)),
            (429, Some(9), "", limited(9)),
            (429, None, r#"{"error":"invalid_grant"}"#, limited(5)),
            (500, None, r#"{"error":"invalid_grant"}"#, Refusal::Unclear),
            (503, Some(3), "", Refusal::Unclear),
            (302, None, "", Refusal::Unclear),
            (408, None, "", Refusal::Unclear),
            (204, None, "", Refusal::Unclear),
        ];
        for (status, retry_after, body, expected) in rows {
            let raw = RawResponse::new(body.as_bytes().to_vec());
            assert_eq!(
                refusal(status, retry_after, &raw, &Profile::default()),
                expected,
                "{status} {body}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(body: Vec<u8>, status: u16) {
            let raw = RawResponse::new(body);
            let terms = Terms { granted: &Scopes::default(), jitter: 0, bound_to: BoundTo::Nothing };
            let _ = success(&raw, &terms, &NOW);
            let _ = refusal_in_success(&raw, &Profile::default());
            let _ = refusal(status, None, &raw, &Profile::default());
        }
    }
}
