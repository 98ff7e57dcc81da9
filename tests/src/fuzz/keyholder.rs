//! What enclaves and keyholders send each other, and the share files that people type.

use ::attestation::keyholder::{Answer, Call, Operation, Request, WireAnswer};
use ::attestation::{Endorsements, Evidence};
use ring::rand::SystemRandom;
use tokenkeep::recovery::{RecoveryShare, split};

use super::Target;

pub(super) const KEYHOLDER: Target = Target {
    name: "client_keyholder",
    run: message,
    seeds: message_seeds,
};
pub(super) const RECOVERY: Target = Target {
    name: "client_recovery",
    run: share,
    seeds: share_seeds,
};

fn request() -> Request {
    Request {
        operation: Operation::Release,
        keyholder: [1; 32],
        issuer: "https://tokens.example".to_owned(),
        state: [2; 16],
        share: [3; 16],
        recipient: [4; 32],
        manifest: [5; 32],
    }
}

/// A call, an answer, or the request inside a call.
fn message(input: &[u8]) -> bool {
    if let Ok(call) = Call::from_json(input) {
        let again = call.to_json().unwrap();
        assert_eq!(Call::from_json(again.as_bytes()).unwrap(), call);
        return true;
    }
    if let Ok(answer) = WireAnswer::from_json(input) {
        let again = answer.to_json().unwrap();
        assert_eq!(WireAnswer::from_json(again.as_bytes()).unwrap(), answer);
        return true;
    }
    let Ok(request) = Request::decode(input) else {
        return false;
    };
    assert_eq!(request.encode(), input, "a request has one encoding");
    true
}

fn message_seeds() -> Vec<Vec<u8>> {
    let call = Call {
        nonce: [6; 32],
        request: request(),
        evidence: Evidence::snp(vec![1, 2, 3], Endorsements::default()),
        manifest: "sequence = 1\n".to_owned(),
        manifest_signature: "{\"alg\":\"ES256\"}".to_owned(),
    };
    let answer = Answer::decode(&[7; 64 + 32 + 48]).unwrap();
    let refused = WireAnswer::Refused {
        reason: "UNKNOWN_SHARE".to_owned(),
        message: "there is no such share".to_owned(),
    };
    let answers = [
        WireAnswer::Nonce([9; 32]),
        WireAnswer::Answer(answer),
        refused,
    ];
    let answers = answers.map(|answer| answer.to_json().unwrap().into_bytes());
    [
        vec![call.to_json().unwrap().into_bytes(), request().encode()],
        answers.to_vec(),
    ]
    .concat()
}

fn share(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else {
        return false;
    };
    let Ok(share) = RecoveryShare::from_text(text) else {
        return false;
    };
    let again = RecoveryShare::from_text(&share.to_text()).unwrap();
    assert_eq!(again.to_text().as_str(), share.to_text().as_str());
    true
}

fn share_seeds() -> Vec<Vec<u8>> {
    let set = split(2, 3, &SystemRandom::new()).unwrap();
    let texts = set.iter().map(|share| share.to_text());
    texts.map(|text| text.as_bytes().to_vec()).collect()
}
