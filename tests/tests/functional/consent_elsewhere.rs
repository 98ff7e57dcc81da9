//! Owners who consent in a browser elsewhere: by device, at a real authorization server, and by the public listener's
//! page, which hears what strangers send as well.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::process::Stdio;

use dev::{lab, names};
use proto::v1::{self, ClientAuthMethod, ConnectProgress, GrantState};
use serde_json::{Value, json};
use testkit::node::OidcProvider;
use tests::binary::binary;
use tests::browser::Browser;
use tests::caller::{Caller, refused};
use tests::https::{Https, Reply};
use tests::oidc::{self, APP, GRANT};
use tests::process::Process;
use tests::stack::Stack;
use tokenkeep::rpc_error::answer;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::provider_consent::{CLIENT, command, ended, world};

fn words() -> Vec<&'static str> {
    let mut words = vec!["grant", "connect", "--tenant", names::TENANT, "--app", APP];
    words.extend(["--grant", GRANT, "--client", names::CLIENT]);
    words.extend(["--target", names::TARGET]);
    for scope in names::SCOPES {
        words.extend(["--scope", scope]);
    }
    words
}

fn by_device(stack: &Stack) -> Process {
    let words = [&words()[..], &["--device"]].concat();
    command(stack, "device", &words)
}

/// A stack, a provider for devices, and an app there.
async fn devices(config: Value) -> (Stack, OidcProvider) {
    let (stack, provider) = world(config, false, None).await;
    let method = ClientAuthMethod::PrivateKeyJwt;
    oidc::app_with_key(&stack, &provider, CLIENT, method).await;
    (stack, provider)
}

#[tokio::test]
async fn an_owner_consents_by_device_and_the_device_code_stays_inside() {
    let (stack, provider) = devices(json!({ "pages": true, "device": true })).await;
    let mut process = by_device(&stack);
    let shown = process.ready().await.unwrap();
    assert!(shown.get("device_code").is_none(), "{shown}");
    let code = shown["user_code"].as_str().unwrap();
    let link = shown["verification_uri_complete"].as_str().unwrap();
    assert!(link.starts_with(shown["verification_uri"].as_str().unwrap()));
    assert!(
        link.contains(&code.replace('-', "")) || link.contains(code),
        "{link}"
    );
    let (status, page) = Browser::of("alice").at_device(link, true).await;
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("Sign-in Success"), "{page}");
    let (exit, grant, told) = ended(&stack, process, "device").await;
    assert_eq!(exit, 0, "{told}");
    assert_eq!(
        (&grant["id"], &grant["state"]),
        (&json!(GRANT), &json!("active"))
    );
    assert_eq!(grant["exposed_before_deposit"], false);
    let caller = Caller::of(&stack).await.at(GRANT);
    let reply = oidc::contacts(&caller, &[]).await;
    assert_eq!(reply.status, 200, "{:?} {}", reply.body, stack.log());
    assert_eq!(reply.json()["owner"], json!("alice"));
    provider.stop().await.unwrap();
}

#[tokio::test]
async fn a_device_whose_owner_says_no_or_is_late_comes_to_nothing() {
    let (stack, provider) = devices(json!({ "pages": true, "device": true })).await;
    let mut process = by_device(&stack);
    let shown = process.ready().await.unwrap();
    let link = shown["verification_uri_complete"].as_str().unwrap();
    Browser::of("alice").at_device(link, false).await;
    let (exit, _, told) = ended(&stack, process, "device").await;
    assert_eq!(exit, 1, "{told}");
    assert!(told.contains("CONNECT_DENIED"), "{told}");
    provider.stop().await.unwrap();

    let short = json!({ "pages": true, "device": true, "device_code_ttl_s": 1 });
    let (stack, provider) = devices(short).await;
    let process = by_device(&stack);
    let (exit, _, told) = ended(&stack, process, "device").await;
    assert_eq!(exit, 1, "{told}");
    assert!(told.contains("CONNECT_TOO_LATE"), "{told}");
    provider.stop().await.unwrap();
}

/// The command that waits for what its owner types.
fn by_page(stack: &Stack) -> Child {
    let file = |name: &str| stack.files().path(name).to_str().unwrap().to_owned();
    let variables = [
        ("TOKENKEEP_SERVER", stack.url("grpc_url").to_owned()),
        ("TOKENKEEP_POLICY", file(lab::POLICY)),
        ("TOKENKEEP_ALLOW_EMULATED", file(lab::ROOT)),
        ("TOKENKEEP_CERT", file(lab::ADMIN_CERT)),
        ("TOKENKEEP_KEY", file(lab::ADMIN_KEY)),
    ];
    Command::new(binary("tokenkeep"))
        .arg("--json")
        .args(words())
        .arg("--public")
        .env_clear()
        .envs(variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

fn text(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.body).into_owned()
}

/// What holds of each page, whatever it says.
fn assert_harmless(reply: &Reply) {
    let page = text(reply);
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        assert_eq!(reply.header(name), value, "{page}");
    }
    let policy = reply.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    for active in [
        "<script",
        "<img",
        "<a ",
        "<form",
        "<link",
        "<style",
        "javascript:",
    ] {
        assert!(!page.contains(active), "{active}: {page}");
    }
}

#[tokio::test]
async fn a_browser_of_another_machine_comes_back_to_the_public_listener() {
    let (stack, provider) = world(json!({ "pages": true }), false, None).await;
    let app = oidc::app(&stack, CLIENT, ClientAuthMethod::PrivateKeyJwt).await;
    let jwks: Value = serde_json::from_str(&app.jwks).unwrap();
    let back = format!("{}/connect/callback", stack.url("public_url"));
    let client = json!({
        "client_id": CLIENT, "token_endpoint_auth_method": "private_key_jwt", "jwks": jwks,
        "application_type": "web", "redirect_uris": [back],
    });
    provider.register(&client).await.unwrap();
    let mut command = by_page(&stack);
    let mut out = BufReader::new(command.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).await.unwrap();
    let shown: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(shown["redirect_uri"], json!(back));
    let url = shown["authorization_url"].as_str().unwrap();
    let to = Browser::of("alice").consent(url, &back).await;

    let admin = stack.admin().await;
    let https = Https::trusting(&admin.bundle().enclave_ca_der);
    let page = https.get(&to).await;
    assert_eq!(page.status, 200, "{}", text(&page));
    assert_harmless(&page);
    let shown = text(&page);
    for plain in [
        "This is to be granted.",
        GRANT,
        APP,
        names::CLIENT,
        names::TENANT,
    ] {
        assert!(shown.contains(plain), "{plain}: {shown}");
    }
    // Nothing is granted yet, and another visit shows nothing.
    let request = v1::GetGrantRequest {
        id: GRANT.to_owned(),
    };
    let absent = admin.grants().get_grant(request).await.map_err(refused);
    assert_eq!(absent.unwrap_err().1, "NOT_FOUND");
    let again = https.get(&to).await;
    assert_eq!(again.status, 400);
    assert!(!text(&again).contains(GRANT), "{}", text(&again));

    let (_, rest) = shown.split_once("<strong>").unwrap();
    let (code, _) = rest.split_once("</strong>").unwrap();
    let mut typing = command.stdin.take().unwrap();
    let typed = format!("BBBB-BBBB\n{}\n", code.to_lowercase());
    typing.write_all(typed.as_bytes()).await.unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).await.unwrap();
    let ended = command.wait_with_output().await.unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{told}");
    assert!(told.contains("CONNECT_CONFIRMATION"), "{told}");
    let grant: Value = serde_json::from_str(rest.trim()).unwrap();
    assert_eq!(
        (&grant["id"], &grant["state"]),
        (&json!(GRANT), &json!("active"))
    );
    let caller = Caller::of(&stack).await.at(GRANT);
    let reply = oidc::contacts(&caller, &[]).await;
    assert_eq!(reply.json()["owner"], json!("alice"), "{}", stack.log());
    assert_eq!(stack.grant(GRANT).await.state(), GrantState::Active);
    provider.stop().await.unwrap();
}

#[tokio::test]
async fn what_strangers_send_to_the_page_comes_to_nothing() {
    let (stack, provider) = world(json!({ "pages": true }), false, None).await;
    oidc::app(&stack, CLIENT, ClientAuthMethod::PrivateKeyJwt).await;
    let admin = stack.admin().await;
    let https = Https::trusting(&admin.bundle().enclave_ca_der);
    let page = format!("{}/connect/callback", stack.url("public_url"));
    let begin = async || {
        let request = v1::BeginConnectRequest {
            grant: Some(v1::Grant {
                id: GRANT.to_owned(),
                tenant: names::TENANT.to_owned(),
                app: APP.to_owned(),
                clients: vec![names::CLIENT.to_owned()],
                targets: vec![names::TARGET.to_owned()],
                scopes: vec!["<script>alert('1')</script>&".to_owned()],
                ..v1::Grant::default()
            }),
            redirect_uri: String::new(),
        };
        let begun = answer(admin.grants().begin_connect(request)).await;
        begun.unwrap().into_inner().state
    };
    let happened = async |state: &str| {
        let request = v1::AwaitConnectRequest {
            handle: state.to_owned(),
        };
        let answer = admin.grants().await_connect(request).await;
        let happened = answer.map(|answer| answer.into_inner().progress());
        happened.map_err(|status| refused(status).1)
    };
    let issuer = provider
        .endpoints()
        .issuer
        .replace(':', "%3A")
        .replace('/', "%2F");
    let state = begin().await;
    let long = "x".repeat(5_000);
    for query in [
        "".to_owned(),
        "code=c".to_owned(),
        format!("state={state}"),
        format!("state={state}&code=c&code=d&iss={issuer}"),
        format!("state={state}&state={state}&code=c&iss={issuer}"),
        format!("state={state}&code=c&error=e&iss={issuer}"),
        format!("state={state}&code=c%00&iss={issuer}"),
        format!("state={state}&code={long}&iss={issuer}"),
        format!("state={state}x&code=c&iss={issuer}"),
        format!("state=%3Cscript%3Ealert(1)%3C%2Fscript%3E&code=c&iss={issuer}"),
        "state=x&error=%3Cscript%3Ealert(1)%3C%2Fscript%3E".to_owned(),
    ] {
        let reply = https.get(&format!("{page}?{query}")).await;
        assert_eq!(reply.status, 400, "{query:.120}");
        assert_harmless(&reply);
        assert!(!text(&reply).contains(GRANT), "{query:.120}");
    }
    // Another issuer's answer ends it, and whoever waits learns why.
    let evil = "https%3A%2F%2Fevil.example";
    let reply = https
        .get(&format!("{page}?state={state}&code=c&iss={evil}"))
        .await;
    assert_eq!(reply.status, 400);
    assert_harmless(&reply);
    assert_eq!(
        happened(&state).await,
        Err("CONNECT_OTHER_ISSUER".to_owned())
    );
    let reply = https
        .get(&format!("{page}?state={state}&code=c&iss={issuer}"))
        .await;
    assert_eq!(reply.status, 400);
    // So does an answer without one, and the owner's no.
    let state = begin().await;
    let reply = https.get(&format!("{page}?state={state}&code=c")).await;
    assert_eq!(reply.status, 400);
    assert_eq!(happened(&state).await, Err("CONNECT_NO_ISSUER".to_owned()));
    let state = begin().await;
    let no = format!("{page}?state={state}&error=access_denied&iss={issuer}");
    let reply = https.get(&no).await;
    assert_eq!(reply.status, 200);
    assert_harmless(&reply);
    assert_eq!(happened(&state).await, Err("CONNECT_DENIED".to_owned()));

    // What the tenant named itself is text in the page.
    let state = begin().await;
    let reply = https
        .get(&format!("{page}?state={state}&code=c&iss={issuer}"))
        .await;
    assert_eq!(reply.status, 200);
    assert_harmless(&reply);
    let escaped = "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;";
    assert!(text(&reply).contains(escaped), "{}", text(&reply));
    assert_eq!(happened(&state).await, Ok(ConnectProgress::CameBack));
    // Only the one at the browser knows what to type, and guessing ends it.
    let confirm = async |confirmation: &str| {
        let request = v1::CompleteConnectRequest {
            state: state.clone(),
            confirmation: confirmation.to_owned(),
            ..v1::CompleteConnectRequest::default()
        };
        let done = admin.grants().complete_connect(request).await;
        done.map(|_| ()).map_err(|status| refused(status).1)
    };
    for guess in [
        "BBBB-BBBB",
        "CCCC-CCCC",
        "DDDD-DDDD",
        "FFFF-FFFF",
        "GGGG-GGGG",
    ] {
        assert_eq!(confirm(guess).await, Err("CONNECT_CONFIRMATION".to_owned()));
    }
    let under_way = "CONNECT_NOT_UNDER_WAY".to_owned();
    assert_eq!(confirm("HHHH-HHHH").await, Err(under_way.clone()));
    // The code does not go around the page either.
    let state = begin().await;
    let request = v1::CompleteConnectRequest {
        state,
        code: "c".to_owned(),
        ..v1::CompleteConnectRequest::default()
    };
    let around = admin.grants().complete_connect(request).await;
    assert_eq!(refused(around.unwrap_err()).1, under_way);
    provider.stop().await.unwrap();
}
