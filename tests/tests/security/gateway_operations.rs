//! What may be called at a target that lists operations: those, as far as the grant has them.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use http::Method;
use proto::v1;
use testkit::provider::Event;
use tests::caller::Caller;
use tests::stack::Stack;
use tests::targets;

fn operation(id: &str, method: &str, path: &str) -> v1::Operation {
    v1::Operation {
        id: id.to_owned(),
        method: method.to_owned(),
        path: path.to_owned(),
        ..v1::Operation::default()
    }
}

fn api_calls(stack: &Stack) -> usize {
    let entries = stack.ledger().entries.into_iter();
    let calls = entries.filter(|entry| matches!(entry.event, Event::ApiCall { .. }));
    calls.count()
}

#[tokio::test]
async fn a_call_that_is_none_of_the_grants_operations_reaches_nothing() {
    let stack = Stack::start(Default::default()).await;
    let target = v1::Target {
        operations: vec![
            operation("list", "GET", "/contacts"),
            operation("get", "GET", "/contacts/{id:integer}"),
            v1::Operation {
                content_types: vec!["application/json".to_owned()],
                max_body_bytes: Some(100),
                ..operation("add", "POST", "/contacts")
            },
        ],
        ..targets::whole(&format!("{}/api", stack.provider().base_url()))
    };
    targets::add(&stack, "listed", target, &["list", "add"]).await;
    let caller = Caller::of(&stack).await.at("listed");
    let token = caller.token().await;

    let json = ("content-type", "application/json");
    let post = async |body: String, headers: &[(&str, &str)]| {
        let posted = caller.call_with(Method::POST, "/contacts", &token, body, headers);
        Box::pin(posted).await
    };
    let listed = caller.call(Method::GET, "/contacts", &token).await;
    assert_eq!(listed.status, 200);
    let body = r#"{"name":"Grace","email":"grace@example.com"}"#;
    assert_eq!(post(body.to_owned(), &[json]).await.status, 201);
    let seen = api_calls(&stack);
    assert_eq!(seen, 2);

    for (method, path, status, reason) in [
        (Method::GET, "/contacts/1", 403, "OPERATION_NOT_ALLOWED"),
        (Method::GET, "/contacts/x", 403, "OPERATION_NOT_ALLOWED"),
        (Method::GET, "/Contacts", 403, "OPERATION_NOT_ALLOWED"),
        (Method::GET, "/contacts/", 403, "OPERATION_NOT_ALLOWED"),
        (Method::GET, "/stream", 403, "OPERATION_NOT_ALLOWED"),
        (Method::GET, "", 403, "OPERATION_NOT_ALLOWED"),
        (Method::DELETE, "/contacts", 403, "OPERATION_NOT_ALLOWED"),
        (Method::PUT, "/contacts", 403, "OPERATION_NOT_ALLOWED"),
    ] {
        let reply = caller.call(method.clone(), path, &token).await;
        let expected = (status, reason.to_owned());
        assert_eq!(reply.refusal(), expected, "{method} {path}");
    }
    let url = caller.url("/contacts");
    let nonce = caller.gateway_nonce().await;
    let proof = caller.proof("GET", &url, &nonce, Some(&token));
    let authorization = format!("DPoP {token}");
    let headers = [("authorization", authorization.as_str()), ("dpop", &proof)];
    let url = format!("{url}?admin=1");
    let reply = caller.https.send(Method::GET, &url, &headers, "").await;
    assert_eq!(reply.refusal(), (403, "QUERY_NOT_ALLOWED".to_owned()));

    let plain = ("content-type", "text/plain");
    for (body, headers, expected) in [
        (
            body.to_owned(),
            vec![plain],
            (415, "CONTENT_TYPE_NOT_ALLOWED"),
        ),
        (body.to_owned(), vec![], (415, "CONTENT_TYPE_NOT_ALLOWED")),
        (
            body.to_owned(),
            vec![json, plain],
            (415, "CONTENT_TYPE_NOT_ALLOWED"),
        ),
        ("x".repeat(101), vec![json], (413, "BODY_TOO_LARGE")),
    ] {
        let reply = post(body, &headers).await;
        assert_eq!(reply.refusal(), (expected.0, expected.1.to_owned()));
        assert_eq!(reply.header("tokenkeep-answered-by"), "gateway");
    }
    assert_eq!(api_calls(&stack), seen, "the API has seen none of these");
}
