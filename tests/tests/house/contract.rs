//! What an answer of the gRPC contract can carry: no refresh token and no secret of a provider.
//!
//! The test walks the descriptors from each method's answer to every field that can hold text or bytes. Each is
//! listed here with what it holds, so that a new one cannot slip in: it fails until someone writes down what it
//! carries.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};

/// Every field of text or bytes that an answer can hold, and what it holds.
const MAY_BE_TOLD: &[(&str, &str)] = &[
    ("App.certificate_pem", "a certificate"),
    ("App.id", "an id that the vendor chose"),
    ("App.jwks", "a public key"),
    (
        "App.oauth_client_id",
        "the client_id at the provider, public [RFC 6749 §2.2]",
    ),
    ("App.provider", "an id"),
    ("App.vendor", "an id"),
    (
        "Approval.actors",
        "the actors of a call, as its client named them",
    ),
    ("Approval.by", "the administrator's name in the manifest"),
    ("Approval.client", "an id"),
    ("Approval.grant", "an id"),
    ("Approval.id", "a random id"),
    ("Approval.method", "an HTTP method"),
    ("Approval.operation", "names of a target and an operation"),
    (
        "Approval.path_and_query",
        "where a call goes, for those who guard the tenant",
    ),
    ("Approval.tenant", "an id"),
    (
        "BeginConnectResponse.authorization_url",
        "a URL of the provider's: a challenge, no verifier",
    ),
    (
        "BeginConnectResponse.redirect_uri",
        "a URL of the caller's, or of the public listener",
    ),
    (
        "BeginConnectResponse.state",
        "what only its initiator can use",
    ),
    (
        "BeginDeviceConnectResponse.handle",
        "what only its initiator can use",
    ),
    (
        "BeginDeviceConnectResponse.user_code",
        "what an owner types at the provider; the device code stays inside",
    ),
    (
        "BeginDeviceConnectResponse.verification_uri",
        "a page of the provider's",
    ),
    (
        "BeginDeviceConnectResponse.verification_uri_complete",
        "the same with the user code in it",
    ),
    ("Client.id", "an id that the vendor chose"),
    ("Client.jwks", "public keys"),
    ("Client.spiffe_id", "the name of a workload"),
    ("Client.tls_spki_sha256", "the digest of a public key"),
    (
        "DepositGrantResponse.pending_reason",
        "a word of ours for why an exchange waits",
    ),
    ("Consent.authorization_endpoint", "a URL as registered"),
    (
        "Consent.device_authorization_endpoint",
        "a URL as registered",
    ),
    ("Consent.offline_scopes", "scopes as registered"),
    ("Client.vendor", "an id"),
    ("Erasure.by", "the administrator's name in the manifest"),
    ("Erasure.state", "a word of ours"),
    ("Erasure.tenant", "an id"),
    (
        "Erasure.waits_for",
        "names of keyholders, ids of shares and recovery sets",
    ),
    (
        "Evidence.certificates",
        "public certificates of the platform",
    ),
    (
        "Evidence.collateral",
        "Intel's public statements about the platform",
    ),
    ("Evidence.report", "the platform's report, public"),
    (
        "Event.detail",
        "what happened, for those who act for the tenant: ids, words and digests, no token",
    ),
    ("Event.leaf_hash", "the hash of a leaf"),
    ("TestWebhookResponse.event_id", "an id of ours"),
    ("Webhook.by", "the administrator's name in the manifest"),
    ("Webhook.id", "an id that the tenant chose"),
    ("Webhook.tenant", "an id"),
    (
        "Webhook.url",
        "a URL as the tenant's owner gave it, without query or user information",
    ),
    (
        "EvidencePart.data",
        "public documents; the tenant's policy and inventory, which hold no token",
    ),
    ("EvidencePart.name", "a word of ours"),
    (
        "EvidenceStatement.signature",
        "a signature by the instance key",
    ),
    ("EvidenceStatement.text", "digests, a nonce, ids"),
    ("Freeze.by", "the administrator's name in the manifest"),
    ("Freeze.reason", "what the administrator gave as reason"),
    ("Freeze.tenant", "an id"),
    ("FreezeSubject.app", "an id"),
    ("FreezeSubject.client", "an id"),
    ("FreezeSubject.grant", "an id"),
    ("FreezeSubject.jkt", "the thumbprint of a public key"),
    ("FreezeSubject.provider", "an id"),
    ("FreezeSubject.tenant", "an id"),
    ("FreezeSubject.vendor", "an id"),
    (
        "GetCheckpointResponse.checkpoint",
        "a signed tree head, public",
    ),
    ("GetEvidenceResponse.key_bundle", "public keys and digests"),
    ("GetManifestResponse.manifest", "the manifest, public"),
    ("GetManifestResponse.signature", "the manifest's signature"),
    (
        "ProveConnectionResponse.signature",
        "a signature over the connection's exporter value",
    ),
    ("Grant.app", "an id"),
    (
        "Grant.cause",
        "a word of ours for why the owner must consent again",
    ),
    ("Grant.clients", "ids"),
    ("Grant.id", "an id that the tenant chose"),
    ("Grant.operations", "names of targets and operations"),
    (
        "Grant.resources",
        "resource indicators made of the gateway's origin and ids, or as registered",
    ),
    (
        "Grant.provider_told",
        "a word of ours for what came of the revocation",
    ),
    ("Grant.scopes", "the scopes that the tenant allows"),
    ("Grant.targets", "names of targets"),
    ("Grant.tenant", "an id"),
    (
        "GrantTerms.approval_operations",
        "names of targets and operations",
    ),
    (
        "GrantTerms.owner",
        "who answers for it, as its tenant wrote it",
    ),
    (
        "GrantTerms.purpose",
        "what it is for, as its tenant wrote it",
    ),
    (
        "IntrospectTokenResponse.actors",
        "the actors of a token that the caller showed",
    ),
    ("IntrospectTokenResponse.client_id", "an id"),
    ("IntrospectTokenResponse.grant", "an id"),
    (
        "IntrospectTokenResponse.jkt",
        "the thumbprint of a public key",
    ),
    (
        "IntrospectTokenResponse.jti",
        "the id of a token that the caller showed",
    ),
    (
        "IntrospectTokenResponse.resource",
        "the audience of a token that the caller showed",
    ),
    (
        "IntrospectTokenResponse.scopes",
        "the scopes of a token that the caller showed",
    ),
    (
        "IntrospectTokenResponse.x5t_s256",
        "the digest of a certificate",
    ),
    (
        "IssueTokenResponse.access_token",
        "a token that the enclave minted, or the provider's own where the grant lets it out; bound to the caller's key",
    ),
    (
        "IssueTokenResponse.resource",
        "the resource that was asked for",
    ),
    ("IssueTokenResponse.scopes", "scopes within the grant"),
    ("IssueTokenResponse.token_type", "the word DPoP or Bearer"),
    ("Key.id", "what names a public key, or nothing"),
    ("Key.state", "a word of ours"),
    (
        "Leaf.entry",
        "a leaf as everybody reads it: what is private in it is sealed",
    ),
    (
        "Leaf.event",
        "what happened, for those who act for the tenant: ids, words and digests, no token",
    ),
    ("Leaf.tenant", "an id"),
    (
        "ListAppsResponse.next_page_token",
        "the last id of the page",
    ),
    (
        "ListClientsResponse.next_page_token",
        "the last id of the page",
    ),
    (
        "ListGrantsResponse.next_page_token",
        "the last id of the page",
    ),
    (
        "ListLogsResponse.next_page_token",
        "the number of the page's last log",
    ),
    (
        "ListProvidersResponse.next_page_token",
        "the last id of the page",
    ),
    (
        "ListTenantsResponse.next_page_token",
        "the last id of the page",
    ),
    (
        "ListVendorsResponse.next_page_token",
        "the last id of the page",
    ),
    ("LogSummary.origin", "the name of a log, public"),
    ("NoncePath.siblings", "hashes of verifiers' nonces"),
    ("Operation.content_types", "media types as registered"),
    ("Operation.id", "an id as registered"),
    ("Operation.method", "an HTTP method as registered"),
    ("Operation.path", "a path template as registered"),
    ("Operation.query", "query names as registered"),
    ("Policy.by", "the administrator's name in the manifest"),
    ("Policy.sha256", "the digest of the tenant's policy"),
    ("Policy.signer_sha256", "the digest of a public key"),
    ("Policy.tenant", "an id"),
    (
        "Policy.text",
        "the policy that the tenant's administrator set",
    ),
    ("Policy.unusable", "what is wrong with that policy"),
    ("ProveConsistencyResponse.checkpoint", "a signed tree head"),
    ("ProveConsistencyResponse.hashes", "hashes of a log's nodes"),
    ("ProveInclusionResponse.checkpoint", "a signed tree head"),
    ("ProveInclusionResponse.hashes", "hashes of a log's nodes"),
    ("ProveInclusionResponse.leaf_hash", "the hash of a leaf"),
    (
        "ParametersEntry.key",
        "the name of a parameter of a profile",
    ),
    (
        "ParametersEntry.value",
        "what the operator put in its place: a host or the like",
    ),
    ("ProfileOrigin.id", "what a profile is called"),
    ("ProfileOrigin.sha256", "the digest of a profile"),
    ("ProfileOrigin.signer_sha256", "the digest of a public key"),
    ("Provider.id", "an id that the operator chose"),
    ("Provider.issuer", "a URL as registered"),
    ("Provider.revocation_endpoint", "a URL as registered"),
    ("Provider.token_endpoint", "a URL as registered"),
    ("ProviderProfile.assertion_audience", "a URL as registered"),
    ("ProviderProfile.dead_codes", "error codes as registered"),
    ("Receipt.leaf_hash", "the hash of a leaf"),
    ("Receipt.log", "the name of a log, public"),
    ("Target.gateway_base_url", "a URL as registered"),
    ("Target.name", "a name as registered"),
    ("Target.resource", "a resource indicator as registered"),
    (
        "Target.upstream_resource",
        "a resource indicator as registered",
    ),
    (
        "TargetHost.host",
        "a host that the tenant's administrator named",
    ),
    ("TargetHost.target", "a name as registered"),
    ("TargetLimits.target", "a name as registered"),
    ("Tenant.display_name", "a name as registered"),
    ("Tenant.id", "an id that the operator chose"),
    ("TokenRefusal.message", "a fixed phrase of ours"),
    ("TokenRefusal.oauth_error", "an OAuth error code"),
    ("TokenRefusal.reason", "a word of ours"),
    ("Vendor.display_name", "a name as registered"),
    ("Vendor.id", "an id that the operator chose"),
];

/// Words that name what must stay inside. A field of an answer whose name has one must say here why it may.
const SECRET_WORDS: [&str; 9] = [
    "assertion",
    "bearer",
    "credential",
    "password",
    "private",
    "refresh",
    "secret",
    "sealed",
    "token",
];

/// Fields with such a name that hold no secret of a provider.
const HARMLESS: &[(&str, &str)] = &[
    ("Grant.refresh_generation", "a count"),
    (
        "IssueTokenResponse.access_token",
        "a token that the enclave minted, or the provider's own where the grant lets it out; bound to the caller's key",
    ),
    ("IssueTokenResponse.token_type", "the word DPoP"),
    ("Limits.tokens", "how many may be asked for"),
    (
        "ListAppsResponse.next_page_token",
        "the last id of the page",
    ),
    (
        "ListClientsResponse.next_page_token",
        "the last id of the page",
    ),
    (
        "ListGrantsResponse.next_page_token",
        "the last id of the page",
    ),
    (
        "ListLogsResponse.next_page_token",
        "the number of the page's last log",
    ),
    (
        "ListProvidersResponse.next_page_token",
        "the last id of the page",
    ),
    (
        "ListTenantsResponse.next_page_token",
        "the last id of the page",
    ),
    (
        "ListVendorsResponse.next_page_token",
        "the last id of the page",
    ),
    ("Provider.token_endpoint", "a URL as registered"),
    (
        "ProviderProfile.assertion_audience",
        "whom assertions are for",
    ),
];

struct Contract {
    messages: BTreeMap<String, DescriptorProto>,
    /// The full name of each method and of its answer.
    answers: Vec<(String, String)>,
}

impl Contract {
    fn read(descriptors: &[u8]) -> Self {
        let set = FileDescriptorSet::decode(descriptors).unwrap();
        let mut contract = Self {
            messages: BTreeMap::new(),
            answers: Vec::new(),
        };
        for file in set.file {
            let package = format!(".{}", file.package());
            for message in &file.message_type {
                contract.add(&package, message);
            }
            for service in &file.service {
                for method in &service.method {
                    let name = format!("{package}.{}/{}", service.name(), method.name());
                    contract
                        .answers
                        .push((name, method.output_type().to_owned()));
                }
            }
        }
        contract
    }

    fn add(&mut self, scope: &str, message: &DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        for nested in &message.nested_type {
            self.add(&name, nested);
        }
        self.messages.insert(name, message.clone());
    }

    /// Every field that an answer can hold: its name and type.
    fn fields_of_answers(&self) -> BTreeMap<String, Type> {
        let mut fields = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut waiting: Vec<&str> = self.answers.iter().map(|(_, to)| to.as_str()).collect();
        while let Some(name) = waiting.pop() {
            if !seen.insert(name) {
                continue;
            }
            let message = self
                .messages
                .get(name)
                .unwrap_or_else(|| panic!("{name} is not described"));
            assert!(message.extension_range.is_empty(), "{name} is open-ended");
            for field in &message.field {
                let short = name.rsplit('.').next().unwrap_or(name);
                fields.insert(format!("{short}.{}", field.name()), field.r#type());
                if matches!(field.r#type(), Type::Message | Type::Group) {
                    waiting.push(field.type_name());
                }
            }
        }
        fields
    }

    fn texts_of_answers(&self) -> BTreeSet<String> {
        self.fields_of_answers()
            .into_iter()
            .filter(|(_, kind)| matches!(kind, Type::String | Type::Bytes))
            .map(|(name, _)| name)
            .collect()
    }
}

fn listed(table: &[(&str, &str)]) -> BTreeSet<String> {
    let names: BTreeSet<String> = table.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names.len(), table.len(), "a field is listed twice");
    for (name, reason) in table {
        assert!(!reason.is_empty(), "{name} is listed without a reason");
    }
    names
}

#[test]
fn every_text_that_an_answer_can_carry_is_listed() {
    let contract = Contract::read(proto::FILE_DESCRIPTOR_SET);
    let (found, listed) = (contract.texts_of_answers(), listed(MAY_BE_TOLD));
    let new: Vec<_> = found.difference(&listed).collect();
    assert!(new.is_empty(), "say what these carry: {new:?}");
    let gone: Vec<_> = listed.difference(&found).collect();
    assert!(gone.is_empty(), "these are no longer there: {gone:?}");
}

#[test]
fn no_answer_has_a_field_for_a_secret() {
    let contract = Contract::read(proto::FILE_DESCRIPTOR_SET);
    let named: BTreeSet<String> = contract
        .fields_of_answers()
        .into_keys()
        .filter(|name| {
            let field = name.split('.').nth(1).unwrap_or_default();
            SECRET_WORDS.iter().any(|word| field.contains(word))
        })
        .collect();
    assert_eq!(named, listed(HARMLESS));
}

#[test]
fn secrets_travel_inward_sealed_only() {
    // What a request may bring in: sealed to the attested key, never in clear.
    let contract = Contract::read(proto::FILE_DESCRIPTOR_SET);
    let clear: Vec<String> = contract
        .messages
        .iter()
        .flat_map(|(name, message)| {
            message
                .field
                .iter()
                .map(move |field| (name, field.name().to_owned()))
        })
        .filter(|(_, field)| field.contains("secret") || field.contains("refresh_token"))
        .filter(|(_, field)| !field.starts_with("sealed_"))
        .map(|(name, field)| format!("{name}.{field}"))
        .collect();
    assert_eq!(clear, Vec::<String>::new());
}

#[test]
fn the_walk_finds_fields_at_every_depth() {
    use prost_types::{
        FieldDescriptorProto, FileDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto,
    };
    let field = |name: &str, kind: Type, of: Option<&str>| FieldDescriptorProto {
        name: Some(name.to_owned()),
        r#type: Some(kind.into()),
        type_name: of.map(str::to_owned),
        ..Default::default()
    };
    let message = |name: &str, field: Vec<_>, nested_type: Vec<_>| DescriptorProto {
        name: Some(name.to_owned()),
        field,
        nested_type,
        ..Default::default()
    };
    let entry = message("Entry", vec![field("value", Type::Bytes, None)], Vec::new());
    let set = FileDescriptorSet {
        file: vec![FileDescriptorProto {
            package: Some("p".to_owned()),
            message_type: vec![
                message("Ask", vec![field("asked", Type::String, None)], vec![]),
                message(
                    "Answer",
                    vec![
                        field("more", Type::Message, Some(".p.More")),
                        field("count", Type::Uint64, None),
                    ],
                    vec![],
                ),
                message(
                    "More",
                    vec![
                        field("again", Type::Message, Some(".p.More")),
                        field("map", Type::Message, Some(".p.More.Entry")),
                        field("name", Type::String, None),
                    ],
                    vec![entry],
                ),
            ],
            service: vec![ServiceDescriptorProto {
                name: Some("S".to_owned()),
                method: vec![MethodDescriptorProto {
                    name: Some("M".to_owned()),
                    input_type: Some(".p.Ask".to_owned()),
                    output_type: Some(".p.Answer".to_owned()),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        }],
    };
    let contract = Contract::read(&set.encode_to_vec());
    let expected = ["Entry.value", "More.name"].map(str::to_owned);
    assert_eq!(contract.texts_of_answers(), BTreeSet::from(expected));
}
