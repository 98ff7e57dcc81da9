//! What the enclave reads: sealed files and records, ids, scopes, URLs and headers.

use std::str;
use std::sync::LazyLock;

use ::enclave::frame::{FILE_HEADER_BYTES, FRAME_HEADER_BYTES, FrameCipher};
use ::enclave::gateway::{AnswerRules, address};
use ::enclave::http_url::HttpUrl;
use ::enclave::ids::{ClientId, GrantId, TargetName, TenantId};
use ::enclave::keys::envelope::{
    Envelope, NewHolder, QuorumSecret, Recipients, Secrets, TeeKey, gather, seal, share_out,
};
use ::enclave::keys::root::Unlocked;
use ::enclave::operation::{OperationName, PathTemplate};
use ::enclave::record::{Cabinet, Place, Table};
use ::enclave::scope::Scopes;
use ::enclave::seal::SealingKey;
use ::enclave::secret::UpstreamAccessToken;
use ::enclave::store::{Key, Record};
use http::header::{CONTENT_LOCATION, LINK, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::Target;

pub(super) const ENVELOPE: Target = Target {
    name: "enclave_envelope",
    run: open_envelope,
    seeds: envelope_seeds,
};
pub(super) const FRAME: Target = Target {
    name: "enclave_frame",
    run: frame,
    seeds: frame_seeds,
};
pub(super) const HEADERS: Target = Target {
    name: "enclave_headers",
    run: headers,
    seeds: header_seeds,
};
pub(super) const RECORD: Target = Target {
    name: "enclave_record",
    run: record,
    seeds: record_seeds,
};
pub(super) const TEXT: Target = Target {
    name: "enclave_text",
    run: text,
    seeds: text_seeds,
};

const INPUTS: &str = "snp policy=0x30000 svn=1";
/// An envelope with what opens it. All of it is new with each process: an envelope of another does not open.
struct Sealed {
    tee_key: [u8; 32],
    quorum: QuorumSecret,
    shares: Vec<(usize, Zeroizing<[u8; 32]>)>,
    keys: Unlocked,
    file: Vec<u8>,
}

static SEALED: LazyLock<Sealed> = LazyLock::new(|| {
    let rng = SystemRandom::new();
    let mut tee_key = [0; 32];
    rng.fill(&mut tee_key).unwrap();
    let (state, keys) = ([3; 16], Unlocked::generate(&rng).unwrap());
    let quorum = QuorumSecret::generate(&rng).unwrap();
    let holders = [1, 2].map(|number| NewHolder {
        name: format!("holder-{number}"),
        url: "http://holder.test".to_owned(),
        key: [number; 32],
        share: [number; 16],
        secret: Zeroizing::new([number; 32]),
    });
    let custody = share_out(&quorum, &state, 2, &holders, &rng).unwrap();
    let to = Recipients {
        state,
        custody: &custody,
        quorum: &quorum,
        local: Some(tee(&tee_key)),
        off_chip: true,
        recovery: None,
        retired: &[],
    };
    let file = seal(&keys, &to, &rng).unwrap();
    let shares = holders.into_iter().map(|holder| holder.secret);
    Sealed {
        shares: shares.enumerate().collect(),
        tee_key,
        quorum,
        keys,
        file,
    }
});

fn tee(key: &[u8; 32]) -> TeeKey<'_> {
    TeeKey {
        key,
        inputs: INPUTS,
    }
}

fn open_envelope(input: &[u8]) -> bool {
    let Sealed {
        tee_key,
        quorum,
        shares,
        keys,
        file: _,
    } = &*SEALED;
    let Ok(envelope) = Envelope::parse(input) else {
        return false;
    };
    // What the header says is used before it is authenticated: to ask, and to gather.
    drop(gather(envelope.custody(), &envelope.state(), shares));
    let secrets = Secrets {
        local: Some(tee(tee_key)),
        quorum: Some(quorum),
        recovery: None,
    };
    let Ok(opened) = envelope.open(&secrets) else {
        return false;
    };
    assert!(
        opened.keys.state.frame_key().unwrap() == keys.state.frame_key().unwrap(),
        "another state key than was sealed"
    );
    true
}

fn envelope_seeds() -> Vec<Vec<u8>> {
    vec![SEALED.file.clone()]
}

/// The bodies of the frames that are sealed, in order.
const BODIES: [&[u8]; 4] = [b"first", b"", &[7; 700], b"last"];

pub(super) fn cipher() -> FrameCipher {
    FrameCipher::new(Zeroizing::new([0x5a; 32]))
}

/// A file of frames.
fn frame(input: &[u8]) -> bool {
    let cipher = cipher();
    let Some((header, mut rest)) = input.split_first_chunk::<FILE_HEADER_BYTES>() else {
        return false;
    };
    let Ok(mut chain) = cipher.open_file(header) else {
        return false;
    };
    for expected in BODIES {
        let Some((front, after)) = rest.split_first_chunk::<FRAME_HEADER_BYTES>() else {
            return false;
        };
        let Ok(header) = cipher.open_header(&chain, front) else {
            return false;
        };
        let Some((sealed, after)) = after.split_at_checked(header.sealed_body_bytes()) else {
            return false;
        };
        let mut sealed = sealed.to_vec();
        let Ok((body, next)) = header.open_body(&mut sealed) else {
            return false;
        };
        assert_eq!(body, expected, "another body than was sealed at this place");
        (chain, rest) = (next, after);
    }
    if let Some(front) = rest.first_chunk::<FRAME_HEADER_BYTES>() {
        assert!(
            cipher.open_header(&chain, front).is_err(),
            "a frame that was never sealed"
        );
    }
    true
}

fn frame_seeds() -> Vec<Vec<u8>> {
    let (rng, cipher) = (SystemRandom::new(), cipher());
    let (header, mut chain) = cipher.begin_file(&rng).unwrap();
    let mut file = header.to_vec();
    for body in BODIES {
        chain = cipher.seal(&chain, &rng, body, &mut file).unwrap();
    }
    vec![file]
}

const GENERATION: u64 = 3;
const BODY: &[u8] = br#"{"id":"crm"}"#;

fn cabinet() -> (Cabinet, SealingKey, Place) {
    let cabinet = Cabinet::new(&[0x3c; 32]).unwrap();
    let key = SealingKey::new(Zeroizing::new([0x3d; 32]));
    (cabinet, key, Place::system(Table::Providers, "crm"))
}

/// A record's name, its generation of one byte, and its sealed bytes.
fn record(input: &[u8]) -> bool {
    let Some((name, [generation, sealed @ ..])) = input.split_first_chunk::<32>() else {
        return false;
    };
    let (cabinet, key, place) = cabinet();
    let record = Record {
        key: Key(*name),
        generation: u64::from(*generation),
        sealed: sealed.into(),
    };
    let located = cabinet.locate(&record);
    let Ok(found) = located else {
        return false;
    };
    assert_eq!(found, place, "another place than was sealed");
    let Ok(body) = cabinet.open(&key, &found, record.generation, &record.sealed) else {
        return false;
    };
    assert_eq!(body.as_slice(), BODY, "another body than was sealed");
    assert_eq!(
        record.generation, GENERATION,
        "a record of another generation"
    );
    true
}

fn record_seeds() -> Vec<Vec<u8>> {
    let (cabinet, key, place) = cabinet();
    let write = cabinet
        .seal(&SystemRandom::new(), &key, &place, GENERATION - 1, BODY)
        .unwrap();
    let mut bytes = write.key.0.to_vec();
    bytes.push(u8::try_from(GENERATION).unwrap());
    bytes.extend(write.sealed.unwrap());
    vec![bytes]
}

fn text(input: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(input) else {
        return false;
    };
    let mut accepted = false;
    macro_rules! ids {
        ($($type:ident),+) => {$(
            if let Ok(id) = $type::parse(text) {
                accepted = true;
                assert_eq!(id.as_str(), text);
                assert!(text.len() <= 63 && !text.contains(|c: char| c.is_uppercase() || c.is_control()));
            }
        )+};
    }
    ids!(TenantId, ClientId, GrantId, TargetName);
    if let Ok(scopes) = Scopes::parse(text.split(' ')) {
        accepted = true;
        let again = Scopes::parse(scopes.iter()).expect("scopes that were accepted");
        assert_eq!(again.to_string(), scopes.to_string());
        assert!(scopes.within(&again) && again.within(&scopes));
    }
    if let Ok(url) = HttpUrl::parse(text) {
        accepted = true;
        let again = HttpUrl::parse(url.as_str()).expect("a URL in normal form");
        assert_eq!(again.as_str(), url.as_str());
        assert!(!url.authority().contains('@') && url.path().starts_with('/'));
    }
    if let Ok(template) = PathTemplate::parse(text) {
        accepted = true;
        assert_eq!(template.to_string(), text);
        assert!(text.starts_with('/') && !text.contains(['%', ';', '\\', ' ']));
    }
    if let Ok(name) = OperationName::parse(text) {
        accepted = true;
        assert_eq!(name.to_string(), text);
    }
    if let Some(resource) = address::resource_of_authority(GATEWAY, text) {
        accepted = true;
        assert!(address::is_below(GATEWAY, text));
        let authority = resource
            .strip_prefix("https://")
            .expect("a resource of https");
        let again = address::resource_of_authority(GATEWAY, authority);
        assert_eq!(again.as_deref(), Some(resource.as_str()));
    }
    let parent = HttpUrl::parse("https://crm.example/v1").expect("a URL");
    if let Some(url) = parent.at_host_below(text) {
        accepted = true;
        assert_eq!(url.host(), text);
        assert!(text.ends_with(".crm.example") && url.path() == "/v1");
    }
    accepted
}

fn text_seeds() -> Vec<Vec<u8>> {
    [
        "t-1-crm",
        "contacts.read contacts.write offline_access",
        "https://api.example/v1",
        "https://api.example:8443/",
        "http://127.0.0.1:9000/token",
        "http://[::1]/token",
        "/v1/contacts/{id:integer}/{rest:path}",
        "api/contacts-get",
        "api--acme-crm.gateway.example",
        "acme.crm.example",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Below which hosts name resources.
const GATEWAY: &str = "https://gateway.example";

/// What the fuzzed answers must not repeat.
const BEARER: &str = "ya29.a0ARrdaM/k9+Vq7";

/// Where references must lead.
const PREFIX: &str = "https://gateway.example/g/crm/api";

/// An API's answer: header lines, and the same bytes as its body.
fn headers(input: &[u8]) -> bool {
    let lines = input.split(|byte| *byte == b'\n');
    let mut from = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return false;
        };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        else {
            return false;
        };
        from.append(name, value);
    }
    let base_url = HttpUrl::parse("https://api.example/v1").expect("a URL");
    let bearer = UpstreamAccessToken::new(BEARER.as_bytes().to_vec());
    let rules = AnswerRules::new(&base_url, "/v1/x", PREFIX, &bearer).expect("rules");
    let Ok((to, mut echo)) = rules.accept(&from) else {
        // Refused as a whole, for an echo or an encoding.
        return true;
    };
    for stays in [
        "connection",
        "set-cookie",
        "transfer-encoding",
        "www-authenticate",
        "keep-alive",
    ] {
        assert!(!to.contains_key(stays), "{stays} was passed on");
    }
    for (name, value) in &to {
        if [LOCATION, CONTENT_LOCATION].contains(name) {
            assert!(
                value.as_bytes().starts_with(PREFIX.as_bytes()),
                "a reference leads past the gateway"
            );
        } else if *name != LINK {
            assert!(
                from.get_all(name).iter().any(|given| given == value),
                "a header that was not given"
            );
        }
    }
    // The same bytes as a body, in two chunks: it passes whole, or the bearer is in it.
    let (first, second) = input.split_at(input.len() / 2);
    let whole = echo.push(first.to_vec().into()).and_then(|first| {
        let second = echo.push(second.to_vec().into())?;
        Ok([first, second, echo.finish()].concat())
    });
    match whole {
        Ok(whole) => assert_eq!(whole, input, "an answer was changed"),
        Err(_echoed) => assert!(input.len() >= BEARER.len(), "an echo out of nothing"),
    }
    true
}

fn header_seeds() -> Vec<Vec<u8>> {
    vec![
        b"content-type:application/json\nconnection:close, x-hop\nx-hop:1\nset-cookie:a=b\netag:\"1\"".to_vec(),
        b"location:https://elsewhere.example/\nkeep-alive:timeout=5".to_vec(),
        b"location:../v1/y\nlink:<?page=2>; rel=next, <a,b>; title=\"x\"\nx:ya29.a0ARrdaM/k9%2bVq\\u0037".to_vec(),
        b"x:eWEyOS5hMEFScmRhTS9rOStWcTc\nx:796132392e".to_vec(),
    ]
}
