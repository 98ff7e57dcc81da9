//! Sockets on loopback that are bound before the manifest names their ports.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use broker::Sockets;
use broker::host_config::Listen;

/// Why a socket is not there.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The port is in use.
    #[error(
        "{address}, the address of the {name}, is taken: end the program that listens there, or name another --state directory"
    )]
    Taken {
        /// Whose address it is.
        name: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// The system gives no socket.
    #[error("cannot listen on {address} for the {name}")]
    Bind {
        /// For whom.
        name: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        error: io::Error,
    },
}

/// Where a free port is taken from.
pub const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Where ports are looked for that are to be kept: below those that systems hand out for a moment [ip_local_port_range],
/// one of which may be somebody's when a lab comes back.
const KEPT: std::ops::Range<u16> = 20_000..32_768;

/// How often a port is looked for there.
const LOOKS: usize = 64;

/// Listens on `address`; where it names no port, on a free one that can be kept.
///
/// # Errors
/// [`PortError`].
pub fn bind(name: &'static str, address: SocketAddr) -> Result<TcpListener, PortError> {
    let kept = (address.port() == 0).then(|| free(address)).flatten();
    kept.map_or_else(|| TcpListener::bind(address), Ok)
        .map_err(|error| {
            if error.kind() == io::ErrorKind::AddrInUse {
                PortError::Taken { name, address }
            } else {
                PortError::Bind {
                    name,
                    address,
                    error,
                }
            }
        })
}

/// A free port to keep, if one is found: looked for at random, so that who looks beside us finds others.
fn free(address: SocketAddr) -> Option<TcpListener> {
    let random = RandomState::new();
    let ports = (0..LOOKS).filter_map(|look| {
        let place = random.hash_one(look).checked_rem(KEPT.len() as u64)?;
        { KEPT }.nth(usize::try_from(place).ok()?)
    });
    ports
        .map(|port| SocketAddr::new(address.ip(), port))
        .find_map(|address| TcpListener::bind(address).ok())
}

/// The sockets of the service at these addresses.
///
/// # Errors
/// [`PortError`].
pub fn sockets(listen: &Listen) -> Result<Sockets, PortError> {
    let Listen {
        grpc,
        public,
        gateway,
    } = *listen;
    Ok(Sockets {
        grpc: bind("gRPC listener", grpc)?,
        public: bind("public listener", public)?,
        gateway: bind("gateway", gateway)?,
    })
}

/// Where the sockets listen.
///
/// # Errors
/// [`PortError::Bind`] if the system does not tell.
pub fn addresses(sockets: &Sockets) -> Result<Listen, PortError> {
    let told = |name, socket: &TcpListener| address(name, socket);
    Ok(Listen {
        grpc: told("gRPC listener", &sockets.grpc)?,
        public: told("public listener", &sockets.public)?,
        gateway: told("gateway", &sockets.gateway)?,
    })
}

/// Where one socket listens.
///
/// # Errors
/// [`PortError::Bind`] if the system does not tell.
pub fn address(name: &'static str, socket: &TcpListener) -> Result<SocketAddr, PortError> {
    socket.local_addr().map_err(|error| PortError::Bind {
        name,
        address: ANY,
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_owner_and_a_way_out() {
        let first = bind("gateway", ANY).unwrap();
        let address = address("gateway", &first).unwrap();
        assert!(KEPT.contains(&address.port()), "{address}");
        let error = bind("gateway", address).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{address}, the address of the gateway, is taken: end the program that listens there, or name another --state directory"
            )
        );
    }
}
