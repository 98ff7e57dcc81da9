//! Tenants' policies, as an administrator sends them, and the requests that they are tested with.

use ::tenant_policy::cases::Cases;
use ::tenant_policy::{Ask, Binding, Compiled, Question, compare, template};

use super::Target;

pub(super) const CASES: Target = Target {
    name: "policy_cases",
    run: cases,
    seeds: case_seeds,
};
pub(super) const TEXT: Target = Target {
    name: "policy_text",
    run: text,
    seeds: text_seeds,
};

fn question(ask: Ask) -> Question {
    Question {
        client: "sync-worker".to_owned(),
        vendor: "crm-sync".to_owned(),
        grant: "contacts".to_owned(),
        app: "crm-app".to_owned(),
        provider: "crm".to_owned(),
        grant_scopes: vec!["contacts.read".to_owned(), "contacts.write".to_owned()],
        grant_targets: vec!["api".to_owned()],
        target: "api".to_owned(),
        scopes: vec!["contacts.read".to_owned()],
        key: "key".to_owned(),
        binding: Binding::Dpop,
        tier: "hardware".to_owned(),
        address: Some([192, 0, 2, 1].into()),
        at_s: 1_793_620_800,
        ask,
    }
}

fn asks() -> [Ask; 2] {
    let issue = Ask::Issue {
        audience: "https://api.example".to_owned(),
    };
    let call = Ask::Call {
        operation: "people-list".to_owned(),
        method: "GET".to_owned(),
    };
    [issue, call]
}

/// A policy that is read decides as its policies do one by one, and is no loosening of itself.
fn text(input: &[u8]) -> bool {
    let Ok(policy) = Compiled::new(input) else {
        return false;
    };
    let again = Compiled::new(policy.text().as_bytes()).expect("a policy that was read");
    assert_eq!(again, policy);
    assert!(compare(Some(&policy), Some(&again)).loosens.is_empty());
    for ask in asks() {
        let question = question(ask);
        let decision = policy.decide(&question);
        let explained = policy.explain(&question);
        let applies = |effect| {
            let mut each = explained.iter().filter(|one| one.effect.word() == effect);
            each.any(|one| one.applies)
        };
        let fails = explained
            .iter()
            .any(|one| one.failed && one.effect.word() == "forbid");
        let expected = applies("permit") && !applies("forbid") && !fails;
        assert_eq!(decision.permitted, expected);
    }
    true
}

fn text_seeds() -> Vec<Vec<u8>> {
    let all = template::ALL.iter();
    all.map(|one| one.text.as_bytes().to_vec()).collect()
}

fn cases(input: &[u8]) -> bool {
    let Ok(cases) = Cases::read(input) else {
        return false;
    };
    let policy = Compiled::new(template::ALL[0].text.as_bytes()).expect("a template");
    for case in cases.iter() {
        let outcome = case.run(&policy);
        assert!(!outcome.met || outcome.decision.permitted == case.permit);
    }
    true
}

fn case_seeds() -> Vec<Vec<u8>> {
    let seed = "[defaults]\nclient = \"w\"\nvendor = \"v\"\ngrant = \"g\"\napp = \"a\"\nprovider = \"p\"\n\
                target = \"api\"\naddress = \"192.0.2.1\"\n[[case]]\nname = \"x\"\naction = \"call\"\n\
                expect = \"permit\"\nby = [\"a\"]\n[[case]]\nname = \"y\"\naction = \"issue\"\n\
                at = \"2026-11-02T12:00:00Z\"\nscopes = [\"s\"]\nexpect = \"deny\"\n";
    vec![seed.as_bytes().to_vec()]
}
