//! Tests of the proxy's door: what it takes for a program of this machine.

use http::Method;
use http::request::{Builder, Parts};

use super::request::{Refused, head};
use super::*;
use crate::gateway::GatewayHead;

const RESOURCE: &str = "https://g.test/g/acme/api";

fn parts(change: impl FnOnce(Builder) -> Builder) -> Parts {
    let request = Request::get("/contacts?page=2").header("host", "127.0.0.1:8080");
    change(request).body(()).unwrap().into_parts().0
}

fn taken(door: Door, parts: &Parts) -> Result<GatewayHead, Refused> {
    head(RESOURCE, &[], door, parts)
}

#[test]
fn a_programs_request_becomes_one_of_the_resource() {
    let parts = parts(|request| {
        request
            .method(Method::POST)
            .header("authorization", "Bearer of-the-program")
            .header("accept", "application/json")
            .header("connection", "x-mine, close")
            .header("x-mine", "1")
            .header("te", "trailers")
            .header("expect", "100-continue")
    });
    let head = taken(Door::Loopback(8080), &parts).unwrap();
    assert_eq!(head.method, Method::POST);
    assert_eq!(head.url, "https://g.test/g/acme/api/contacts?page=2");
    let names: Vec<&str> = head.headers.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["accept"]);
}

#[test]
fn only_a_host_that_is_loopback_is_served() {
    let host = |value: &'static str| {
        let parts = parts(|_| Request::get("/").header("host", value));
        taken(Door::Loopback(8080), &parts).map(|head| head.url)
    };
    for good in [
        "127.0.0.1:8080",
        "127.9.9.9:8080",
        "localhost:8080",
        "LOCALHOST:8080",
        "[::1]:8080",
    ] {
        assert_eq!(host(good), Ok(RESOURCE.to_owned()), "{good}");
    }
    for bad in [
        "",
        "evil.example",
        "evil.example:8080",
        "127.0.0.1",
        "127.0.0.1:80",
        "127.0.0.1.evil.example:8080",
        "localhost.evil.example:8080",
        "10.0.0.1:8080",
        "[::1]",
        "[::2]:8080",
        "127.0.0.1:8080:8080",
    ] {
        assert_eq!(host(bad), Err(Refused::Host), "{bad}");
    }
    let two = parts(|request| request.header("host", "127.0.0.1:8080"));
    assert_eq!(
        taken(Door::Loopback(8080), &two).map(|_| ()),
        Err(Refused::Host)
    );
    let none = parts(|_| Request::get("/"));
    assert_eq!(
        taken(Door::Loopback(8080), &none).map(|_| ()),
        Err(Refused::Host)
    );
    // Nobody's name leads to a socket.
    assert!(taken(Door::Socket, &none).is_ok());
}

#[test]
fn what_a_web_page_or_a_forward_proxys_client_sends_is_refused() {
    type Change = fn(Builder) -> Builder;
    let rows: [(Change, Result<(), Refused>); 6] = [
        (
            |r| r.header("origin", "https://evil.example"),
            Err(Refused::WebPage),
        ),
        (
            |r| r.header("sec-fetch-site", "cross-site"),
            Err(Refused::WebPage),
        ),
        (
            |r| r.header("sec-fetch-site", "same-site"),
            Err(Refused::WebPage),
        ),
        (|r| r.header("sec-fetch-site", "none"), Ok(())),
        (
            |r| r.method(Method::CONNECT).uri("evil.example:443"),
            Err(Refused::ForwardProxy),
        ),
        (
            |r| r.uri("http://127.0.0.1:8080/contacts"),
            Err(Refused::ForwardProxy),
        ),
    ];
    for (at, (change, expected)) in rows.into_iter().enumerate() {
        let parts = parts(change);
        assert_eq!(
            taken(Door::Loopback(8080), &parts).map(|_| ()),
            expected,
            "{at}"
        );
    }
}

#[test]
fn a_place_is_an_address_or_a_socket() {
    assert_eq!(
        "127.0.0.1:0".parse(),
        Ok(Place::Tcp("127.0.0.1:0".parse().unwrap()))
    );
    assert_eq!("unix:/run/x".parse(), Ok(Place::Unix("/run/x".into())));
    assert_eq!("unix:".parse::<Place>(), Err("must be unix:PATH"));
    for text in ["", "localhost", "8080", "/run/x"] {
        assert_eq!(
            text.parse::<Place>(),
            Err("must be ADDRESS:PORT, such as 127.0.0.1:8080, or unix:PATH"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_socket_is_its_owners_and_a_dead_ones_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let first = unix(&path).await.unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = unix(&path).await.unwrap_err();
    assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
    drop(first);
}
