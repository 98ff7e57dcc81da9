//! Tests of operations: which call is which, and each reason why not.

use http::HeaderName;

use super::*;

fn operation(id: &str, method: &str, path: &str) -> Operation {
    Operation {
        id: OperationId::parse(id).unwrap(),
        method: method.into(),
        path: PathTemplate::parse(path).unwrap(),
        query: Vec::new(),
        content_types: Vec::new(),
        max_body_bytes: None,
    }
}

fn api() -> Vec<Operation> {
    vec![
        Operation {
            query: vec!["page".into(), "filter[name]".into()],
            ..operation("contacts-list", "GET", "/v1/contacts")
        },
        operation("contacts-get", "GET", "/v1/contacts/{id:text}"),
        operation("contacts-admin", "GET", "/v1/contacts/admin"),
        Operation {
            content_types: vec!["application/json".into()],
            max_body_bytes: Some(100),
            ..operation("contacts-create", "POST", "/v1/contacts")
        },
        operation("invoices-get", "GET", "/v1/invoices/{id:integer}"),
        operation("files-get", "GET", "/files/{rest:path}"),
        operation("devices-get", "GET", "/devices/{id:uuid}"),
        operation("user-get", "GET", "/users/{name:name}"),
        operation("root", "GET", "/"),
        Operation {
            query: vec!["*".into()],
            content_types: vec!["*/*".into()],
            ..operation("search", "POST", "/search/")
        },
    ]
}

fn found(method: Method, path: &str, query: Option<&str>) -> Result<String, OperationError> {
    let headers = HeaderMap::new();
    let called = Called {
        method: &method,
        path,
        query,
        headers: &headers,
        body_bytes: Some(0),
    };
    find(&api(), &called).map(|operation| operation.id.to_string())
}

#[test]
fn a_call_is_the_most_special_operation() {
    let rows = [
        ("/v1/contacts", "contacts-list"),
        ("/v1/contacts/7", "contacts-get"),
        ("/v1/contacts/Ada%20Lovelace", "contacts-get"),
        ("/v1/contacts/admin", "contacts-admin"),
        ("/v1/invoices/12345678901234567890", "invoices-get"),
        ("/files/a", "files-get"),
        ("/files/a/b/c", "files-get"),
        (
            "/devices/0190163d-8694-739b-aea5-966c26f8ad91",
            "devices-get",
        ),
        ("/users/ada.lovelace", "user-get"),
        ("/", "root"),
        ("", "root"),
    ];
    for (path, expected) in rows {
        assert_eq!(
            found(Method::GET, path, None),
            Ok(expected.to_owned()),
            "{path}"
        );
        assert_eq!(
            found(Method::HEAD, path, None),
            Ok(expected.to_owned()),
            "{path}"
        );
    }
}

#[test]
fn a_call_that_is_no_operation_is_unknown() {
    let unknown = Err(OperationError::Unknown);
    for path in [
        "/v1",
        "/v1/",
        "/v1/contacts/",
        "/v1/contacts/7/notes",
        "/V1/contacts/7",
        "/v1/Contacts",
        // Another operation to a server that ignores case, decodes or cuts parameters off.
        "/v1/contacts/Admin",
        "/v1/contacts/admin;v=1",
        "/v1/contacts/admin%3Bv=1",
        "/v1/contacts/admin%20",
        "/v1/invoices/1x",
        "/v1/invoices/123456789012345678901",
        "/v1/invoices/-1",
        "/files",
        "/files/",
        "/devices/0190163d-8694-739b-aea5-966c26f8ad9",
        "/devices/0190163d-8694-739b-aea5-966c26f8ad9g",
        "/users/.hidden",
        "/users/a%2Cb",
        "/search",
    ] {
        assert_eq!(found(Method::GET, path, None), unknown, "{path}");
    }
    for method in [Method::PUT, Method::PATCH, Method::DELETE] {
        assert_eq!(found(method, "/v1/contacts", None), unknown);
    }
}

#[test]
fn a_query_has_names_of_the_operation_alone() {
    let list = |query| found(Method::GET, "/v1/contacts", Some(query));
    for query in [
        "",
        "page=2",
        "page",
        "page=2&page=3",
        "filter%5Bname%5D=x",
        "filter[name]=a%26b",
    ] {
        assert_eq!(list(query), Ok("contacts-list".into()), "{query}");
    }
    let refused = Err(OperationError::Query(
        OperationId::parse("contacts-list").unwrap(),
    ));
    for query in [
        "other=1",
        "Page=2",
        "page=2&other=1",
        "page=2;other=1",
        "=x",
        "&",
        "page=2&",
        "page%00=1",
        "page%26x=1",
        "*",
    ] {
        assert_eq!(list(query), refused, "{query}");
    }
    assert_eq!(
        found(Method::POST, "/search/", Some("a;b=c&&d")),
        Ok("search".into())
    );
}

#[test]
fn a_body_is_of_a_type_and_size_of_the_operation() {
    let post = |types: &[&'static str], body_bytes| {
        let mut headers = HeaderMap::new();
        for value in types {
            let name = HeaderName::from_static("content-type");
            headers.append(name, HeaderValue::from_static(value));
        }
        let called = Called {
            method: &Method::POST,
            path: "/v1/contacts",
            query: None,
            headers: &headers,
            body_bytes,
        };
        find(&api(), &called).map(|_| ())
    };
    let id = || OperationId::parse("contacts-create").unwrap();
    let refused = Err(OperationError::ContentType(id()));
    let too_large = Err(OperationError::TooLarge {
        operation: id(),
        max_bytes: 100,
    });
    type Row = (
        &'static [&'static str],
        Option<u64>,
        Result<(), OperationError>,
    );
    let rows: [Row; 9] = [
        (&["application/json"], Some(100), Ok(())),
        (&["Application/JSON; charset=utf-8"], Some(1), Ok(())),
        (&["application/json"], None, Ok(())),
        (&[], Some(0), Ok(())),
        (&[], Some(1), refused.clone()),
        (&[], None, refused.clone()),
        (&["text/plain"], Some(1), refused.clone()),
        (&["application/json", "application/json"], Some(1), refused),
        (&["application/json"], Some(101), too_large),
    ];
    for (types, body_bytes, expected) in rows {
        assert_eq!(
            post(types, body_bytes),
            expected,
            "{types:?} {body_bytes:?}"
        );
    }
    // An operation without content types takes no body.
    let headers = HeaderMap::new();
    let called = Called {
        method: &Method::GET,
        path: "/",
        query: None,
        headers: &headers,
        body_bytes: None,
    };
    let expected = OperationError::ContentType(OperationId::parse("root").unwrap());
    assert_eq!(find(&api(), &called).map(|_| ()), Err(expected));
}

#[test]
fn lists_that_break_a_rule_are_refused() {
    assert_eq!(check(&api()), Ok(()));
    let one = || operation("one", "GET", "/a/{x:name}");
    let rows = [
        (vec![one(); 513], OperationsError::TooMany),
        (
            vec![one(), operation("one", "GET", "/b")],
            OperationsError::SameId,
        ),
        (
            vec![one(), operation("two", "GET", "/A/{y:name}")],
            OperationsError::SamePath,
        ),
        (vec![operation("one", "HEAD", "/")], OperationsError::Method),
        (vec![operation("one", "get", "/")], OperationsError::Method),
        (
            vec![Operation {
                query: vec!["a".into(), "*".into()],
                ..one()
            }],
            OperationsError::Query,
        ),
        (
            vec![Operation {
                query: vec![String::new()],
                ..one()
            }],
            OperationsError::Query,
        ),
        (
            vec![Operation {
                query: vec!["a".into(); 65],
                ..one()
            }],
            OperationsError::Query,
        ),
        (
            vec![Operation {
                content_types: vec!["Text/plain".into()],
                ..one()
            }],
            OperationsError::ContentType,
        ),
        (
            vec![Operation {
                content_types: vec!["text".into()],
                ..one()
            }],
            OperationsError::ContentType,
        ),
        (
            vec![Operation {
                max_body_bytes: Some(1),
                ..one()
            }],
            OperationsError::Bound,
        ),
    ];
    for (operations, expected) in rows {
        assert_eq!(check(&operations), Err(expected));
    }
}

#[test]
fn texts_that_are_no_template_are_refused() {
    use TemplateError::{Form, Literal, Parameter, Type};
    let long = format!("/{}", "a".repeat(512));
    let deep = "/a".repeat(33);
    for (text, expected) in [
        ("", Form),
        ("a", Form),
        ("//a", Form),
        (long.as_str(), Form),
        (deep.as_str(), Form),
        ("/a%20b", Literal),
        ("/a;b", Literal),
        ("/..", Literal),
        ("/./a", Literal),
        ("/a{x:name}", Literal),
        ("/{x:name}a", Parameter),
        ("/{x}", Parameter),
        ("/{:name}", Parameter),
        ("/{X:name}", Parameter),
        ("/{x:any}", Type),
        ("/{x:path}/a", Type),
    ] {
        assert_eq!(PathTemplate::parse(text), Err(expected), "{text}");
    }
}

#[test]
fn a_grants_name_of_an_operation_has_two_parts() {
    let name = OperationName::parse("api/contacts-get").unwrap();
    assert_eq!(name.to_string(), "api/contacts-get");
    for (text, error) in [
        ("api", IdError::Character),
        ("api/", IdError::Empty),
        ("/x", IdError::Empty),
        ("api/x/y", IdError::Character),
        ("Api/x", IdError::Character),
    ] {
        assert_eq!(OperationName::parse(text), Err(error), "{text}");
    }
}
