//! The gateway's host form: a host for each target of each grant, so that a vendor's SDK needs a base URL alone.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use http::Method;
use tests::caller::{Caller, DPOP};
use tests::stack::{Blueprint, Stack};

#[tokio::test]
async fn a_host_of_its_own_is_a_resource_of_its_own() {
    let stack = Stack::with_grant(Blueprint {
        host: "keep.localhost",
        ..Default::default()
    })
    .await;
    let by_path = Caller::of(&stack).await;
    let gateway = stack.url("gateway_url").to_owned();
    let host = gateway.replacen("https://", "https://api--acme-crm.", 1);
    let by_host = by_path.for_resource(&host);
    assert_eq!(by_path.contacts().await.status, 200);

    // The certificate is good for it, and the path is the API's alone.
    let token = by_host.token().await;
    let reply = by_host.call(Method::GET, "/contacts", &token).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("tokenkeep-answered-by"), "api");
    // Paths that mean something below the gateway's own host are the API's here.
    for path in ["/token", "/g/acme-crm/api/contacts", "/echo-headers"] {
        let reply = by_host.call(Method::GET, path, &token).await;
        assert_eq!(reply.header("tokenkeep-answered-by"), "api", "{path}");
    }
    // References stay below it.
    let reply = by_host
        .call(Method::GET, "/redirect?to=/api/contacts", &token)
        .await;
    assert_eq!(reply.header("location"), format!("{host}/contacts"));

    // Each form has an audience and an htu of its own.
    let path_token = by_path.token().await;
    let reply = by_host.call(Method::GET, "/contacts", &path_token).await;
    assert_eq!(reply.refusal(), (401, "INVALID_TOKEN".to_owned()));
    let metadata = format!("{host}/.well-known/oauth-protected-resource");
    let challenge = reply.header("www-authenticate");
    assert!(challenge.ends_with(&format!("resource_metadata=\"{metadata}\"")));
    let told = by_host.https.get(&metadata).await.json();
    assert_eq!(told.get("resource").unwrap(), &host);
    let reply = by_path.call(Method::GET, "/contacts", &token).await;
    assert_eq!(reply.refusal(), (401, "INVALID_TOKEN".to_owned()));
    let nonce = by_host.gateway_nonce().await;
    let proof = by_host.proof("GET", &by_path.url("/contacts"), &nonce, Some(&token));
    let authorization = format!("DPoP {token}");
    let headers = [("authorization", authorization.as_str()), (DPOP, &proof)];
    let url = by_host.url("/contacts");
    let reply = by_host.https.send(Method::GET, &url, &headers, "").await;
    assert_eq!(reply.refusal(), (401, "INVALID_DPOP_PROOF".to_owned()));

    // A label that names nothing is not an API's, whatever its path.
    let other = gateway.replacen("https://", "https://api.", 1);
    let reply = by_host.https.get(&format!("{other}/contacts")).await;
    assert_eq!(reply.refusal(), (400, "INVALID_PATH".to_owned()));
}
