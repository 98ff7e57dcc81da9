//! The view: what a start fills is what changes one by one come to.

use super::*;
use crate::admin::ErasurePhase;
use crate::custody::Exposure;
use crate::limits::Limits;
use crate::scope::Scopes;
use crate::testing::id;
use proptest::prelude::*;

fn tenant(number: u8) -> TenantId {
    id(&format!("tenant-{number}"))
}

/// Ids that differ early, late, or in their length alone.
fn grant_id(number: u8) -> GrantId {
    let long = "a-grant-with-a-long-name";
    match number % 3 {
        0 => id(&format!("g{number}")),
        1 => id(&format!("{long}-{number}")),
        _ => id(&long[..usize::from(number % 16) + 1].replace('-', "x")),
    }
}

fn grant((number, of, clients): (u8, u8, u8)) -> Held<Grant> {
    let clients = (0..3).filter(|bit| clients & (1 << bit) != 0);
    let grant = Grant {
        id: grant_id(number),
        tenant: tenant(of),
        app: id("crm-app"),
        clients: clients.map(|n| id(&format!("client-{n}"))).collect(),
        targets: vec![id("api")],
        scopes: Scopes::parse(["read"]).unwrap(),
        created_at_s: u64::from(number),
        expires_at_s: None,
        operations: Vec::new(),
        hosts: Vec::new(),
        terms: None,
        allow_upstream_bound: false,
    };
    Held::new(u64::from(number), grant)
}

fn custody(of: &Held<Grant>) -> Effect {
    let custody = Custody {
        tenant: of.value.tenant.clone(),
        refresh_generation: 1,
        refreshed_at_s: 2,
        phase: Phase::Idle,
        told: None,
        exposure: Exposure::None,
        sealed: Arc::from([7]),
    };
    Effect::Custody(of.value.id.clone(), Held::new(1, custody))
}

fn erasure(of: u8) -> Held<Erasure> {
    let erasure = Erasure {
        tenant: tenant(of),
        begun_at_s: 3,
        by: "admin".to_owned(),
        phase: ErasurePhase::Begun {},
    };
    Held::new(1, erasure)
}

fn of_grant(id: &GrantId) -> [Effect; 3] {
    let sealed = HeldSealed {
        generation: 1,
        sealed: Arc::from([8]),
    };
    [
        Effect::Journal(id.clone(), sealed.clone()),
        Effect::Orphan(id.clone(), 4, sealed.clone()),
        Effect::Revocation(id.clone(), sealed),
    ]
}

/// All that a view knows of grants.
fn known(view: &View) -> String {
    let custody: BTreeMap<_, _> = view.custody.iter().collect();
    let journal: BTreeSet<_> = view.journal.keys().collect();
    let revocations: BTreeSet<_> = view.revocations.keys().collect();
    let by_client: BTreeMap<_, _> = view.grants_by_client.iter().collect();
    let by_client = by_client.iter().filter(|(_, ids)| !ids.is_empty());
    format!(
        "{:?} {custody:?} {journal:?} {:?} {revocations:?} {:?} {:?} {:?}",
        view.grants,
        view.orphans,
        by_client.collect::<Vec<_>>(),
        view.tenants,
        view.erasures,
    )
}

proptest! {
    #[test]
    fn what_a_start_fills_is_what_one_by_one_comes_to(
        grants in prop::collection::btree_map(0_u8..60, (0_u8..4, 0_u8..8), 0..40),
        erased in prop::collection::btree_set(0_u8..4, 0..3),
    ) {
        // One of each id.
        let grants = grants.into_iter().map(|(number, (of, clients))| grant((number, of, clients)));
        let grants: BTreeMap<_, _> = grants.map(|held| (held.value.id.clone(), held)).collect();
        let tenants = || (0..4).map(|of| Effect::Tenant(Held::new(1, Tenant {
            id: tenant(of),
            display_name: "A".to_owned(),
            limits: Limits::default(),
        })));
        let (mut filled, mut one_by_one) = (View::default(), View::default());
        for view in [&mut filled, &mut one_by_one] {
            for effect in tenants() {
                view.apply(effect);
            }
            for held in grants.values() {
                view.apply(custody(held));
            }
        }
        for held in grants.values() {
            one_by_one.apply(Effect::Grant(held.clone()));
        }
        for view in [&mut filled, &mut one_by_one] {
            for effect in grants.keys().flat_map(of_grant) {
                view.apply(effect);
            }
        }
        for of in &erased {
            one_by_one.apply(Effect::Erasure(erasure(*of)));
        }
        let mut in_any_order: Vec<_> = grants.into_values().collect();
        in_any_order.sort_by_key(|held| held.value.created_at_s.wrapping_mul(37) % 61);
        filled.fill(in_any_order, erased.iter().map(|of| erasure(*of)).collect());
        prop_assert_eq!(known(&filled), known(&one_by_one));
        // The ids in the maps are the grants' own.
        for (id, held) in &filled.grants {
            prop_assert!(std::ptr::eq(held.value.id.as_str(), id.as_str()));
        }
    }
}
