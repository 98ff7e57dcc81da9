//! Tests of administration: who may do what, and each reason why not.

use super::*;
use crate::freeze::Subject;
use crate::ids::{GrantId, TargetName};
use crate::limits::Limits;
use crate::operation::{Operation, OperationName};
use crate::registry::{
    Api, Client, ClientKey, ClientKind, Grant, Rotation, Target, TargetHost, Tenant, Vendor,
};
use crate::spiffe::SpiffeId;
use crate::testing::{ADMIN_SPKI, CLIENT_SPKI, GATEWAY, World, id, key};

fn world() -> World {
    World::new(Rotation::Strict)
}

fn administrator(roles: &[Role]) -> Administrator {
    Administrator {
        name: "someone".into(),
        spki_sha256: [7; 32],
        roles: roles.to_vec(),
    }
}

fn deposit(world: &World, by: &Administrator, grant: Grant) -> Result<(), AdminError> {
    let (tenant, app) = (grant.tenant.to_string(), grant.app.to_string());
    let sealed = world.seal(&tenant, &app, grant.id.as_str(), "refresh-token", "t");
    let request = DepositRequest {
        grant,
        sealed_refresh_token: &sealed,
        rotate: false,
        only_new: false,
    };
    world.enclave.deposit(by, request, &world.now).map(|_| ())
}

#[test]
fn each_role_reaches_its_own_and_nothing_else() {
    let world = world();
    let e = &world.enclave;
    let now = &world.now;
    let operator = administrator(&[Role::Operator]);
    let tenant = administrator(&[Role::Tenant(id("acme"))]);
    let other_tenant = administrator(&[Role::Tenant(id("other"))]);
    let vendor = administrator(&[Role::Vendor(id("crm-sync"))]);
    let other_vendor = administrator(&[Role::Vendor(id("other"))]);
    let security = administrator(&[Role::TenantSecurity(id("acme"))]);
    let auditor = administrator(&[Role::TenantAuditor(id("acme"))]);
    let new_tenant = || Tenant {
        id: id("new"),
        display_name: String::new(),
        limits: Limits::default(),
    };
    let new_vendor = || Vendor {
        id: id("new"),
        display_name: String::new(),
    };
    let new_client = || Client {
        id: id("new"),
        vendor: id("crm-sync"),
        tls_spki_sha256: Some([9; 32]),
        jwks: Vec::new(),
        spiffe_id: None,
        limits: Limits::default(),
        kind: ClientKind::default(),
    };
    let mut new_provider = world.provider();
    new_provider.id = id("new");
    let grant: GrantId = id("contacts");
    let acme = id("acme");
    let freeze = |by: &Administrator, subject, tenant| {
        let request = FreezeRequest {
            subject,
            tenant,
            reason: String::new(),
        };
        e.freeze(by, request, now).map(|_| ())
    };
    type Row<'a> = (
        &'a str,
        Box<dyn Fn(&Administrator) -> Result<(), AdminError> + 'a>,
        [Result<(), AdminError>; 7],
    );
    let no = || Err(AdminError::Forbidden);
    let absent = || Err(AdminError::NotFound("grant"));
    // In the order: operator, tenant, other tenant, vendor, other vendor, tenant's security, tenant's auditor.
    let rows: Vec<Row<'_>> = vec![
        (
            "create tenant",
            Box::new(|by| e.create_tenant(by, new_tenant(), now).map(|_| ())),
            [Ok(()), no(), no(), no(), no(), no(), no()],
        ),
        (
            "create vendor",
            Box::new(|by| e.create_vendor(by, new_vendor(), now).map(|_| ())),
            [Ok(()), no(), no(), no(), no(), no(), no()],
        ),
        (
            "create provider",
            Box::new(|by| e.create_provider(by, new_provider.clone(), now).map(|_| ())),
            [Ok(()), no(), no(), no(), no(), no(), no()],
        ),
        (
            "create client",
            Box::new(|by| e.create_client(by, new_client(), now).map(|_| ())),
            [no(), no(), no(), Ok(()), no(), no(), no()],
        ),
        (
            "update client",
            Box::new(|by| {
                let client = e.client(by, &id("worker"))?;
                e.update_client(by, client, now).map(|_| ())
            }),
            // To a vendor another one's client is as if it weren't there.
            [
                no(),
                no(),
                no(),
                Ok(()),
                Err(AdminError::NotFound("client")),
                no(),
                no(),
            ],
        ),
        (
            "read grant",
            Box::new(|by| e.grant(by, &grant).map(|_| ())),
            [
                absent(),
                Ok(()),
                absent(),
                absent(),
                absent(),
                Ok(()),
                Ok(()),
            ],
        ),
        (
            "list grants",
            Box::new(|by| {
                e.grants(by, &acme, None, PageRequest::default())
                    .map(|_| ())
            }),
            [no(), Ok(()), no(), no(), no(), Ok(()), Ok(())],
        ),
        (
            "deposit",
            Box::new(|by| deposit(&world, by, world.grant())),
            [no(), Ok(()), no(), no(), no(), no(), no()],
        ),
        (
            "freeze client everywhere",
            Box::new(|by| freeze(by, Subject::Client(id("worker")), None)),
            [Ok(()), no(), no(), Ok(()), no(), no(), no()],
        ),
        (
            "freeze grant everywhere",
            Box::new(|by| freeze(by, Subject::Grant(id("contacts")), None)),
            [Ok(()), no(), no(), no(), no(), no(), no()],
        ),
        (
            "freeze client for acme",
            Box::new(|by| freeze(by, Subject::Client(id("worker")), Some(id("acme")))),
            [no(), Ok(()), no(), no(), no(), Ok(()), no()],
        ),
        (
            "list freezes of acme",
            Box::new(|by| e.list_freezes(by, Some(&acme)).map(|_| ())),
            [no(), Ok(()), no(), no(), no(), Ok(()), Ok(())],
        ),
        (
            "list freezes everywhere",
            Box::new(|by| e.list_freezes(by, None).map(|_| ())),
            [Ok(()), no(), no(), no(), no(), no(), no()],
        ),
        (
            "revoke grant",
            Box::new(|by| e.revoke_grant(by, &grant, "", now).map(|_| ())),
            [absent(), Ok(()), absent(), absent(), absent(), Ok(()), no()],
        ),
        (
            "delete grant",
            Box::new(|by| e.delete_grant(by, &grant, now).map(|_| ())),
            [absent(), Ok(()), absent(), absent(), absent(), no(), no()],
        ),
        (
            "see tenant",
            Box::new(|by| e.tenant(by, &acme).map(|_| ())),
            [Ok(()), Ok(()), no(), no(), no(), Ok(()), Ok(())],
        ),
        (
            "replace the tenant's key",
            Box::new(|by| e.rotate_tenant_key(by, &acme, now).map(|_| ())),
            [Ok(()), Ok(()), no(), no(), no(), Ok(()), no()],
        ),
        (
            "erase tenant",
            Box::new(|by| e.erase_tenant(by, &acme, now).map(|_| ())),
            [Ok(()), Ok(()), no(), no(), no(), no(), no()],
        ),
        (
            "read the tenant's leaves",
            Box::new(|by| e.leaf_reader(by, Some(&acme)).map(|_| ())),
            [no(), Ok(()), no(), no(), no(), Ok(()), Ok(())],
        ),
        (
            "list the vendor's clients",
            Box::new(|by| {
                e.clients(by, &id("crm-sync"), PageRequest::default())
                    .map(|_| ())
            }),
            [Ok(()), Ok(()), Ok(()), Ok(()), no(), Ok(()), Ok(())],
        ),
        (
            "list the vendor's apps",
            Box::new(|by| {
                e.apps(by, &id("crm-sync"), PageRequest::default())
                    .map(|_| ())
            }),
            [Ok(()), Ok(()), Ok(()), Ok(()), no(), Ok(()), Ok(())],
        ),
        (
            "see the vendor's app",
            Box::new(|by| e.app(by, &world.grant().app).map(|_| ())),
            [
                Ok(()),
                Ok(()),
                Ok(()),
                Ok(()),
                Err(AdminError::NotFound("app")),
                Ok(()),
                Ok(()),
            ],
        ),
    ];
    for (what, act, expected) in rows {
        let callers = [
            &operator,
            &tenant,
            &other_tenant,
            &vendor,
            &other_vendor,
            &security,
            &auditor,
        ];
        for (by, expected) in callers.into_iter().zip(expected) {
            assert_eq!(act(by), expected, "{what} by {:?}", by.roles);
        }
    }
}

#[test]
fn each_ill_formed_registration_is_refused() {
    let world = world();
    let (e, by, now) = (&world.enclave, world.admin(), &world.now);
    let client = |id_text: &str, spki| Client {
        id: id(id_text),
        vendor: id("crm-sync"),
        tls_spki_sha256: Some(spki),
        jwks: Vec::new(),
        spiffe_id: None,
        limits: Limits::default(),
        kind: ClientKind::default(),
    };
    let found = e
        .create_client(by, client("worker", [9; 32]), now)
        .map(|_| ());
    assert_eq!(found, Err(AdminError::Exists("client")));
    for taken in [CLIENT_SPKI, ADMIN_SPKI] {
        let found = e.create_client(by, client("new", taken), now).map(|_| ());
        let expected = AdminError::Field {
            field: "client.tls_spki_sha256",
            rule: "the key belongs to another client or administrator: use a new one",
        };
        assert_eq!(found, Err(expected));
    }
    let jwk = |kid: &str| key().public_key().to_json_with_kid(kid);
    let one = jwk("1");
    let same_key = one.replace("\"kid\":\"1\"", "\"kid\":\"2\"");
    let many: Vec<String> = (0..9).map(|n| jwk(&n.to_string())).collect();
    let rows = [
        (
            Vec::new(),
            "client",
            "must have tls_spki_sha256, spiffe_id or jwks",
        ),
        (many, "client.jwks", "at most 8"),
        (
            vec![one.clone(), jwk("1")],
            "client.jwks",
            "each key and each kid once",
        ),
        (
            vec![one, same_key],
            "client.jwks",
            "each key and each kid once",
        ),
    ];
    for (jwks, field, rule) in rows {
        let mut client = client("new", [9; 32]);
        client.tls_spki_sha256 = None;
        client.jwks = jwks
            .iter()
            .map(|jwk| ClientKey::from_json(jwk).unwrap())
            .collect();
        let found = e.create_client(by, client, now).map(|_| ());
        assert_eq!(found, Err(AdminError::Field { field, rule }));
    }

    let with_id = |name: &str, spiffe_id: &str| Client {
        tls_spki_sha256: None,
        spiffe_id: SpiffeId::parse(spiffe_id).ok(),
        ..client(name, [9; 32])
    };
    let refused = |rule| {
        let field = "client.spiffe_id";
        Err(AdminError::Field { field, rule })
    };
    let foreign = with_id("new", "spiffe://other.test/new");
    let found = e.create_client(by, foreign, now).map(|_| ());
    let rule = "its trust domain must be one that the manifest gives to the vendor";
    assert_eq!(found, refused(rule));
    let own = with_id("new", "spiffe://workloads.test/new");
    world.settle(e.create_client(by, own, now).unwrap());
    let taken = with_id("newer", "spiffe://workloads.test/new");
    let found = e.create_client(by, taken, now).map(|_| ());
    assert_eq!(found, refused("the SPIFFE ID belongs to another client"));

    // A change is held to the same rules, and to the client's vendor.
    let change = |client: Client| e.update_client(by, client, now).map(|_| ());
    let unknown = change(client("nobody", [9; 32]));
    assert_eq!(unknown, Err(AdminError::NotFound("client")));
    let taken = change(client("stranger", CLIENT_SPKI));
    let rule = "the key belongs to another client or administrator: use a new one";
    let field = "client.tls_spki_sha256";
    assert_eq!(taken, Err(AdminError::Field { field, rule }));
    let moved = change(Client {
        vendor: id("other"),
        ..client("stranger", [9; 32])
    });
    let field = "client.vendor";
    let rule = "a client stays with its vendor";
    assert_eq!(moved, Err(AdminError::Field { field, rule }));
    // Its own key may stay.
    assert_eq!(change(client("worker", CLIENT_SPKI)), Ok(()));

    let mut provider = world.provider();
    let again = e.create_provider(by, provider.clone(), now).map(|_| ());
    assert_eq!(again, Err(AdminError::Exists("provider")));
    provider.id = id("new");
    let target = |name: &str, resource: &str| Target {
        name: id::<TargetName>(name),
        api: Api::Direct {
            resource: resource.into(),
        },
    };
    let field = |field, rule| Err(AdminError::Field { field, rule });
    let mut twice = provider.clone();
    twice.targets.push(target("api", "https://x.example/"));
    let found = e.create_provider(by, twice, now).map(|_| ());
    assert_eq!(found, field("provider.targets.name", "each name once"));
    let mut own = provider.clone();
    own.targets
        .push(target("own", &format!("{GATEWAY}/g/contacts/api")));
    let found = e.create_provider(by, own, now).map(|_| ());
    assert_eq!(
        found,
        field(
            "provider.targets.resource",
            "must not be a resource of the gateway"
        )
    );
    let mut many = provider.clone();
    many.targets = (0..65)
        .map(|i| target(&format!("t{i}"), "https://x.example/"))
        .collect();
    let found = e.create_provider(by, many, now).map(|_| ());
    assert_eq!(found, field("provider.targets", "at most 64"));
}

#[test]
fn each_ill_formed_deposit_is_refused_and_changes_nothing() {
    let world = world();
    let by = world.admin();
    type Change = fn(&mut Grant);
    let field = |field, rule| AdminError::Field { field, rule };
    let rows: [(&str, Change, AdminError); 11] = [
        (
            "unknown tenant",
            |g| g.tenant = id("nobody"),
            AdminError::Forbidden,
        ),
        (
            "unknown app",
            |g| g.app = id("nothing"),
            AdminError::NotFound("app"),
        ),
        (
            "unknown client",
            |g| g.clients = vec![id("nobody")],
            AdminError::NotFound("client"),
        ),
        (
            "unknown target",
            |g| g.targets = vec![id("nowhere")],
            AdminError::NotFound("target"),
        ),
        (
            "no client",
            |g| g.clients.clear(),
            field("grant.clients", "1 to 64, each once"),
        ),
        (
            "a client twice",
            |g| g.clients.push(id("worker")),
            field("grant.clients", "1 to 64, each once"),
        ),
        (
            "no target",
            |g| g.targets.clear(),
            field("grant.targets", "1 to 64, each once"),
        ),
        (
            "a target twice",
            |g| g.targets.push(id("api")),
            field("grant.targets", "1 to 64, each once"),
        ),
        (
            "more scopes than before",
            |g| g.scopes = crate::scope::Scopes::parse(["admin"]).unwrap(),
            field(
                "grant",
                "a new token for an existing grant must not change the rest of it",
            ),
        ),
        (
            "another client than before",
            |g| g.clients = vec![id("stranger")],
            field(
                "grant",
                "a new token for an existing grant must not change the rest of it",
            ),
        ),
        (
            "fewer targets than before",
            |g| g.targets = vec![id("api")],
            field(
                "grant",
                "a new token for an existing grant must not change the rest of it",
            ),
        ),
    ];
    for (what, change, expected) in rows {
        let mut grant = world.grant();
        change(&mut grant);
        assert_eq!(deposit(&world, by, grant), Err(expected), "{what}");
    }
}

#[test]
fn a_deposit_opens_for_its_own_enclave_and_place_only() {
    let world = world();
    let by = world.admin();
    let send = |sealed: &[u8]| {
        let request = DepositRequest {
            grant: world.grant(),
            sealed_refresh_token: sealed,
            rotate: false,
            only_new: false,
        };
        world.enclave.deposit(by, request, &world.now).map(|_| ())
    };
    let good = world.seal("acme", "crm-app", "contacts", "refresh-token", "t");
    assert_eq!(send(&good), Ok(()));
    let mut flipped = good.clone();
    flipped[40] ^= 1;
    let other = World::new(Rotation::Strict);
    let rows = [
        ("nothing", Vec::new()),
        ("short", good[..31].to_vec()),
        ("a key alone", good[..32].to_vec()),
        ("flipped", flipped),
        (
            "another tenant",
            world.seal("other", "crm-app", "contacts", "refresh-token", "t"),
        ),
        (
            "another app",
            world.seal("acme", "other", "contacts", "refresh-token", "t"),
        ),
        (
            "another grant",
            world.seal("acme", "crm-app", "other", "refresh-token", "t"),
        ),
        (
            "another kind",
            world.seal("acme", "crm-app", "contacts", "client-secret", "t"),
        ),
        (
            "another enclave",
            other.seal("acme", "crm-app", "contacts", "refresh-token", "t"),
        ),
        ("too long", vec![0; 100_000]),
    ];
    for (what, sealed) in rows {
        assert_eq!(send(&sealed), Err(AdminError::Deposit), "{what}");
    }
    let control = world.seal("acme", "crm-app", "contacts", "refresh-token", "a\nb");
    let expected = AdminError::Field {
        field: "sealed_refresh_token",
        rule: "the token must be printable ASCII [RFC 6749 A.17]",
    };
    assert_eq!(send(&control), Err(expected));
}

#[test]
fn a_freeze_names_what_exists_and_a_tenant_names_its_own() {
    let world = world();
    let by = world.admin();
    let rows = [
        (
            Subject::Client(id("nobody")),
            None,
            AdminError::NotFound("client"),
        ),
        (
            Subject::Vendor(id("nobody")),
            None,
            AdminError::NotFound("vendor"),
        ),
        (
            Subject::Tenant(id("nobody")),
            None,
            AdminError::NotFound("tenant"),
        ),
        (
            Subject::Provider(id("nobody")),
            None,
            AdminError::NotFound("provider"),
        ),
        (
            Subject::App(id("nobody")),
            None,
            AdminError::NotFound("app"),
        ),
        (
            Subject::Grant(id("nobody")),
            None,
            AdminError::NotFound("grant"),
        ),
        (
            Subject::Key("short".into()),
            None,
            AdminError::Field {
                field: "subject.jkt",
                rule: "an RFC 7638 SHA-256 thumbprint in base64url, 43 characters",
            },
        ),
        (
            Subject::Client(id("worker")),
            Some(id("nobody")),
            AdminError::Forbidden,
        ),
    ];
    for (subject, tenant, expected) in rows {
        let request = FreezeRequest {
            subject: subject.clone(),
            tenant,
            reason: String::new(),
        };
        let found = world.enclave.freeze(by, request, &world.now).map(|_| ());
        assert_eq!(found, Err(expected), "{subject:?}");
    }
    let thawed = world
        .enclave
        .thaw(by, Subject::Client(id("worker")), None, &world.now);
    assert_eq!(thawed.map(|_| ()), Err(AdminError::NotFound("freeze")));
}

#[test]
fn pages_follow_each_other_and_end() {
    let world = world();
    let by = world.admin();
    let all = |size| {
        let mut found = Vec::new();
        let mut after = String::new();
        loop {
            let request = PageRequest {
                size,
                after: &after,
            };
            let page = world.enclave.clients(by, &id("crm-sync"), request).unwrap();
            found.extend(page.entries.into_iter().map(|client| client.id.to_string()));
            if page.next.is_empty() {
                return found;
            }
            after = page.next;
        }
    };
    assert_eq!(all(0), ["stranger", "worker"]);
    assert_eq!(all(1), ["stranger", "worker"]);
    let request = PageRequest {
        size: 1_001,
        after: "",
    };
    let found = world.enclave.tenants(by, request).map(|_| ());
    let expected = AdminError::Field {
        field: "page_size",
        rule: "at most 1000",
    };
    assert_eq!(found, Err(expected));
}

#[test]
fn a_grant_names_operations_and_hosts_that_its_targets_have() {
    let world = world();
    let by = world.admin();
    let listed = || world.listed_grant();
    assert_eq!(deposit(&world, by, listed()), Ok(()));
    let operations = AdminError::Field {
        field: "grant.operations",
        rule: "operations that the targets have, each once, and at least one for each target behind the gateway",
    };
    let hosts = AdminError::Field {
        field: "grant.hosts",
        rule: "one host below the base URL's for each target with tenant hosts, none for others",
    };
    let name = |text| OperationName::parse(text).unwrap();
    let host = |target: &str, host: &str| TargetHost {
        target: id(target),
        host: host.into(),
    };
    type Change<'a> = Box<dyn Fn(&mut Grant) + 'a>;
    let at = |text: &'static str| -> Change<'_> {
        Box::new(move |g: &mut Grant| g.hosts = vec![host("listed", text)])
    };
    let rows: Vec<(&str, Change<'_>, AdminError)> = vec![
        (
            "an operation that there is not",
            Box::new(|g| g.operations.push(name("listed/people-kill"))),
            operations.clone(),
        ),
        (
            "one twice",
            Box::new(|g| g.operations.push(name("listed/people-add"))),
            operations.clone(),
        ),
        (
            "none for a target behind the gateway",
            Box::new(|g| g.targets.push(id("api"))),
            operations.clone(),
        ),
        (
            "one of a target that lists none",
            Box::new(|g| {
                g.targets = vec![id("api")];
                g.hosts.clear();
                g.operations = vec![name("api/people-list")];
            }),
            operations.clone(),
        ),
        (
            "one of a target that is not the grant's",
            Box::new(|g| g.operations.push(name("api/people-list"))),
            AdminError::NotFound("target"),
        ),
        (
            "a host of a target that is not the grant's",
            Box::new(|g| g.hosts.push(host("api", "acme.my.crm.example"))),
            AdminError::NotFound("target"),
        ),
        ("no host", Box::new(|g| g.hosts.clear()), hosts.clone()),
        (
            "two hosts",
            Box::new(|g| g.hosts.push(host("listed", "other.my.crm.example"))),
            hosts.clone(),
        ),
        ("the parent itself", at("my.crm.example"), hosts.clone()),
        ("a host elsewhere", at("acme.evil.example"), hosts.clone()),
        (
            "one that ends the same",
            at("evilmy.crm.example"),
            hosts.clone(),
        ),
        ("an empty label", at(".my.crm.example"), hosts.clone()),
        ("a path", at("evil.example/.my.crm.example"), hosts.clone()),
        ("a port", at("evil.example:1.my.crm.example"), hosts.clone()),
        ("user information", at("a@b.my.crm.example"), hosts.clone()),
        ("upper case", at("Acme.my.crm.example"), hosts.clone()),
        (
            "a dot at the end",
            at("acme.my.crm.example."),
            hosts.clone(),
        ),
        ("a bad A-label", at("xn--0.my.crm.example"), hosts.clone()),
        (
            "a host for a target that has one for all",
            Box::new(|g| {
                g.targets = vec![id("api")];
                g.operations.clear();
                g.hosts = vec![host("api", "acme.my.crm.example")];
            }),
            hosts.clone(),
        ),
    ];
    for (what, change, expected) in rows {
        let mut grant = listed();
        grant.id = id("other");
        change(&mut grant);
        assert_eq!(deposit(&world, by, grant), Err(expected), "{what}");
    }
}

#[test]
fn a_targets_operations_keep_the_rules() {
    let world = world();
    let by = world.admin();
    let provider = |change: &dyn Fn(&mut Vec<Operation>)| {
        let mut provider = world.provider();
        provider.id = id("new");
        for target in &mut provider.targets {
            if let Api::Gateway { operations, .. } = &mut target.api
                && target.name.as_str() == "listed"
            {
                change(operations);
            }
        }
        let made = world.enclave.create_provider(by, provider, &world.now);
        made.map(|_| ())
    };
    let field = |field, rule| Err(AdminError::Field { field, rule });
    assert_eq!(provider(&|_| {}), Ok(()));
    let found = provider(&|all| {
        let first = all[0].clone();
        all.push(first);
    });
    assert_eq!(
        found,
        field("provider.targets.operations.id", "each id once")
    );
    let found = provider(&|all| all[0].method = "HEAD".into());
    assert_eq!(
        found,
        field(
            "provider.targets.operations.method",
            "must be GET, POST, PUT, PATCH or DELETE"
        )
    );
    let mut single = world.provider();
    single.id = id("single");
    single.targets.truncate(1);
    if let Api::Gateway { tenant_hosts, .. } = &mut single.targets[0].api {
        *tenant_hosts = true;
    }
    let found = world.enclave.create_provider(by, single, &world.now);
    assert_eq!(
        found.map(|_| ()),
        field(
            "provider.targets.tenant_hosts",
            "the base URL's host must be a name of two labels or more"
        )
    );
}
