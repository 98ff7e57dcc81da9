//! One valid proof, one change a row, the exact verdict. Rows that begin with N and a number are
//! cases of the table of rules; the others are our own.

use ring::hmac;

use super::{forge::*, *};
use crate::{
    json::JsonError,
    jwk::JwkError,
    jws::{JwsError, Segment},
};

type Want = Result<(), DpopError>;
type Row = (&'static str, fn(&mut Forge), Want);

const OK: Want = Ok(());

const fn jws(error: JwsError) -> Want {
    Err(DpopError::Jws(error))
}

const fn header(error: JsonError) -> Want {
    jws(JwsError::Header(error))
}

const fn jwk(error: JwkError) -> Want {
    Err(DpopError::Jwk(error))
}

const fn payload(error: JsonError) -> Want {
    Err(DpopError::Payload(error))
}

const HTU_MALFORMED: Want = Err(DpopError::HtuMalformed);
const HTU_MISMATCH: Want = Err(DpopError::HtuMismatch);

/// The modulus of RFC 7515 §A.2, for keys of another type.
const RSA_JWK: &str = r#"{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}"#;

fn replace_segment(text: &str, index: usize, change: impl Fn(&str) -> String) -> String {
    let mut segments: Vec<String> = text.split('.').map(str::to_owned).collect();
    segments[index] = change(&segments[index]);
    segments.join(".")
}

/// The next letter of the alphabet: the same bytes where the last letter has unused bits.
fn stray_bit(segment: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (front, last) = segment.split_at(segment.len() - 1);
    let at = ALPHABET.find(last).unwrap();
    assert_eq!(at % 4, 0, "the last letter has no unused bits");
    format!("{front}{}", &ALPHABET[at + 1..at + 2])
}

fn quoted(member: &str) -> &str {
    member.trim_matches('"')
}

fn member<'a>(members: &'a [(String, String)], name: &str) -> &'a str {
    quoted(&members.iter().find(|(known, _)| known == name).unwrap().1)
}

fn mac_with_public_key(forge: &mut Forge) {
    forge.head("alg", "\"HS256\"");
    // Whatever a confused verifier would take for the secret, this one never asks.
    forge.signature = |_| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"public"), b"input")
            .as_ref()
            .to_vec()
    };
}

const ROWS: &[Row] = &[
    ("N001 valid", |_| {}, OK),
    (
        "N002 no header",
        |f| f.values = |_| vec![],
        Err(DpopError::Missing),
    ),
    (
        "N003 two headers",
        |f| f.values = |text| vec![text.clone().into_bytes(), text.into_bytes()],
        Err(DpopError::Repeated),
    ),
    (
        "N003 two headers, the second empty",
        |f| f.values = |text| vec![text.into_bytes(), vec![]],
        Err(DpopError::Repeated),
    ),
    (
        "N004 two proofs in one value",
        |f| f.text = |text| format!("{text}, {text}"),
        jws(JwsError::SegmentCount),
    ),
    (
        "N005 empty value",
        |f| f.text = |_| String::new(),
        jws(JwsError::SegmentCount),
    ),
    (
        "not UTF-8",
        |f| f.values = |text| vec![[text.as_bytes(), b"\xff"].concat()],
        Err(DpopError::NotText),
    ),
    (
        "N006 two segments",
        |f| f.text = |text| text.rsplit_once('.').unwrap().0.to_owned(),
        jws(JwsError::SegmentCount),
    ),
    (
        "N007 trailing dot",
        |f| f.text = |text| format!("{text}."),
        jws(JwsError::SegmentCount),
    ),
    (
        "N008 five segments",
        |f| f.text = |text| format!("{text}.a.b"),
        jws(JwsError::SegmentCount),
    ),
    (
        "N009 JSON serialisation",
        |f| {
            f.text = |text| {
                let parts: Vec<&str> = text.split('.').collect();
                format!(
                    r#"{{"protected":"{}","payload":"{}","signature":"{}"}}"#,
                    parts[0], parts[1], parts[2]
                )
            }
        },
        jws(JwsError::SegmentCount),
    ),
    (
        "N010 padding in the header",
        |f| f.text = |text| replace_segment(&text, 0, |s| format!("{s}=")),
        jws(JwsError::NotBase64Url(Segment::Header)),
    ),
    (
        "N010 padding in the payload",
        |f| f.text = |text| replace_segment(&text, 1, |s| format!("{s}=")),
        jws(JwsError::NotBase64Url(Segment::Payload)),
    ),
    (
        "N010 padding in the signature",
        |f| f.text = |text| format!("{text}=="),
        jws(JwsError::NotBase64Url(Segment::Signature)),
    ),
    (
        "N011 standard alphabet",
        |f| f.text = |text| replace_segment(&text, 2, |s| format!("+{}", &s[1..])),
        jws(JwsError::NotBase64Url(Segment::Signature)),
    ),
    (
        "N012 stray bits in the signature",
        |f| f.text = |text| replace_segment(&text, 2, stray_bit),
        jws(JwsError::NotBase64Url(Segment::Signature)),
    ),
    (
        "N013 space inside",
        |f| f.text = |text| replace_segment(&text, 1, |s| format!(" {s}")),
        jws(JwsError::NotBase64Url(Segment::Payload)),
    ),
    (
        "N014 typ absent",
        |f| f.without_head("typ"),
        Err(DpopError::Typ),
    ),
    (
        "N015 typ JWT",
        |f| f.head("typ", "\"JWT\""),
        Err(DpopError::Typ),
    ),
    (
        "N016 typ in capitals",
        |f| f.head("typ", "\"DPOP+JWT\""),
        Err(DpopError::Typ),
    ),
    (
        "N017 typ with application/",
        |f| f.head("typ", "\"application/dpop+jwt\""),
        Err(DpopError::Typ),
    ),
    (
        "N018 typ at+jwt",
        |f| f.head("typ", "\"at+jwt\""),
        Err(DpopError::Typ),
    ),
    (
        "N019 typ an array",
        |f| f.head("typ", "[\"dpop+jwt\"]"),
        header(JsonError::WrongType("typ")),
    ),
    (
        "N020 alg absent",
        |f| f.without_head("alg"),
        header(JsonError::Missing("alg")),
    ),
    (
        "N021 alg none, no signature",
        |f| {
            f.head("alg", "\"none\"");
            f.signature = |_| vec![];
        },
        jws(JwsError::EmptySegment(Segment::Signature)),
    ),
    (
        "N022 alg NoNe, no signature",
        |f| {
            f.head("alg", "\"NoNe\"");
            f.signature = |_| vec![];
        },
        jws(JwsError::EmptySegment(Segment::Signature)),
    ),
    (
        "N023 alg none, real signature",
        |f| f.head("alg", "\"none\""),
        jws(JwsError::UnsupportedAlg),
    ),
    (
        "N024 alg es256",
        |f| f.head("alg", "\"es256\""),
        jws(JwsError::UnsupportedAlg),
    ),
    (
        "N025 HS256 by the public key",
        mac_with_public_key,
        jws(JwsError::UnsupportedAlg),
    ),
    (
        "N026 HS256 by a symmetric jwk",
        |f| {
            mac_with_public_key(f);
            f.head("jwk", r#"{"kty":"oct","k":"cHVibGlj"}"#);
        },
        jws(JwsError::UnsupportedAlg),
    ),
    (
        "ES256 with a symmetric jwk",
        |f| f.head("jwk", r#"{"kty":"oct","k":"cHVibGlj"}"#),
        jwk(JwkError::PrivateMember),
    ),
    (
        "N027 RS256",
        |f| {
            f.head("alg", "\"RS256\"");
            f.head("jwk", RSA_JWK);
        },
        jws(JwsError::AlgNotAllowed),
    ),
    (
        "N028 PS256",
        |f| {
            f.head("alg", "\"PS256\"");
            f.head("jwk", RSA_JWK);
        },
        jws(JwsError::UnsupportedAlg),
    ),
    (
        "N029 PS256 with 1024 bits",
        |f| {
            f.head("alg", "\"PS256\"");
            f.head("jwk", &RSA_JWK.replacen("ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7", "", 1));
        },
        jws(JwsError::UnsupportedAlg),
    ),
    (
        "N030 ES256 with an RSA key",
        |f| f.head("jwk", RSA_JWK),
        jwk(JwkError::UnsupportedKty),
    ),
    (
        "N031 ES256 with a P-384 key",
        |f| {
            f.jwk("crv", "\"P-384\"");
            let half = base64url::encode(&[7; 48]);
            f.jwk("x", &format!("\"{half}\""));
            f.jwk("y", &format!("\"{half}\""));
        },
        jwk(JwkError::UnsupportedCrv),
    ),
    (
        "N032 ES384",
        |f| f.head("alg", "\"ES384\""),
        jws(JwsError::UnsupportedAlg),
    ),
    ("N033 EdDSA", |f| *f = Forge::with_key(key(Alg::EdDsa)), OK),
    (
        "N034 Ed25519",
        |f| {
            *f = Forge::with_key(key(Alg::EdDsa));
            f.head("alg", "\"Ed25519\"");
        },
        OK,
    ),
    (
        "ES256 with an Ed25519 key",
        |f| {
            *f = Forge::with_key(key(Alg::EdDsa));
            f.head("alg", "\"ES256\"");
        },
        jws(JwsError::AlgKeyMismatch),
    ),
    (
        "EdDSA with a P-256 key",
        |f| f.head("alg", "\"EdDSA\""),
        jws(JwsError::AlgKeyMismatch),
    ),
    (
        "N035 alg an array",
        |f| f.head("alg", "[\"ES256\"]"),
        header(JsonError::WrongType("alg")),
    ),
    (
        "N036 no jwk",
        |f| f.without_head("jwk"),
        Err(DpopError::JwkMissing),
    ),
    (
        "N037 kid for jwk",
        |f| {
            f.without_head("jwk");
            f.head("kid", "\"k\"");
        },
        Err(DpopError::JwkMissing),
    ),
    (
        "N038 jwk null",
        |f| f.head("jwk", "null"),
        Err(DpopError::JwkNotObject),
    ),
    (
        "N039 jwk a string",
        |f| f.head("jwk", "\"{}\""),
        Err(DpopError::JwkNotObject),
    ),
    (
        "jwk an array",
        |f| f.head("jwk", "[{}]"),
        Err(DpopError::JwkNotObject),
    ),
    (
        "jwk empty",
        |f| f.head("jwk", "{}"),
        jwk(JwkError::Json(JsonError::Missing("kty"))),
    ),
    (
        "N040 private jwk",
        |f| f.jwk("d", "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE\""),
        jwk(JwkError::PrivateMember),
    ),
    (
        "N041 d null",
        |f| f.jwk("d", "null"),
        jwk(JwkError::PrivateMember),
    ),
    (
        "N042 d empty",
        |f| f.jwk("d", "\"\""),
        jwk(JwkError::PrivateMember),
    ),
    (
        "N043 d garbage",
        |f| f.jwk("d", "\"*\""),
        jwk(JwkError::PrivateMember),
    ),
    (
        "N044 k in an EC key",
        |f| f.jwk("k", "\"AA\""),
        jwk(JwkError::PrivateMember),
    ),
    (
        "N045 p in an EC key",
        |f| f.jwk("p", "\"AA\""),
        jwk(JwkError::PrivateMember),
    ),
    (
        "N046 harmless members",
        |f| {
            f.jwk("kid", "\"k\"");
            f.jwk("use", "\"sig\"");
            f.jwk("alg", "\"ES256\"");
            f.jwk("key_ops", "[\"verify\"]");
            f.jwk("unknown", "{}");
        },
        OK,
    ),
    (
        "N047 use enc",
        |f| f.jwk("use", "\"enc\""),
        jwk(JwkError::UseNotSig),
    ),
    (
        "N048 key_ops sign",
        |f| f.jwk("key_ops", "[\"sign\"]"),
        jwk(JwkError::KeyOpsWithoutVerify),
    ),
    (
        "N049 jwk for ES384",
        |f| f.jwk("alg", "\"ES384\""),
        jwk(JwkError::AlgMismatch),
    ),
    (
        "N050 point off the curve",
        |f| f.jwk("y", &format!("\"{}\"", base64url::encode(&[7; 32]))),
        jwk(JwkError::NotOnCurve),
    ),
    (
        "N051 x and y zero",
        |f| {
            f.jwk("x", &format!("\"{}\"", base64url::encode(&[0; 32])));
            f.jwk("y", &format!("\"{}\"", base64url::encode(&[0; 32])));
        },
        jwk(JwkError::NotOnCurve),
    ),
    (
        "N052 x of 33 bytes",
        |f| {
            let x = base64url::decode(member(&f.jwk, "x")).unwrap();
            f.jwk(
                "x",
                &format!("\"{}\"", base64url::encode(&[&[0][..], &x].concat())),
            );
        },
        jwk(JwkError::Coordinate),
    ),
    (
        "N053 stray bits in x",
        |f| {
            let x = stray_bit(member(&f.jwk, "x"));
            f.jwk("x", &format!("\"{x}\""));
        },
        jwk(JwkError::Coordinate),
    ),
    (
        "N054 padding in x",
        |f| {
            let x = format!("\"{}=\"", member(&f.jwk, "x"));
            f.jwk("x", &x);
        },
        jwk(JwkError::Coordinate),
    ),
    (
        "N055 standard alphabet in x",
        |f| {
            let x = format!("\"+{}\"", &member(&f.jwk, "x")[1..]);
            f.jwk("x", &x);
        },
        jwk(JwkError::Coordinate),
    ),
    (
        "N055 space in x",
        |f| {
            let x = format!("\" {}\"", member(&f.jwk, "x"));
            f.jwk("x", &x);
        },
        jwk(JwkError::Coordinate),
    ),
    (
        "N056 kty ec",
        |f| f.jwk("kty", "\"ec\""),
        jwk(JwkError::UnsupportedKty),
    ),
    (
        "N057 crv P-384 with a P-256 point",
        |f| f.jwk("crv", "\"P-384\""),
        jwk(JwkError::UnsupportedCrv),
    ),
    (
        "N058 signed by another key",
        |f| f.sign_with(key(Alg::Es256)),
        jws(JwsError::BadSignature),
    ),
    (
        "N059 empty signature",
        |f| f.signature = |_| vec![],
        jws(JwsError::EmptySegment(Segment::Signature)),
    ),
    (
        "N060 r = s = 0",
        |f| f.signature = |_| vec![0; 64],
        jws(JwsError::BadSignature),
    ),
    (
        "N061 r = s = n",
        |f| f.signature = |_| [ORDER, ORDER].concat(),
        jws(JwsError::BadSignature),
    ),
    (
        "N062 DER signature",
        |f| {
            f.signature = |signature| {
                let integer = |half: &[u8]| [&[2, 33, 0][..], half].concat();
                [
                    &[0x30, 70][..],
                    &integer(&signature[..32]),
                    &integer(&signature[32..]),
                ]
                .concat()
            }
        },
        jws(JwsError::SignatureLength),
    ),
    (
        "N063 signature of 63 bytes",
        |f| f.signature = |signature| signature[..63].to_vec(),
        jws(JwsError::SignatureLength),
    ),
    (
        "N064 signature of 65 bytes",
        |f| f.signature = |signature| [&signature[..], &[0]].concat(),
        jws(JwsError::SignatureLength),
    ),
    ("N065 malleated signature", |f| f.signature = malleate, OK),
    (
        "N066 payload changed after signing",
        |f| {
            f.text = |text| {
                replace_segment(&text, 1, |segment| {
                    let payload = String::from_utf8(base64url::decode(segment).unwrap()).unwrap();
                    base64url::encode(payload.replacen("the-jti", "the-jtj", 1).as_bytes())
                })
            }
        },
        jws(JwsError::BadSignature),
    ),
    (
        "header changed after signing",
        |f| {
            f.text = |text| {
                replace_segment(&text, 0, |segment| {
                    let header = String::from_utf8(base64url::decode(segment).unwrap()).unwrap();
                    base64url::encode(header.replacen('{', "{ ", 1).as_bytes())
                })
            }
        },
        jws(JwsError::BadSignature),
    ),
    (
        "N067 no jti",
        |f| f.without_claim("jti"),
        Err(DpopError::ClaimMissing(Claim::Jti)),
    ),
    (
        "N068 jti empty",
        |f| f.claim("jti", "\"\""),
        Err(DpopError::JtiLength),
    ),
    (
        "N069 jti a number",
        |f| f.claim("jti", "1"),
        Err(DpopError::ClaimType(Claim::Jti)),
    ),
    (
        "N070 jti null",
        |f| f.claim("jti", "null"),
        Err(DpopError::ClaimType(Claim::Jti)),
    ),
    (
        "N071 jti of 257 bytes",
        |f| f.claim("jti", &format!("\"{}\"", "j".repeat(MAX_JTI_BYTES + 1))),
        Err(DpopError::JtiLength),
    ),
    (
        "jti of 256 bytes",
        |f| f.claim("jti", &format!("\"{}\"", "j".repeat(MAX_JTI_BYTES))),
        OK,
    ),
    (
        "N071 jti of 4 KiB",
        |f| f.claim("jti", &format!("\"{}\"", "j".repeat(4096))),
        Err(DpopError::TooLarge),
    ),
    (
        "N076 no htm",
        |f| f.without_claim("htm"),
        Err(DpopError::ClaimMissing(Claim::Htm)),
    ),
    (
        "N077 htm PUT",
        |f| f.claim("htm", "\"PUT\""),
        Err(DpopError::HtmMismatch),
    ),
    (
        "N078 htm post",
        |f| f.claim("htm", "\"post\""),
        Err(DpopError::HtmMismatch),
    ),
    (
        "N079 htm with space",
        |f| f.claim("htm", "\" POST\""),
        Err(DpopError::HtmMismatch),
    ),
    (
        "N080 htm an array",
        |f| f.claim("htm", "[\"POST\"]"),
        Err(DpopError::ClaimType(Claim::Htm)),
    ),
    (
        "N081 no htu",
        |f| f.without_claim("htu"),
        Err(DpopError::ClaimMissing(Claim::Htu)),
    ),
    ("N082 htu empty", |f| f.htu(""), HTU_MALFORMED),
    (
        "N083 htu an array",
        |f| f.claim("htu", &format!("[\"{HTU}\"]")),
        Err(DpopError::ClaimType(Claim::Htu)),
    ),
    (
        "N084 path only",
        |f| f.htu("/tokenkeep.v1.TokenService/IssueToken"),
        HTU_MALFORMED,
    ),
    (
        "N085 no scheme",
        |f| f.htu(HTU.strip_prefix("https:").unwrap()),
        HTU_MALFORMED,
    ),
    (
        "N086 other host",
        |f| f.htu(&HTU.replacen("broker", "other", 1)),
        HTU_MISMATCH,
    ),
    (
        "N087 http",
        |f| f.htu(&HTU.replacen("https", "http", 1)),
        HTU_MISMATCH,
    ),
    (
        "N088 other port",
        |f| f.htu(&HTU.replacen("example", "example:8443", 1)),
        HTU_MISMATCH,
    ),
    (
        "N089 path prefix",
        |f| f.htu(HTU.strip_suffix("Token").unwrap()),
        HTU_MISMATCH,
    ),
    (
        "N090 path in another case",
        |f| f.htu(&HTU.replacen("IssueToken", "issuetoken", 1)),
        HTU_MISMATCH,
    ),
    (
        "N091 trailing slash",
        |f| f.htu(&format!("{HTU}/")),
        HTU_MISMATCH,
    ),
    (
        "N092 double slash",
        |f| f.htu(&HTU.replacen("/Issue", "//Issue", 1)),
        HTU_MALFORMED,
    ),
    ("N093 query", |f| f.htu(&format!("{HTU}?a=b%zz")), OK),
    ("N094 fragment", |f| f.htu(&format!("{HTU}#f")), OK),
    (
        "N095 query and fragment",
        |f| f.htu(&format!("{HTU}?a=b#f")),
        OK,
    ),
    (
        "N096 scheme and host in capitals",
        |f| f.htu(&HTU.replacen("https://broker.example", "HTTPS://Broker.EXAMPLE", 1)),
        OK,
    ),
    (
        "N097 empty port",
        |f| f.htu(&HTU.replacen("example", "example:", 1)),
        HTU_MALFORMED,
    ),
    (
        "N098 dot segments",
        |f| f.htu(&HTU.replacen("/Issue", "/x/../Issue", 1)),
        HTU_MALFORMED,
    ),
    (
        "N099 percent-encoded letter",
        |f| f.htu(&HTU.replacen("Issue", "%49ssue", 1)),
        HTU_MALFORMED,
    ),
    (
        "N100 percent-encoded slash",
        |f| f.htu(&HTU.replacen("/Issue", "%2fIssue", 1)),
        HTU_MALFORMED,
    ),
    (
        "N101 %00 at the end",
        |f| f.htu(&format!("{HTU}%00")),
        HTU_MALFORMED,
    ),
    (
        "N102 bad escape",
        |f| f.htu(&format!("{HTU}%zz")),
        HTU_MALFORMED,
    ),
    (
        "N103 user information",
        |f| f.htu(&HTU.replacen("broker", "user@broker", 1)),
        HTU_MALFORMED,
    ),
    (
        "N104 our host as user information",
        |f| f.htu(&HTU.replacen("broker.example", "broker.example@evil.example", 1)),
        HTU_MALFORMED,
    ),
    (
        "N105 dot after the host",
        |f| f.htu(&HTU.replacen("example", "example.", 1)),
        HTU_MISMATCH,
    ),
    (
        "N106 backslash",
        |f| f.htu(&HTU.replacen("/Issue", "\\Issue", 1)),
        HTU_MALFORMED,
    ),
    (
        "N107 tab",
        |f| f.htu(&HTU.replacen("Issue", "Is\tsue", 1)),
        HTU_MALFORMED,
    ),
    (
        "N108 spaces around",
        |f| f.htu(&format!(" {HTU} ")),
        HTU_MALFORMED,
    ),
    (
        "N109 no slashes",
        |f| f.htu(&HTU.replacen("https://", "https:", 1)),
        HTU_MALFORMED,
    ),
    (
        "N110 decimal IPv4",
        |f| f.htu(&HTU.replacen("broker.example", "2130706433", 1)),
        HTU_MISMATCH,
    ),
    (
        "N111 short IPv4",
        |f| f.htu(&HTU.replacen("broker.example", "127.1", 1)),
        HTU_MISMATCH,
    ),
    (
        "N112 no iat",
        |f| f.without_claim("iat"),
        Err(DpopError::ClaimMissing(Claim::Iat)),
    ),
    (
        "N113 iat a string",
        |f| f.claim("iat", "\"1700000000\""),
        Err(DpopError::ClaimType(Claim::Iat)),
    ),
    (
        "N114 iat with a fraction",
        |f| f.claim("iat", "1700000000.5"),
        Err(DpopError::ClaimType(Claim::Iat)),
    ),
    (
        "iat with an exponent",
        |f| f.claim("iat", "17e8"),
        Err(DpopError::ClaimType(Claim::Iat)),
    ),
    (
        "N115 iat null",
        |f| f.claim("iat", "null"),
        Err(DpopError::ClaimType(Claim::Iat)),
    ),
    (
        "N116 iat true",
        |f| f.claim("iat", "true"),
        Err(DpopError::ClaimType(Claim::Iat)),
    ),
    (
        "N117 iat 0",
        |f| f.claim("iat", "0"),
        Err(DpopError::TooOld {
            iat_s: 0,
            now_s: NOW_S,
        }),
    ),
    (
        "N118 iat negative",
        |f| f.claim("iat", "-1700000000"),
        Err(DpopError::ClaimType(Claim::Iat)),
    ),
    (
        "N119 iat in milliseconds",
        |f| f.claim("iat", "1700000000000"),
        Err(DpopError::FromFuture {
            iat_s: NOW_S * 1000,
            now_s: NOW_S,
        }),
    ),
    (
        "N120 iat 1e400",
        |f| f.claim("iat", "1e400"),
        Err(DpopError::ClaimType(Claim::Iat)),
    ),
    (
        "N121 iat 2^63",
        |f| f.claim("iat", "9223372036854775808"),
        Err(DpopError::FromFuture {
            iat_s: 1 << 63,
            now_s: NOW_S,
        }),
    ),
    (
        "iat 2^64",
        |f| f.claim("iat", "18446744073709551616"),
        Err(DpopError::ClaimType(Claim::Iat)),
    ),
    (
        "N122 an hour old",
        |f| f.claim("iat", "1699996400"),
        Err(DpopError::TooOld {
            iat_s: NOW_S - 3600,
            now_s: NOW_S,
        }),
    ),
    (
        "N123 an hour ahead",
        |f| f.claim("iat", "1700003600"),
        Err(DpopError::FromFuture {
            iat_s: NOW_S + 3600,
            now_s: NOW_S,
        }),
    ),
    ("N124 10 s old", |f| f.claim("iat", "1699999990"), OK),
    ("N125 8 s ahead", |f| f.claim("iat", "1700000008"), OK),
    (
        "N126 120 s ahead",
        |f| f.claim("iat", "1700000120"),
        Err(DpopError::FromFuture {
            iat_s: NOW_S + 120,
            now_s: NOW_S,
        }),
    ),
    (
        "N127 exp an hour ago",
        |f| f.claim("exp", "1699996400"),
        Err(DpopError::Expired),
    ),
    (
        "N128 nbf in an hour",
        |f| f.claim("nbf", "1700003600"),
        Err(DpopError::NotYetValid),
    ),
    (
        "N129 nbf and exp that hold",
        |f| {
            f.claim("nbf", "1700000000");
            f.claim("exp", "1700000300");
        },
        OK,
    ),
    (
        "N130 exp a string",
        |f| f.claim("exp", "\"1700000300\""),
        Err(DpopError::ClaimType(Claim::Exp)),
    ),
    (
        "nbf a string",
        |f| f.claim("nbf", "\"1700000000\""),
        Err(DpopError::ClaimType(Claim::Nbf)),
    ),
    (
        "N132 nonce a number",
        |f| f.claim("nonce", "1"),
        Err(DpopError::ClaimType(Claim::Nonce)),
    ),
    (
        "N134 nonce null",
        |f| f.claim("nonce", "null"),
        Err(DpopError::ClaimType(Claim::Nonce)),
    ),
    (
        "no nonce where none is needed",
        |f| f.without_claim("nonce"),
        OK,
    ),
    (
        "no nonce where one is needed",
        |f| {
            f.without_claim("nonce");
            f.iat = IatRule::WITH_NONCE;
        },
        Err(DpopError::NonceMissing),
    ),
    (
        "N135 crit unknown",
        |f| f.head("crit", "[\"x\"]"),
        jws(JwsError::Crit),
    ),
    (
        "N136 crit empty",
        |f| f.head("crit", "[]"),
        jws(JwsError::Crit),
    ),
    (
        "N137 crit a string",
        |f| f.head("crit", "\"x\""),
        jws(JwsError::Crit),
    ),
    (
        "N138 crit names alg",
        |f| f.head("crit", "[\"alg\"]"),
        jws(JwsError::Crit),
    ),
    (
        "N139 b64 false with crit",
        |f| {
            f.head("crit", "[\"b64\"]");
            f.head("b64", "false");
        },
        jws(JwsError::Crit),
    ),
    (
        "N140 b64 false without crit",
        |f| f.head("b64", "false"),
        jws(JwsError::B64),
    ),
    (
        "N141 b64 true with crit",
        |f| {
            f.head("crit", "[\"b64\"]");
            f.head("b64", "true");
        },
        jws(JwsError::Crit),
    ),
    (
        "N142 alg twice",
        |f| f.head_first("alg", "\"none\""),
        header(JsonError::DuplicateMember),
    ),
    (
        "N143 typ twice",
        |f| f.head_first("typ", "\"JWT\""),
        header(JsonError::DuplicateMember),
    ),
    (
        "N144 jwk twice",
        |f| f.head_first("jwk", "{}"),
        header(JsonError::DuplicateMember),
    ),
    (
        "N145 jwk.x twice",
        |f| f.jwk.insert(0, ("x".to_owned(), "\"AA\"".to_owned())),
        header(JsonError::DuplicateMember),
    ),
    (
        "N146 htu twice",
        |f| f.claim_first("htu", "\"https://evil.example/\""),
        payload(JsonError::DuplicateMember),
    ),
    (
        "N147 jti twice",
        |f| f.claim_first("jti", "\"x\""),
        payload(JsonError::DuplicateMember),
    ),
    (
        "N148 jti twice, once escaped",
        |f| f.claim_first("j\\u0074i", "\"x\""),
        payload(JsonError::DuplicateMember),
    ),
    (
        "N149 payload an array",
        |f| f.payload = Some(format!("[{}]", f.payload_text()).into_bytes()),
        payload(JsonError::NotObject),
    ),
    (
        "N150 bytes after the payload",
        |f| f.payload = Some(format!("{}x", f.payload_text()).into_bytes()),
        payload(JsonError::TrailingBytes),
    ),
    (
        "N151 comment",
        |f| f.payload = Some(f.payload_text().replacen('{', "{/**/", 1).into_bytes()),
        payload(JsonError::Syntax),
    ),
    (
        "N152 byte order mark",
        |f| f.payload = Some(format!("\u{feff}{}", f.payload_text()).into_bytes()),
        payload(JsonError::NotObject),
    ),
    (
        "N153 payload not UTF-8",
        |f| {
            f.payload = Some(
                [
                    f.payload_text().trim_end_matches('}').as_bytes(),
                    b",\"x\":\"\xff\"}",
                ]
                .concat(),
            )
        },
        payload(JsonError::NotUtf8),
    ),
    (
        "N154 lone surrogate",
        |f| f.claim("x", "\"\\ud800\""),
        payload(JsonError::LoneSurrogate),
    ),
    (
        "N155 deep within the size bound",
        |f| f.claim("x", &format!("{}{}", "[".repeat(1000), "]".repeat(1000))),
        payload(JsonError::TooDeep),
    ),
    (
        "N155 5000 deep",
        |f| f.claim("x", &format!("{}{}", "[".repeat(5000), "]".repeat(5000))),
        Err(DpopError::TooLarge),
    ),
    (
        "N156 white space in the payload",
        |f| {
            f.payload =
                Some(format!(" \r\n{} \t", f.payload_text().replace(',', " , ")).into_bytes())
        },
        OK,
    ),
    (
        "N157 __proto__",
        |f| f.claim("__proto__", "{\"htm\":\"PUT\"}"),
        OK,
    ),
    (
        "N158 keys by reference",
        |f| {
            f.head("jku", "\"https://evil.example/\"");
            f.head("x5u", "\"https://evil.example/\"");
            f.head("x5c", "[\"MIIB\"]");
        },
        OK,
    ),
    ("N159 cty", |f| f.head("cty", "\"JWT\""), OK),
    ("N160 zip", |f| f.head("zip", "\"DEF\""), jws(JwsError::Zip)),
    (
        "N161 unknown members",
        |f| {
            f.head("unknown", "1.5e3");
            f.claim("unknown", "[null,{}]");
        },
        OK,
    ),
    (
        "N162 8 KiB",
        |f| f.claim("x", &format!("\"{}\"", "x".repeat(6000))),
        Err(DpopError::TooLarge),
    ),
    (
        "N163 64 KiB",
        |f| f.claim("x", &format!("\"{}\"", "x".repeat(48_000))),
        Err(DpopError::TooLarge),
    ),
    (
        "N164 ath without an access token",
        |f| f.access_token = None,
        OK,
    ),
    (
        "wrong ath without an access token",
        |f| {
            f.access_token = None;
            f.claim("ath", "1");
        },
        OK,
    ),
    (
        "N165 explicit default port",
        |f| f.htu(&HTU.replacen("example", "example:443", 1)),
        OK,
    ),
    (
        "N166 full-width letter in the host",
        |f| f.htu(&HTU.replacen("broker", "\u{ff42}roker", 1)),
        HTU_MALFORMED,
    ),
    (
        "N167 soft hyphen in the host",
        |f| f.htu(&HTU.replacen("broker", "bro\u{ad}ker", 1)),
        HTU_MALFORMED,
    ),
    (
        "N168 percent-encoded letter in the host",
        |f| f.htu(&HTU.replacen("broker", "%62roker", 1)),
        HTU_MALFORMED,
    ),
    (
        "N169 no ath",
        |f| f.without_claim("ath"),
        Err(DpopError::ClaimMissing(Claim::Ath)),
    ),
    (
        "ath a number",
        |f| f.claim("ath", "1"),
        Err(DpopError::ClaimType(Claim::Ath)),
    ),
    (
        "N170 ath of another token",
        |f| f.claim("ath", &format!("\"{}\"", ath("other"))),
        Err(DpopError::AthMismatch),
    ),
    (
        "N171 ath in hex",
        |f| {
            let hex: String = base64url::decode(&ath(ACCESS_TOKEN))
                .unwrap()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            f.claim("ath", &format!("\"{hex}\""));
        },
        Err(DpopError::AthMismatch),
    ),
    (
        "N172 ath with padding",
        |f| f.claim("ath", &format!("\"{}=\"", ath(ACCESS_TOKEN))),
        Err(DpopError::AthMismatch),
    ),
    (
        "N173 left half of ath",
        |f| {
            let half = base64url::encode(&base64url::decode(&ath(ACCESS_TOKEN)).unwrap()[..16]);
            f.claim("ath", &format!("\"{half}\""));
        },
        Err(DpopError::AthMismatch),
    ),
    (
        "N174 another key than the bound one",
        |f| f.bound_jkt = Some(key(Alg::Es256).public_key().thumbprint()),
        Err(DpopError::KeyMismatch),
    ),
    ("no key is bound", |f| f.bound_jkt = None, OK),
];

#[test]
fn each_change_of_a_valid_proof_has_its_verdict() {
    for (id, change, want) in ROWS {
        let mut forge = Forge::new();
        change(&mut forge);
        assert_eq!(forge.check().map(drop), *want, "{id}");
    }
}

/// The order in which faults are found, when a proof has several: cheap before dear, and all before replay.
#[test]
fn faults_are_found_in_order() {
    type Fault = fn(&mut Forge);
    let faults: &[(Fault, DpopError)] = &[
        (
            |f| f.values = |text| vec![text.clone().into_bytes(), text.into_bytes()],
            DpopError::Repeated,
        ),
        (
            |f| f.text = |text| format!("{text}.{}", "x".repeat(MAX_PROOF_BYTES)),
            DpopError::TooLarge,
        ),
        (|f| f.head("crit", "[]"), DpopError::Jws(JwsError::Crit)),
        (|f| f.head("typ", "\"JWT\""), DpopError::Typ),
        (
            |f| f.head("alg", "\"none\""),
            DpopError::Jws(JwsError::UnsupportedAlg),
        ),
        (
            |f| f.claim("nonce", "1"),
            DpopError::ClaimType(Claim::Nonce),
        ),
        (
            |f| f.jwk("use", "\"enc\""),
            DpopError::Jwk(JwkError::UseNotSig),
        ),
        (
            |f| f.sign_with(key(Alg::Es256)),
            DpopError::Jws(JwsError::BadSignature),
        ),
        (|f| f.claim("jti", "\"\""), DpopError::JtiLength),
        (
            |f| f.claim("iat", "0"),
            DpopError::TooOld {
                iat_s: 0,
                now_s: NOW_S,
            },
        ),
        (|f| f.claim("exp", "0"), DpopError::Expired),
        (|f| f.claim("htm", "\"PUT\""), DpopError::HtmMismatch),
        (|f| f.htu("https://other.example/"), DpopError::HtuMismatch),
        (|f| f.claim("ath", "\"x\""), DpopError::AthMismatch),
        (
            |f| f.bound_jkt = Some(Thumbprint::from_bytes([0; 32])),
            DpopError::KeyMismatch,
        ),
    ];
    for first in 0..faults.len() {
        let mut forge = Forge::new();
        for (fault, _) in faults.iter().skip(first) {
            fault(&mut forge);
        }
        assert_eq!(forge.check().map(drop), Err(faults[first].1));
    }
}
