//! Lists from a service on loopback that answers with AMD's paths.

use std::convert::Infallible;

use http::Response;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use tempfile::TempDir;
use testkit::snp::{DevelopmentKey, RevocationListSpec, SnpPlatform};
use tokio::net::TcpListener;

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

/// A service that knows one path, and what it answers there.
async fn service(path: &'static str, status: u16, body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let body = body.clone();
            let answer = service_fn(move |request: Request<Incoming>| {
                let known = request.uri().path() == path;
                let answer = Response::builder()
                    .status(if known { status } else { 404 })
                    .header(RETRY_AFTER, "11")
                    .body(Full::new(Bytes::from(body.clone())));
                async move { Ok::<_, Infallible>(answer.unwrap()) }
            });
            tokio::spawn(async move {
                server::Builder::new()
                    .serve_connection(TokioIo::new(tcp), answer)
                    .await
                    .unwrap_or_default();
            });
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn a_list_is_fetched_and_kept_and_its_number_only_rises() {
    let platform = SnpPlatform::development([7; 32]).unwrap();
    let roots = Roots::with_emulated(platform.root_pem()).unwrap();
    let line = roots
        .read_revocation_list(&list(&platform, 7))
        .unwrap()
        .line;
    let path: &'static str = format!("/vcek/v1/{line}/crl").leak();
    let folder = TempDir::new().unwrap();
    let store = Store::new(folder.path());
    for (number, expected) in [(7, true), (6, false), (7, true), (9, true), (8, false)] {
        let der = list(&platform, number);
        let fetched = fetch(&service(path, 200, der.clone()).await, line)
            .await
            .unwrap();
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
        (path, 429, 10, "127.0.0.1 has had too many requests"),
        (path, 500, 10, "127.0.0.1 answers with status 500"),
        ("/other", 200, 10, "127.0.0.1 answers with status 404"),
        (
            path,
            200,
            MAX_LIST_BYTES + 1,
            "127.0.0.1 was not reached: length limit exceeded",
        ),
    ];
    for (path, status, bytes, expected) in rows {
        let endpoint = service(path, status, vec![b'x'; bytes]).await;
        let error = fetch(&endpoint, Line::Milan).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
        if let CollateralError::Busy { retry_after_s, .. } = error {
            assert_eq!(retry_after_s, Some(11));
        }
    }
    for endpoint in ["ftp://127.0.0.1", "kds", "http://"] {
        let error = fetch(endpoint, Line::Milan).await.unwrap_err();
        assert!(matches!(error, CollateralError::Url { .. }), "{error}");
    }
}
