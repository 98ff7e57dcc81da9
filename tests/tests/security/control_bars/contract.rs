//! The gRPC contract as its descriptors say it: every RPC, and the texts of a request wherever they stand in it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a failed test may panic"
)]

use std::collections::BTreeMap;

use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// One RPC.
#[derive(Clone, Debug)]
pub(super) struct Rpc {
    /// `GrantService/GetGrant`.
    pub(super) name: String,
    /// Whether its answer is a stream.
    pub(super) streams: bool,
    path: String,
    input: String,
}

impl Rpc {
    /// The path of its gRPC calls.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

/// All RPCs and messages.
#[derive(Debug)]
pub(super) struct Contract {
    pub(super) rpcs: Vec<Rpc>,
    messages: BTreeMap<String, DescriptorProto>,
}

/// What becomes of a text: of one that is there, or of a place that has none. `None` leaves it as it is.
pub(super) type Change<'a> =
    &'a mut dyn FnMut(&FieldDescriptorProto, Option<&str>) -> Option<String>;

impl Contract {
    pub(super) fn read() -> Self {
        let set = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
        let mut contract = Self {
            rpcs: Vec::new(),
            messages: BTreeMap::new(),
        };
        for file in set.file {
            let package = file.package();
            for message in &file.message_type {
                contract.add(&format!(".{package}"), message);
            }
            for service in &file.service {
                for method in &service.method {
                    contract.rpcs.push(Rpc {
                        name: format!("{}/{}", service.name(), method.name()),
                        streams: method.server_streaming(),
                        path: format!("/{package}.{}/{}", service.name(), method.name()),
                        input: method.input_type().to_owned(),
                    });
                }
            }
        }
        assert!(contract.rpcs.len() > 40, "the descriptors are all there");
        contract
    }

    fn add(&mut self, scope: &str, message: &DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        for nested in &message.nested_type {
            self.add(&name, nested);
        }
        self.messages.insert(name, message.clone());
    }

    /// The RPC of that name.
    pub(super) fn rpc(&self, name: &str) -> &Rpc {
        let found = self.rpcs.iter().find(|rpc| rpc.name == name);
        found.unwrap_or_else(|| panic!("the contract has no {name}"))
    }

    /// How many texts a request has.
    pub(super) fn texts(&self, rpc: &Rpc, request: &[u8]) -> usize {
        let mut count = 0;
        self.change(rpc, request, &mut |_field, text| {
            count += usize::from(text.is_some());
            None
        });
        count
    }

    /// The request with other texts.
    pub(super) fn change(&self, rpc: &Rpc, request: &[u8], change: Change<'_>) -> Vec<u8> {
        self.rewrite(&rpc.input, request, change)
    }

    fn rewrite(&self, message: &str, mut bytes: &[u8], change: Change<'_>) -> Vec<u8> {
        let known = &self.messages[message];
        let mut out = Vec::with_capacity(bytes.len());
        let mut there = Vec::new();
        while !bytes.is_empty() {
            let (number, wire) = decode_key(&mut bytes).unwrap();
            there.push(number);
            encode_key(number, wire, &mut out);
            match wire {
                WireType::Varint => encode_varint(decode_varint(&mut bytes).unwrap(), &mut out),
                WireType::SixtyFourBit => out.extend(take(&mut bytes, 8)),
                WireType::ThirtyTwoBit => out.extend(take(&mut bytes, 4)),
                WireType::LengthDelimited => {
                    let length = usize::try_from(decode_varint(&mut bytes).unwrap()).unwrap();
                    let content = take(&mut bytes, length);
                    let field = |field: &&FieldDescriptorProto| field.number() as u32 == number;
                    let field = known.field.iter().find(field).unwrap();
                    let content = match field.r#type() {
                        Type::Message => self.rewrite(field.type_name(), content, change),
                        Type::String => {
                            let text = std::str::from_utf8(content).unwrap();
                            change(field, Some(text))
                                .map_or_else(|| content.to_vec(), String::into_bytes)
                        }
                        _ => content.to_vec(),
                    };
                    encode_varint(content.len() as u64, &mut out);
                    out.extend(content);
                }
                WireType::StartGroup | WireType::EndGroup => panic!("{message} has a group"),
            }
        }
        for field in &known.field {
            let number = field.number() as u32;
            let single = field.label() != Label::Repeated && field.oneof_index.is_none();
            if field.r#type() != Type::String || !single || there.contains(&number) {
                continue;
            }
            if let Some(text) = change(field, None) {
                encode_key(number, WireType::LengthDelimited, &mut out);
                encode_varint(text.len() as u64, &mut out);
                out.extend(text.into_bytes());
            }
        }
        out
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    taken
}

#[test]
fn texts_are_changed_wherever_they_stand() {
    use proto::v1;
    let contract = Contract::read();
    let rpc = contract.rpc("GrantService/DepositGrant");
    let grant = |tenant: &str, scope: &str, owner: &str, app: &str| v1::DepositGrantRequest {
        grant: Some(v1::Grant {
            tenant: tenant.to_owned(),
            app: app.to_owned(),
            scopes: vec!["a".to_owned(), scope.to_owned()],
            expires_at_s: 1 << 40,
            terms: Some(v1::GrantTerms {
                owner: owner.to_owned(),
                ..v1::GrantTerms::default()
            }),
            ..v1::Grant::default()
        }),
        sealed_refresh_token: b"tenant".to_vec(),
        ..v1::DepositGrantRequest::default()
    };
    let before = grant("tenant", "tenant", "tenant", "").encode_to_vec();
    assert_eq!(contract.texts(rpc, &before), 4);
    let same = contract.change(rpc, &before, &mut |_, _| None);
    assert_eq!(same, before);
    let changed = contract.change(
        rpc,
        &before,
        &mut |field, text| match (field.name(), text) {
            (_, Some("tenant")) => Some("other, and longer".to_owned()),
            ("app", None) => Some("new".to_owned()),
            _ => None,
        },
    );
    let long = "other, and longer";
    let changed = v1::DepositGrantRequest::decode(&*changed).unwrap();
    assert_eq!(changed, grant(long, long, long, "new"));
}
