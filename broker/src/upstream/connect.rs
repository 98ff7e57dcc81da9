//! A fresh connection to an origin, at an address that may be connected to.

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use url::Host;

use super::address::{AddressClass, classify};
use super::egress::Loopback;
use super::error::NotSent;
use super::origin::Origin;

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;

/// A byte stream to an origin.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to an origin.
pub(super) struct Connected {
    pub(super) stream: Box<dyn Stream>,
    /// Whether the server chose HTTP/2.
    pub(super) http2: bool,
}

/// Resolves the origin's name once, refuses addresses that are not for us, and
/// connects to one of the others. Has no deadline of its own.
pub(super) async fn connect(
    origin: &Origin,
    tls: &Arc<ClientConfig>,
    loopback: Loopback,
) -> Result<Connected, NotSent> {
    let resolved = resolve(origin).await?;
    let addresses = permitted(&resolved, origin.is_secure(), loopback)?;
    let mut last = io::ErrorKind::AddrNotAvailable;
    let mut connected = None;
    for address in addresses.into_iter().take(MAX_ADDRESSES) {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                connected = Some(stream);
                break;
            }
            Err(error) => last = error.kind(),
        }
    }
    let stream = connected.ok_or(NotSent::Connect { kind: last })?;
    // The request goes out in one piece; waiting for more gains nothing.
    drop(stream.set_nodelay(true));
    if !origin.is_secure() {
        return Ok(Connected {
            stream: Box::new(stream),
            http2: false,
        });
    }
    let name = server_name(origin.host())?;
    match TlsConnector::from(Arc::clone(tls))
        .connect(name, stream)
        .await
    {
        Ok(stream) => Ok(Connected {
            http2: stream.get_ref().1.alpn_protocol() == Some(b"h2"),
            stream: Box::new(stream),
        }),
        Err(error) => Err(handshake_error(error)),
    }
}

async fn resolve(origin: &Origin) -> Result<Vec<SocketAddr>, NotSent> {
    let port = origin.port();
    match origin.host() {
        Host::Ipv4(address) => Ok(vec![SocketAddr::new(IpAddr::V4(*address), port)]),
        Host::Ipv6(address) => Ok(vec![SocketAddr::new(IpAddr::V6(*address), port)]),
        Host::Domain(name) => {
            let found = lookup_host((name.as_str(), port))
                .await
                .map_err(|error| NotSent::Resolve { kind: error.kind() })?;
            Ok(found.collect())
        }
    }
}

/// The addresses that may be connected to, in their order.
fn permitted(
    resolved: &[SocketAddr],
    secure: bool,
    loopback: Loopback,
) -> Result<Vec<SocketAddr>, NotSent> {
    let mut refused = NotSent::Resolve {
        kind: io::ErrorKind::NotFound,
    };
    let mut addresses = Vec::new();
    for address in resolved.iter().rev() {
        match (classify(address.ip()), loopback, secure) {
            (AddressClass::Public, _, true) | (AddressClass::Loopback, Loopback::Allowed, _) => {
                addresses.push(*address);
            }
            (AddressClass::Public, _, false) => refused = NotSent::PlainText,
            (
                class @ (AddressClass::Loopback
                | AddressClass::Private
                | AddressClass::LinkLocal
                | AddressClass::CloudMetadata
                | AddressClass::Reserved),
                _,
                _,
            ) => refused = NotSent::Address { class },
        }
    }
    if addresses.is_empty() {
        return Err(refused);
    }
    addresses.reverse();
    Ok(addresses)
}

fn server_name(host: &Host<String>) -> Result<ServerName<'static>, NotSent> {
    match host {
        Host::Domain(name) => {
            ServerName::try_from(name.clone()).map_err(|_not_a_name| NotSent::Request)
        }
        Host::Ipv4(address) => Ok(IpAddr::V4(*address).into()),
        Host::Ipv6(address) => Ok(IpAddr::V6(*address).into()),
    }
}

fn handshake_error(error: io::Error) -> NotSent {
    let kind = error.kind();
    let cause = error
        .into_inner()
        .and_then(|cause| cause.downcast::<rustls::Error>().ok());
    match cause.as_deref() {
        Some(rustls::Error::InvalidCertificate(why)) => NotSent::Certificate { why: why.clone() },
        Some(_) | None => NotSent::Tls { kind },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(of: &[&str]) -> Vec<SocketAddr> {
        of.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn only_addresses_that_are_for_us_are_connected_to() {
        use Loopback::{Allowed, Refused};
        let address = |class| Err(NotSent::Address { class });
        let rows = [
            (vec!["8.8.8.8:1"], true, Refused, Ok(vec!["8.8.8.8:1"])),
            (
                vec!["10.0.0.1:1", "8.8.8.8:1", "[2606:4700::1]:1"],
                true,
                Refused,
                Ok(vec!["8.8.8.8:1", "[2606:4700::1]:1"]),
            ),
            (vec!["127.0.0.1:1"], true, Allowed, Ok(vec!["127.0.0.1:1"])),
            (vec!["127.0.0.1:1"], false, Allowed, Ok(vec!["127.0.0.1:1"])),
            (
                vec!["127.0.0.1:1", "10.0.0.1:1"],
                true,
                Refused,
                address(AddressClass::Loopback),
            ),
            (
                vec!["10.0.0.1:1"],
                true,
                Allowed,
                address(AddressClass::Private),
            ),
            (
                vec!["169.254.169.254:80"],
                false,
                Allowed,
                address(AddressClass::LinkLocal),
            ),
            (vec!["8.8.8.8:1"], false, Allowed, Err(NotSent::PlainText)),
            (
                vec![],
                true,
                Allowed,
                Err(NotSent::Resolve {
                    kind: io::ErrorKind::NotFound,
                }),
            ),
        ];
        for (resolved, secure, loopback, expected) in rows {
            assert_eq!(
                permitted(&addresses(&resolved), secure, loopback),
                expected.map(|of| addresses(&of)),
                "{resolved:?} {secure} {loopback:?}"
            );
        }
    }
}
