//! Which addresses may be connected to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is for, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressClass {
    /// A unicast address of the Internet.
    Public,
    /// This machine.
    Loopback,
    /// A private network [RFC 1918, RFC 4193] or a carrier's [RFC 6598].
    Private,
    /// This link; clouds serve instance metadata here.
    LinkLocal,
    /// An address of the Internet at which a cloud serves its machines.
    CloudMetadata,
    /// Multicast, documentation, benchmarks, translation, future use, none.
    Reserved,
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::CloudMetadata => "cloud metadata",
            Self::Reserved => "reserved",
        })
    }
}

/// Azure's WireServer: reachable from each of its machines, inside the Internet's
/// range.
const AZURE_WIRE_SERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// IPv4 ranges that are not the Internet: network, prefix bits, class
/// [RFC 6890 and the IANA special-purpose registry].
const V4: [(Ipv4Addr, u32, AddressClass); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, AddressClass::Reserved),
    (Ipv4Addr::new(10, 0, 0, 0), 8, AddressClass::Private),
    (Ipv4Addr::new(100, 64, 0, 0), 10, AddressClass::Private),
    (Ipv4Addr::new(127, 0, 0, 0), 8, AddressClass::Loopback),
    (Ipv4Addr::new(169, 254, 0, 0), 16, AddressClass::LinkLocal),
    (Ipv4Addr::new(172, 16, 0, 0), 12, AddressClass::Private),
    (Ipv4Addr::new(192, 0, 0, 0), 24, AddressClass::Reserved),
    (Ipv4Addr::new(192, 0, 2, 0), 24, AddressClass::Reserved),
    (Ipv4Addr::new(192, 88, 99, 0), 24, AddressClass::Reserved),
    (Ipv4Addr::new(192, 168, 0, 0), 16, AddressClass::Private),
    (Ipv4Addr::new(198, 18, 0, 0), 15, AddressClass::Reserved),
    (Ipv4Addr::new(198, 51, 100, 0), 24, AddressClass::Reserved),
    (Ipv4Addr::new(203, 0, 113, 0), 24, AddressClass::Reserved),
    (Ipv4Addr::new(224, 0, 0, 0), 4, AddressClass::Reserved),
    (Ipv4Addr::new(240, 0, 0, 0), 4, AddressClass::Reserved),
    (AZURE_WIRE_SERVER, 32, AddressClass::CloudMetadata),
];

/// IPv6 ranges, the first that holds counts. 2000::/3 is the Internet but for
/// protocol assignments, documentation, and 6to4, which can name any IPv4
/// address; what is in no range is reserved.
const V6: [(Ipv6Addr, u32, AddressClass); 8] = [
    (Ipv6Addr::LOCALHOST, 128, AddressClass::Loopback),
    (
        Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0),
        7,
        AddressClass::Private,
    ),
    (
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
        10,
        AddressClass::LinkLocal,
    ),
    (
        Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0),
        23,
        AddressClass::Reserved,
    ),
    (
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0),
        32,
        AddressClass::Reserved,
    ),
    (
        Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0),
        16,
        AddressClass::Reserved,
    ),
    (
        Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0),
        20,
        AddressClass::Reserved,
    ),
    (
        Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0),
        3,
        AddressClass::Public,
    ),
];

/// What an address is for. An IPv4 address mapped into IPv6 is the IPv4 address.
#[must_use]
pub fn classify(address: IpAddr) -> AddressClass {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let bits = u128::from(u32::from(address));
            V4.iter()
                .find(|(network, prefix, _)| {
                    same(bits, u128::from(u32::from(*network)), 32, *prefix)
                })
                .map_or(AddressClass::Public, |(_, _, class)| *class)
        }
        IpAddr::V6(address) => {
            let bits = u128::from(address);
            V6.iter()
                .find(|(network, prefix, _)| same(bits, u128::from(*network), 128, *prefix))
                .map_or(AddressClass::Reserved, |(_, _, class)| *class)
        }
    }
}

/// Whether two addresses of `width` bits share their first `prefix` bits.
fn same(one: u128, other: u128, width: u32, prefix: u32) -> bool {
    (one ^ other)
        .checked_shr(width.saturating_sub(prefix))
        .is_none_or(|rest| rest == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_classified() {
        use AddressClass::{CloudMetadata, LinkLocal, Loopback, Private, Public, Reserved};
        let rows = [
            ("8.8.8.8", Public),
            ("1.0.0.1", Public),
            ("172.15.255.255", Public),
            ("172.32.0.0", Public),
            ("100.128.0.0", Public),
            ("168.63.129.15", Public),
            ("223.255.255.255", Public),
            ("0.0.0.0", Reserved),
            ("0.1.2.3", Reserved),
            ("10.255.255.255", Private),
            ("100.64.0.0", Private),
            ("100.100.100.200", Private),
            ("127.0.0.1", Loopback),
            ("127.255.0.9", Loopback),
            ("169.254.169.254", LinkLocal),
            ("172.16.0.1", Private),
            ("172.31.255.255", Private),
            ("192.0.0.192", Reserved),
            ("192.0.2.1", Reserved),
            ("192.88.99.1", Reserved),
            ("192.168.1.1", Private),
            ("198.19.0.1", Reserved),
            ("198.51.100.1", Reserved),
            ("203.0.113.1", Reserved),
            ("224.0.0.1", Reserved),
            ("255.255.255.255", Reserved),
            ("168.63.129.16", CloudMetadata),
            ("2606:4700::1111", Public),
            ("2a00::1", Public),
            ("::", Reserved),
            ("::1", Loopback),
            ("::2", Reserved),
            ("::ffff:127.0.0.1", Loopback),
            ("::ffff:10.0.0.1", Private),
            ("::ffff:8.8.8.8", Public),
            ("::127.0.0.1", Reserved),
            ("64:ff9b::7f00:1", Reserved),
            ("64:ff9b:1::1", Reserved),
            ("100::1", Reserved),
            ("2001::1", Reserved),
            ("2001:db8::1", Reserved),
            ("2002:7f00:1::", Reserved),
            ("3fff::1", Reserved),
            ("4000::1", Reserved),
            ("fc00::1", Private),
            ("fd00:ec2::254", Private),
            ("fe80::1", LinkLocal),
            ("fec0::1", Reserved),
            ("ff02::1", Reserved),
        ];
        for (address, class) in rows {
            assert_eq!(classify(address.parse().unwrap()), class, "{address}");
        }
    }
}
