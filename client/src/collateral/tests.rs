//! Collateral from a service on loopback that answers at AMD's and Intel's paths.

use attestation::Roots;
use attestation::tdx::{PckCa, PlatformModel};
use http::StatusCode;
use tempfile::TempDir;
use testkit::endorser::Endorser;
use testkit::snp::{DevelopmentKey, RevocationListSpec, SnpPlatform};
use testkit::tdx::{FMSPC, TdFields, TdxPlatform};

use super::ask::MAX_ANSWER_BYTES;
use super::*;

fn list(platform: &SnpPlatform, number: u8) -> Vec<u8> {
    RevocationListSpec {
        issuer: platform.chain().ark.subject.clone(),
        number: Some(vec![number]),
        this_update: "261101000000Z".to_owned(),
        next_update: Some("261201000000Z".to_owned()),
        revoked: vec![vec![9, 9]],
        extensions: vec![],
    }
    .sign(DevelopmentKey::Ark)
    .unwrap()
}

#[tokio::test]
async fn a_list_is_fetched_and_kept_and_its_number_only_rises() {
    let platform = SnpPlatform::development([7; 32]).unwrap();
    let roots = Roots::with_emulated(platform.root_pem()).unwrap();
    let line = roots
        .read_revocation_list(&list(&platform, 7))
        .unwrap()
        .line;
    let service = Endorser::start().await.unwrap();
    let folder = TempDir::new().unwrap();
    let store = Store::new(folder.path());
    for (number, expected) in [(7, true), (6, false), (7, true), (9, true), (8, false)] {
        let der = list(&platform, number);
        service.put(&format!("/vcek/v1/{line}/crl"), der.clone());
        let fetched = fetch(service.url(), line).await.unwrap();
        assert_eq!(fetched, der);
        match store.keep(line, &fetched, &roots) {
            Ok(summary) => {
                assert!(expected, "{number}");
                assert_eq!(summary.number, format!("{number:02x}"));
                assert_eq!(store.lists().unwrap(), [(line, der)]);
            }
            Err(error) => {
                assert!(!expected, "{number}: {error}");
                assert!(matches!(
                    error,
                    CollateralError::List(RevocationError::Older)
                ));
            }
        }
    }
    // Not AMD's root: a verifier that was not handed the development root takes nothing from it.
    let amd = Roots::amd().unwrap();
    let error = store.keep(line, &list(&platform, 20), &amd).unwrap_err();
    assert!(matches!(
        error,
        CollateralError::List(RevocationError::UnknownIssuer)
    ));
    let other = Line::ALL.into_iter().find(|other| *other != line).unwrap();
    let error = store.keep(other, &list(&platform, 20), &roots).unwrap_err();
    assert!(
        matches!(error, CollateralError::Line { expected, found } if expected == other && found == line)
    );
    assert_eq!(store.lists().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_no_list_is_told_apart() {
    let path = "/vcek/v1/Milan/crl";
    let rows = [
        (path, Some(429), 10, "127.0.0.1 has had too many requests"),
        (path, Some(500), 10, "127.0.0.1 answers with status 500"),
        ("/other", None, 10, "127.0.0.1 answers with status 404"),
        (
            path,
            None,
            MAX_ANSWER_BYTES + 1,
            "127.0.0.1 was not reached: length limit exceeded",
        ),
    ];
    for (path, status, bytes, expected) in rows {
        let service = Endorser::start().await.unwrap();
        service.put(path, vec![b'x'; bytes]);
        service.fail(status.map(|status| StatusCode::from_u16(status).unwrap()));
        let error = fetch(service.url(), Line::Milan).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    for endpoint in ["ftp://127.0.0.1", "kds", "http://"] {
        let error = fetch(endpoint, Line::Milan).await.unwrap_err();
        assert!(matches!(error, CollateralError::Url { .. }), "{error}");
    }
}

const MODEL: PlatformModel = PlatformModel {
    fmspc: FMSPC,
    ca: PckCa::Platform,
};

#[tokio::test]
async fn intels_statements_are_fetched_and_kept_and_get_only_newer() {
    let platform = TdxPlatform::new().unwrap();
    let roots = Roots::with_emulated(platform.root_pem()).unwrap();
    let service = Endorser::start().await.unwrap();
    let folder = TempDir::new().unwrap();
    let store = Store::new(folder.path());
    let base = TdFields {
        issue_day: 10,
        ..TdFields::default()
    };
    let rows = [
        (base.clone(), None),
        (
            TdFields {
                evaluation_number: 19,
                ..base.clone()
            },
            Some("the TCB info"),
        ),
        (
            TdFields {
                issue_day: 9,
                ..base.clone()
            },
            Some("the TCB info"),
        ),
        (
            TdFields {
                crl_number: 6,
                ..base.clone()
            },
            Some("the root's revocation list"),
        ),
        (
            TdFields {
                evaluation_number: 21,
                crl_number: 300,
                ..base.clone()
            },
            None,
        ),
        // 300 has two bytes, 255 one.
        (
            TdFields {
                evaluation_number: 21,
                crl_number: 255,
                ..base.clone()
            },
            Some("the root's revocation list"),
        ),
        (base, Some("the TCB info")),
    ];
    for (fields, older) in rows {
        let minted = platform.evidence(&fields).unwrap().collateral;
        service.put_collateral(&minted);
        let json = fetch_statements(service.url(), &service.root_crl_url(), &MODEL)
            .await
            .unwrap();
        let before = store.statements().unwrap();
        match (store.keep_statements(&MODEL, &json, &roots), older) {
            (Ok(summary), None) => {
                assert_eq!(summary.tcb_evaluation_number, fields.evaluation_number);
                assert_eq!(store.statements().unwrap(), [(MODEL, json)]);
            }
            (Err(CollateralError::Statements(StatementError::Older { part })), Some(older)) => {
                assert_eq!(part, older);
                assert_eq!(store.statements().unwrap(), before);
            }
            (other, older) => panic!("{other:?} {older:?}"),
        }
    }
    // What a store holds is taken in whole.
    let mut with_store = roots.clone();
    store.load(&mut with_store).unwrap();
    let error = store.load(&mut Roots::amd().unwrap()).unwrap_err();
    assert!(
        matches!(
            error,
            CollateralError::Statements(StatementError::UnknownRoot)
        ),
        "{error}"
    );
}

#[tokio::test]
async fn answers_that_are_no_statements_are_told_apart() {
    let platform = TdxPlatform::new().unwrap();
    let service = Endorser::start().await.unwrap();
    let ask = || fetch_statements(service.url(), "http://127.0.0.1:1/", &MODEL);
    let error = ask().await.unwrap_err();
    assert!(matches!(error, CollateralError::Status { status: 404, .. }));
    service.put_collateral(&platform.evidence(&TdFields::default()).unwrap().collateral);
    // The root's list is at an address of its own, where nobody listens.
    let error = ask().await.unwrap_err();
    assert!(
        matches!(error, CollateralError::Unreached { .. }),
        "{error}"
    );
    // Without the header that names the signer.
    service.put("/tdx/certification/v4/qe/identity?update=standard", "{}");
    let root_crl = service.root_crl_url();
    let error = fetch_statements(service.url(), &root_crl, &MODEL).await;
    let error = error.unwrap_err();
    assert!(
        matches!(
            error,
            CollateralError::Answer {
                source: PcsError::Body { .. },
                ..
            }
        ),
        "{error:?}"
    );
    // Of another model than the file's name says.
    let roots = Roots::with_emulated(platform.root_pem()).unwrap();
    let folder = TempDir::new().unwrap();
    let other = PlatformModel {
        ca: PckCa::Processor,
        ..MODEL
    };
    let json = platform.evidence(&TdFields::default()).unwrap().collateral;
    let error = Store::new(folder.path())
        .keep_statements(&other, &json, &roots)
        .unwrap_err();
    assert!(matches!(error, CollateralError::Model { .. }), "{error}");
}
