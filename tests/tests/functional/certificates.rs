//! Clients with certificates: tokens that are bound to them [RFC 8705], and workloads that are known by their SPIFFE IDs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::fs;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use dev::{lab, names};
use http::Method;
use proto::v1;
use proto::v1::token_service_client::TokenServiceClient;
use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use testkit::pki::{Authority, ClientCertificate, client_certificate};
use tests::caller::{Caller, DPOP, refused};
use tests::https::Https;
use tests::stack::{Blueprint, Stack, sign};
use tokenkeep::rpc_error::answer;
use tokenkeep::{AttestedChannel, ClientIdentity};
use tonic::Code;

/// The claims of a token, unverified.
fn claims(token: &str) -> Value {
    let claims = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&Base64UrlUnpadded::decode_vec(claims).unwrap()).unwrap()
}

fn https(stack: &Stack, caller: &Caller) -> Https {
    let read = |name| fs::read(stack.files().path(name)).unwrap();
    let ca = &caller.channel.bundle().enclave_ca_der;
    Https::with_certificate(ca, &read(lab::CLIENT_CERT), &read(lab::CLIENT_KEY))
}

fn https_of(caller: &Caller, certificate: &ClientCertificate) -> Https {
    let key = certificate.key_pem.expose_secret();
    let ca = &caller.channel.bundle().enclave_ca_der;
    Https::with_certificate(ca, certificate.pem.as_bytes(), key.as_bytes())
}

#[tokio::test]
async fn a_token_is_bound_to_the_certificate_of_a_client_that_prefers_it() {
    let stack = Stack::with_grant(Blueprint::default()).await;
    let caller = Caller::of(&stack).await;
    let bound = v1::IssueTokenRequest {
        binding: v1::TokenBinding::Certificate.into(),
        ..caller.request()
    };
    // One thing a token is bound to.
    let nonce = caller.nonce().await;
    let proof = caller.issue_proof(&nonce);
    let both = Box::pin(caller.issue(bound.clone(), &[&proof])).await;
    let invalid = (Code::InvalidArgument, "INVALID_REQUEST".to_owned());
    assert_eq!(refused(both.unwrap_err()), invalid);
    let unknown = v1::IssueTokenRequest {
        binding: 9,
        ..caller.request()
    };
    let unknown = Box::pin(caller.issue(unknown, &[&proof])).await;
    assert_eq!(refused(unknown.unwrap_err()), invalid);

    let issued = Box::pin(caller.issue(bound, &[])).await.unwrap();
    assert_eq!(issued.token_type, "Bearer");
    let token = issued.access_token;
    let pem = fs::read(stack.files().path(lab::CLIENT_CERT)).unwrap();
    let der = CertificateDer::from_pem_slice(&pem).unwrap();
    let x5t = Base64UrlUnpadded::encode_string(digest(&SHA256, &der).as_ref());
    assert_eq!(
        claims(&token)["cnf"],
        serde_json::json!({ "x5t#S256": x5t })
    );

    let own = https(&stack, &caller);
    let thief = https_of(&caller, &client_certificate("client").unwrap());
    let url = caller.url("/contacts");
    let bearer = format!("Bearer {token}");
    let show = async |https: &Https, headers: &[(&str, &str)]| {
        https.send(Method::GET, &url, headers, "").await
    };
    let good = show(&own, &[("authorization", &bearer)]).await;
    assert_eq!(good.status, 200);
    // M01, M02, M05: no certificate, another one of the same name, a header that says so.
    let invalid = (401, "INVALID_TOKEN".to_owned());
    for https in [&caller.https, &thief] {
        let headers = [
            ("authorization", bearer.as_str()),
            ("x-forwarded-client-cert", &format!("Hash={x5t}")),
        ];
        assert_eq!(show(https, &headers).await.refusal(), invalid);
    }
    // M03: with a proof instead.
    let nonce = caller.gateway_nonce().await;
    let proof = caller.proof("GET", &url, &nonce, Some(&token));
    let dpop = format!("DPoP {token}");
    let headers = [("authorization", dpop.as_str()), (DPOP, &proof)];
    assert_eq!(show(&own, &headers).await.refusal(), invalid);

    // A token of a proof's key is no bearer token, whatever the certificate.
    let other = caller.token().await;
    let bearer = format!("Bearer {other}");
    let reply = show(&own, &[("authorization", &bearer)]).await;
    assert_eq!(reply.refusal(), invalid);
}

#[tokio::test]
async fn an_ordinary_library_gets_a_token_by_its_certificate() {
    let stack = Stack::with_grant(Blueprint::default()).await;
    let caller = Caller::of(&stack).await;
    let public = stack.url("public_url");
    let metadata = format!("{public}/.well-known/oauth-authorization-server");
    let metadata = caller.https.get(&metadata).await.json();
    let alias = |name: &str| {
        let alias = metadata["mtls_endpoint_aliases"][name].as_str();
        alias.unwrap().to_owned()
    };
    let own = https(&stack, &caller);
    let post = async |https: &Https, url: &str, body: String| {
        let form = [("content-type", "application/x-www-form-urlencoded")];
        https.send(Method::POST, url, &form, body).await
    };
    let resource = stack.resource();
    let form = format!(
        "grant_type=client_credentials&client_id={}&resource={resource}",
        names::CLIENT
    );
    let endpoint = alias("token_endpoint");
    let reply = post(&own, &endpoint, form.clone()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let answer = reply.json();
    assert_eq!(answer["token_type"], "Bearer");
    let token = answer["access_token"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let url = caller.url("/contacts");
    let good = own.send(Method::GET, &url, &headers, "").await;
    assert_eq!(good.status, 200);

    let introspect = alias("introspection_endpoint");
    let told = post(&own, &introspect, format!("token={token}"))
        .await
        .json();
    assert_eq!(
        (&told["active"], &told["token_type"]),
        (&true.into(), &"Bearer".into())
    );
    assert!(told["cnf"]["x5t#S256"].is_string());
    let revoke = alias("revocation_endpoint");
    assert_eq!(
        post(&own, &revoke, format!("token={token}")).await.status,
        200
    );
    let gone = own.send(Method::GET, &url, &headers, "").await;
    assert_eq!(gone.refusal(), (401, "INVALID_TOKEN".to_owned()));

    // Without a certificate there is nobody; at the public door none is asked for.
    for url in [endpoint, format!("{public}/token")] {
        let reply = post(&caller.https, &url, form.clone()).await;
        assert_eq!(
            (reply.status.as_u16(), reply.json()["error"].clone()),
            (401, "invalid_client".into())
        );
    }
    let reply = post(&own, &format!("{public}/token"), form).await;
    assert_eq!(reply.json()["error"], "invalid_client");
}

/// The stack's channel settings with another certificate.
async fn channel(stack: &Stack, certificate: &ClientCertificate) -> AttestedChannel {
    let config = stack.files().client_config(stack.url("grpc_url"));
    let mut config = config.unwrap();
    let key = certificate.key_pem.expose_secret();
    let identity = ClientIdentity::from_pem(certificate.pem.as_bytes(), key.as_bytes());
    config.client_identity = Some(identity.unwrap());
    Box::pin(AttestedChannel::connect(&config)).await.unwrap()
}

#[tokio::test]
async fn a_workload_is_known_by_its_spiffe_id_whatever_its_key() {
    const ID: &str = "spiffe://workloads.test/worker";
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    let authority = Authority::new("workloads").unwrap();
    let domain = format!(
        "\n[[trust_domains]]\nname = \"workloads.test\"\nvendor = \"{}\"\nbundle_pem = [\"\"\"{}\"\"\"]\n",
        names::VENDOR,
        authority.pem()
    );
    sign(stack.files(), |manifest| {
        manifest.replacen("sequence = 1\n", "sequence = 2\n", 1) + &domain
    });
    stack.stop().await;
    stack.restart().await;

    let admin = stack.admin().await;
    let update = v1::UpdateClientRequest {
        client: Some(v1::Client {
            id: names::CLIENT.to_owned(),
            vendor: names::VENDOR.to_owned(),
            spiffe_id: ID.to_owned(),
            ..Default::default()
        }),
    };
    let updated = answer(admin.registry().update_client(update)).await;
    assert_eq!(updated.unwrap().into_inner().client.unwrap().spiffe_id, ID);

    let asked = async |certificate: &ClientCertificate| {
        let channel = channel(&stack, certificate).await;
        let transport = channel.transport().clone();
        let mut client = TokenServiceClient::with_origin(transport, stack.grpc_uri());
        let request = v1::IssueTokenRequest {
            grant: names::GRANT.to_owned(),
            resource: stack.resource(),
            binding: v1::TokenBinding::Certificate.into(),
            ..Default::default()
        };
        let issued = client.issue_token(request).await;
        issued
            .map(|issued| issued.into_inner().token_type)
            .map_err(refused)
    };
    // Any key that the trust domain vouches for; a rotation needs nobody.
    for _ in 0..2 {
        let svid = authority.svid(ID).unwrap();
        assert_eq!(asked(&svid).await, Ok("Bearer".to_owned()));
    }
    let nobody = Err((Code::Unauthenticated, "INVALID_CLIENT".to_owned()));
    let other_workload = authority.svid("spiffe://workloads.test/other").unwrap();
    let other_authority = Authority::new("workloads").unwrap().svid(ID).unwrap();
    let self_signed = client_certificate("worker").unwrap();
    for certificate in [other_workload, other_authority, self_signed] {
        assert_eq!(asked(&certificate).await, nobody);
    }
    // The key that was registered before is nobody's.
    let caller = Caller::of(&stack).await;
    let refusal = Box::pin(caller.issue(caller.request(), &[])).await;
    assert_eq!(refused(refusal.unwrap_err()).1, "INVALID_CLIENT");
}
