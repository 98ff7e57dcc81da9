//! No spelling of a private address is connected to, on a network where every address of the world would answer.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use broker::upstream::{Egress, EgressLimits, Loopback, NotSent, Origin, Owner, UpstreamError};
use bytes::Bytes;
use enclave::http_url::HttpUrl;
use enclave::ids::{GrantId, TenantId};
use enclave::secret::CredentialHeader;
use http::header::AUTHORIZATION;
use http::{Method, Request};
use http_body_util::Empty;
use parking_lot::Mutex;
use rustls::RootCertStore;
use testkit::python::PythonEnv;
use tests::caller::Caller;
use tests::effort;
use tests::stack::Stack;
use tests::targets;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use url::Url;

use super::judge_none;

/// Says that this process is in the world of `every_address.py`.
const INSIDE: &str = "TOKENKEEP_TEST_EVERY_ADDRESS";

/// What may be reached: it shows that the world and the judge work.
const PUBLIC: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)),
    IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0, 0, 0x1111)),
];

const V4: [Ipv4Addr; 17] = [
    Ipv4Addr::LOCALHOST,
    Ipv4Addr::new(127, 1, 2, 3),
    Ipv4Addr::UNSPECIFIED,
    Ipv4Addr::new(10, 0, 0, 1),
    Ipv4Addr::new(172, 16, 0, 1),
    Ipv4Addr::new(172, 31, 255, 254),
    Ipv4Addr::new(192, 168, 1, 1),
    Ipv4Addr::new(100, 64, 0, 1),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(198, 18, 0, 1),
    Ipv4Addr::new(224, 0, 0, 1),
    Ipv4Addr::new(240, 0, 0, 1),
    Ipv4Addr::BROADCAST,
];

const V6: [&str; 16] = [
    "::",
    "::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd12:3456::1",
    "fe80::1",
    "fe80::a9fe:a9fe",
    "febf::1",
    "fec0::1",
    "ff02::1",
    "ff05::2",
    "100::1",
    "2001:db8::1",
    "3fff::1",
    "5f00::1",
    "4000::1",
];

/// The name that the world's only resolver has for an address.
fn name_of(address: impl std::fmt::Display) -> String {
    let label = address.to_string().replace(['.', ':'], "-");
    format!("a{label}a.private.example")
}

/// What resolves in that world: each address by a name, one name with a public address beside a private one, and
/// those that a machine has.
fn hosts() -> String {
    let mut hosts = "127.0.0.1 localhost ip6-localhost x.localhost api.localhost\n".to_owned();
    for address in V4 {
        writeln!(hosts, "{address} {}", name_of(address)).unwrap();
    }
    for address in V6 {
        writeln!(hosts, "{address} {}", name_of(address)).unwrap();
    }
    let [public, _] = PUBLIC;
    writeln!(hosts, "10.0.0.1 mixed.private.example").unwrap();
    writeln!(hosts, "{public} mixed.private.example").unwrap();
    hosts
}

/// Every way that somebody has written an IPv4 address in a URL to get it past a list.
fn spellings_of(address: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = address.octets();
    let number = u32::from(address);
    let low = number & 0x00ff_ffff;
    let [_, _, mid, last] = number.to_be_bytes();
    let half = u16::from_be_bytes([mid, last]);
    let words = |prefix: &str| format!("[{prefix}{:x}:{:x}]", number >> 16, number & 0xffff);
    let wide: String = address
        .to_string()
        .chars()
        .map(|c| match c.to_digit(10) {
            Some(digit) => char::from_u32(0xff10 + digit).unwrap(),
            None => '\u{3002}',
        })
        .collect();
    vec![
        address.to_string(),
        format!("{address}."),
        number.to_string(),
        format!("0x{number:x}"),
        format!("0{number:o}"),
        format!("0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("000{a:o}.0x{b:x}.{c}.{d}"),
        format!("{a}.{low}"),
        format!("{a}.{b}.{half}"),
        format!("0x{a:x}.{low}"),
        format!("user@{address}"),
        format!("api.example%2f@{address}"),
        // A URL's parser takes the backslash for a slash: the host is api.example, which is nobody here.
        format!("api.example\\@{address}"),
        format!(
            "%{:02x}{}",
            address.to_string().as_bytes()[0],
            &address.to_string()[1..]
        ),
        wide,
        format!("[::ffff:{address}]"),
        words("::ffff:"),
        words("::"),
        words("64:ff9b::"),
        format!("[64:ff9b::{address}]"),
        words("64:ff9b:1::"),
        format!("[2002:{:x}:{:x}::1]", number >> 16, number & 0xffff),
        format!("[2001:0:{:x}:{:x}::1]", number >> 16, number & 0xffff),
        // Teredo hides the client's address, inverted, at the end.
        format!(
            "[2001:0:808:808:0:0:{:x}:{:x}]",
            !number >> 16,
            !number & 0xffff
        ),
        name_of(address),
        name_of(address).to_uppercase(),
        format!("{}.", name_of(address)),
    ]
}

fn spellings() -> Vec<String> {
    let mut all: Vec<String> = V4.into_iter().flat_map(spellings_of).collect();
    all.extend(V6.iter().map(|address| format!("[{address}]")));
    all.extend(V6.iter().map(|address| format!("[{address}%25lo]")));
    all.extend(V6.iter().map(name_of));
    let names = [
        "localhost",
        "localhost.",
        "LOCALHOST",
        "ip6-localhost",
        "x.localhost",
        "mixed.private.example",
    ];
    all.extend(names.map(ToOwned::to_owned));
    all
}

/// Goes into the world, once: runs this very test in it, and says whether this is the run inside.
#[expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the run inside is told by its environment that it is; what it measured is told outside too"
)]
async fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let folder = tempfile::tempdir().unwrap();
    let names = folder.path().join("hosts");
    fs::write(&names, hosts()).unwrap();
    let ended = PythonEnv::from_env()
        .unwrap()
        .command("every_address.py")
        .arg(&names)
        .arg(std::env::current_exe().unwrap())
        .args([
            &format!("gateway_bars::ssrf::{test}"),
            "--exact",
            "--nocapture",
        ])
        .env(INSIDE, "1")
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    print!("{said}");
    let complaints = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{said}\n{complaints}");
    assert!(said.contains("1 passed"), "{said}");
    false
}

/// A listener at every address of the world: the addresses that were connected to.
struct World {
    port: u16,
    reached: Arc<Mutex<Vec<IpAddr>>>,
}

impl World {
    async fn start() -> Self {
        let listener = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).await {
            Ok(listener) => listener,
            // A kernel without IPv6.
            Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap(),
        };
        let port = listener.local_addr().unwrap().port();
        let reached = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&reached);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                kept.lock()
                    .push(stream.local_addr().unwrap().ip().to_canonical());
            }
        });
        Self { port, reached }
    }

    /// What has been reached, when all that was on its way has arrived. No public address is among it.
    async fn private(&self) -> BTreeSet<IpAddr> {
        // Connections are taken in their order.
        let sentinel = PUBLIC[0];
        let before = self.count(sentinel);
        let _last = TcpStream::connect((sentinel, self.port)).await.unwrap();
        tests::wait::wait_for("the last connection arrived", async || {
            (self.count(sentinel) > before).then_some(())
        })
        .await;
        let reached = self.reached.lock();
        let private = reached.iter().filter(|address| !PUBLIC.contains(address));
        private.copied().collect()
    }

    fn count(&self, address: IpAddr) -> usize {
        let reached = self.reached.lock();
        reached.iter().filter(|found| **found == address).count()
    }
}

/// How a try to call a URL ended.
#[derive(Debug, PartialEq, Eq)]
enum Tried {
    /// Refused before any packet left.
    Refused,
    /// There was no such name: nothing to connect to.
    NoName,
    /// A connection was made or tried.
    Connected,
}

async fn call(egress: &Egress, url: &str) -> Tried {
    let Ok(url) = Url::parse(url) else {
        return Tried::Refused;
    };
    let Ok(origin) = Origin::of(&url) else {
        return Tried::Refused;
    };
    let request = Request::get("/").body(Empty::<Bytes>::new()).unwrap();
    let credential = CredentialHeader::new(b"Bearer canary".to_vec());
    let owner = Owner::new(
        TenantId::parse("acme").unwrap(),
        GrantId::parse("crm").unwrap(),
    );
    let sent = egress.forward(&owner, &origin, request, (AUTHORIZATION, credential));
    match Box::pin(sent).await {
        Err(UpstreamError::NotSent { why }) => match why {
            NotSent::Address { .. }
            | NotSent::PlainText
            | NotSent::Origin { .. }
            | NotSent::Request => Tried::Refused,
            NotSent::Resolve { .. } => Tried::NoName,
            NotSent::Connect { .. }
            | NotSent::Certificate { .. }
            | NotSent::Tls { .. }
            | NotSent::Deadline => Tried::Connected,
        },
        Ok(_) | Err(UpstreamError::Ambiguous { .. }) => Tried::Connected,
    }
}

fn egress(loopback: Loopback) -> Egress {
    Egress::new(RootCertStore::empty(), loopback, EgressLimits::default()).unwrap()
}

/// Calls each spelling with both schemes. A name that has a public address too may be connected to, there.
async fn connected(egress: &Egress, port: u16) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for spelling in spellings() {
        for scheme in ["https", "http"] {
            let url = format!("{scheme}://{spelling}:{port}/");
            if call(egress, &url).await == Tried::Connected {
                found.insert(url);
            }
        }
    }
    found
}

/// Registers what can be registered of the spellings as a target, and calls it through a running service, whose
/// manifest allows loopback alone. How many were registered.
async fn through_the_service(port: u16) -> usize {
    let stack = Stack::start(Default::default()).await;
    let caller = Caller::of(&stack).await;
    let step = if effort::is_full() { 1 } else { 25 };
    let mut registered = 0;
    let public = [format!("{}", PUBLIC[0]), format!("[{}]", PUBLIC[1])];
    let spellings = spellings().into_iter().step_by(step);
    for (number, spelling) in public.into_iter().chain(spellings).enumerate() {
        let url = format!("https://{spelling}:{port}/v1");
        if Url::parse(&url).is_ok_and(|url| is_loopback(&url)) {
            continue;
        }
        let id = format!("s{number}");
        if targets::try_add(&stack, &id, targets::whole(&url), &[])
            .await
            .is_err()
        {
            assert!(number > 1, "{url} is refused");
            continue;
        }
        registered += 1;
        let caller = caller.at(&id);
        let token = caller.token().await;
        let reply = caller.call(Method::GET, "/", &token).await;
        assert!(reply.status.is_server_error(), "{url}: {}", reply.status);
        assert_eq!(reply.header("tokenkeep-answered-by"), "gateway", "{url}");
    }
    registered
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => IpAddr::V6(address).to_canonical().is_loopback(),
        Some(url::Host::Domain(name)) => {
            name.contains("localhost") || name.contains("a127-") || name.contains("a--1a")
        }
        None => false,
    }
}

#[tokio::test]
async fn gateway_bar_no_spelling_of_a_private_address_is_reached() {
    if !inside("gateway_bar_no_spelling_of_a_private_address_is_reached").await {
        return;
    }
    let world = World::start().await;
    // The way is open to what is public, and a name is connected to at its public address alone.
    let egress = egress(Loopback::Refused);
    let open = format!("https://{}:{}/", PUBLIC[0], world.port);
    assert_eq!(call(&egress, &open).await, Tried::Connected);
    let connected = connected(&egress, world.port).await;
    let mixed = format!("https://mixed.private.example:{}/", world.port);
    assert_eq!(connected.into_iter().collect::<Vec<_>>(), [mixed]);
    // Once by number, once by that name.
    assert_eq!(world.count(PUBLIC[0]), 2);
    let registered = Box::pin(through_the_service(world.port)).await;
    assert!(registered > 4, "{registered} were registered");
    assert!(world.count(PUBLIC[0]) > 2, "the service reaches the world");
    let reached = world.private().await;
    let reached: Vec<IpAddr> = reached.into_iter().collect();
    let runs = spellings().len();
    assert!(runs >= 300, "{runs} spellings");
    judge_none("ssrf_private_reached", "count", &reached, runs);
}

#[tokio::test]
async fn gateway_bar_canary_addresses_that_are_connected_to_unclassified_are_seen() {
    if !inside("gateway_bar_canary_addresses_that_are_connected_to_unclassified_are_seen").await {
        return;
    }
    let world = World::start().await;
    // An egress that allows loopback, where it must not.
    let found = connected(&egress(Loopback::Allowed), world.port).await;
    for spelling in ["127.0.0.1", "2130706433", "0x7f000001", "[::ffff:7f00:1]"] {
        let url = format!("http://{spelling}:{}/", world.port);
        assert!(found.contains(&url), "{spelling}: {found:?}");
    }
    let loopback = world.private().await;
    assert!(loopback.iter().all(IpAddr::is_loopback) && !loopback.is_empty());
    // A client that connects wherever a name leads.
    for spelling in spellings() {
        let Ok(url) = Url::parse(&format!("http://{spelling}:{}/", world.port)) else {
            continue;
        };
        let host = url.host_str().unwrap().trim_matches(['[', ']']).to_owned();
        let naive = timeout(
            Duration::from_secs(2),
            TcpStream::connect((host, world.port)),
        );
        drop(naive.await);
    }
    let reached = world.private().await;
    assert!(reached.len() > 50, "{reached:?}");
    for address in ["10.0.0.1", "169.254.169.254", "192.0.0.192"] {
        let address = address.parse().unwrap();
        assert!(reached.contains(&address), "{address} in {reached:?}");
    }
}

#[test]
fn gateway_bar_no_spelling_is_registered_as_a_target() {
    for address in V4 {
        for spelling in spellings_of(address) {
            let Ok(url) = HttpUrl::parse(&format!("https://{spelling}/v1")) else {
                continue;
            };
            // What is taken is the plain address, what no parser makes an IPv4 address of, or a name.
            let plain = url.host() == address.to_string();
            let v6 = url.host().parse::<Ipv6Addr>().is_ok();
            let name = url.host().trim_end_matches('.') == name_of(address);
            assert!(plain || v6 || name, "{spelling} is {}", url.host());
            // And no tenant's host can be an address.
            let parent = HttpUrl::parse("https://crm.example/v1").unwrap();
            assert!(parent.at_host_below(&spelling).is_none(), "{spelling}");
        }
    }
}
