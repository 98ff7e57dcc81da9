//! What a policy may look like, and what it decides.

use super::*;
use crate::decision::Decision;
use crate::question::{Binding, Question};

const ALL: &str = "@id(\"all\") permit(principal, action, resource);\n";

fn faults(text: &str) -> Vec<String> {
    match Compiled::new(text.as_bytes()) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

fn question(ask: Ask) -> Question {
    Question {
        client: "worker".into(),
        vendor: "crm-sync".into(),
        grant: "contacts".into(),
        app: "crm-app".into(),
        provider: "crm".into(),
        grant_scopes: vec!["read".into(), "write".into()],
        grant_targets: vec!["api".into()],
        target: "api".into(),
        scopes: vec!["read".into()],
        key: "thumbprint".into(),
        binding: Binding::Dpop,
        tier: "hardware".into(),
        address: Some("192.0.2.7".parse().unwrap()),
        // Monday.
        at_s: 1_793_620_800,
        ask,
    }
}

fn issue() -> Question {
    question(Ask::Issue {
        audience: "https://g.example/g/contacts/api".into(),
    })
}

fn call(operation: &str) -> Question {
    question(Ask::Call {
        operation: operation.into(),
        method: "GET".into(),
    })
}

fn decide(text: &str, question: &Question) -> Decision {
    Compiled::new(text.as_bytes()).unwrap().decide(question)
}

#[test]
fn each_fault_of_a_policy_is_told_with_its_place() {
    let permit = |id: &str| format!("@id(\"{id}\")\npermit(principal, action, resource);\n");
    let rule = "1 to 63 of a-z, 0-9 and single - inside";
    let rows: Vec<(String, Vec<String>)> = vec![
        (String::new(), vec![Fault::Empty.to_string()]),
        ("// nothing\n".into(), vec![Fault::Empty.to_string()]),
        (
            "\npermit(principal, action, resource);".into(),
            vec![Fault::NoId { line: 2 }.to_string()],
        ),
        (permit("Big"), vec![format!("line 1: @id(\"Big\"): {rule}")]),
        (permit(""), vec![format!("line 1: @id(\"\"): {rule}")]),
        (permit("-a"), vec![format!("line 1: @id(\"-a\"): {rule}")]),
        (
            permit("a--b"),
            vec![format!("line 1: @id(\"a--b\"): {rule}")],
        ),
        (
            permit(&"a".repeat(64)),
            vec![format!("line 1: @id(\"{}\"): {rule}", "a".repeat(63))],
        ),
        (
            permit("a") + &permit("b") + &permit("a"),
            vec!["line 5: @id(\"a\") is taken by the policy on line 1".into()],
        ),
        (
            "\n@id(\"a\")\npermit(principal == ?principal, action, resource);".into(),
            vec![Fault::Slot { line: 2 }.to_string()],
        ),
        (
            permit("a") + "permit(principal, action resource);",
            vec!["line 3: unexpected token `resource` (expected `)` or `,`)".into()],
        ),
    ];
    for (text, expected) in rows {
        let found = faults(&text);
        if text.contains("action resource") {
            // Cedar's words may differ by version; the place may not.
            assert!(
                found[0].starts_with("line 3: unexpected token"),
                "{found:?}"
            );
            continue;
        }
        assert_eq!(found, expected, "{text}");
    }
    let none: [&[u8]; 2] = [b"\xff", &[b' '; text::MAX_TEXT_BYTES + 1]];
    let found = none.map(|text| Compiled::new(text).unwrap_err());
    assert_eq!(found, [Fault::NotText.into(), Fault::TooLarge.into()]);
}

#[test]
fn what_does_not_fit_the_schema_is_refused() {
    // The condition of a policy on line 3, and a word of what is told.
    let rows = [
        ("context.colour == \"red\"", "colour"),
        ("context.operation == \"x\"", "operation"),
        ("context.weekday == \"Monday\"", "Long"),
        ("context.address.isIpv4()", "optional"),
        ("principal.name == \"x\"", "name"),
        ("principal == User::\"x\"", "User"),
        ("context.now > datetime(context.key)", "literal"),
        ("context.scopes == []", "empty set"),
        ("context.weekday == 1 && 1 == 2", "impossible"),
        ("resource in Vendor::\"x\"", ""),
        ("context.key.contains(\"x\")", "String"),
        ("ip(\"300.0.0.1\") == ip(\"127.0.0.1\")", "300"),
        ("context.key == \"\u{202e}x\"", "BIDI"),
        ("context.key == \"s\u{441}ope\"", "script"),
    ];
    for (condition, word) in rows {
        let text = format!(
            "{ALL}@id(\"bad\")\nforbid(principal, action, resource) when {{ {condition} }};"
        );
        let found = faults(&text);
        assert!(!found.is_empty(), "{condition} is accepted");
        for fault in &found {
            let place = ["line 2: policy bad: ", "line 3: policy bad: "];
            assert!(
                place.iter().any(|place| fault.starts_with(place)),
                "{fault}"
            );
        }
        let told = found
            .iter()
            .any(|fault| fault.to_lowercase().contains(&word.to_lowercase()));
        assert!(told, "{condition}: {found:?}");
    }
}

#[test]
fn what_nothing_permits_is_denied_and_what_forbids_wins() {
    let night = "@id(\"night\") forbid(principal, action, resource) when { context.weekday == 1 };";
    let never = "@id(\"never\") forbid(principal, action, resource) when { context.weekday == 7 };";
    let decision = |permitted, policies: &[&str]| Decision {
        permitted,
        policies: policies.iter().map(|id| (*id).to_owned()).collect(),
        failed: Vec::new(),
    };
    let more = "@id(\"a\") permit(principal, action, resource);";
    let rows = [
        (ALL.to_owned(), decision(true, &["all"])),
        (format!("{ALL}{more}"), decision(true, &["a", "all"])),
        (never.to_owned(), decision(false, &[])),
        (format!("{ALL}{never}"), decision(true, &["all"])),
        (format!("{ALL}{night}{never}"), decision(false, &["night"])),
    ];
    for (text, expected) in rows {
        assert_eq!(decide(&text, &issue()), expected, "{text}");
        assert_eq!(decide(&text, &call("x")), expected, "{text}");
    }
}

#[test]
fn a_policy_that_fails_never_opens() {
    // 9223372036854775807 + 1 overflows.
    let fails = "(9223372036854775807 + context.weekday) > 0";
    let forbid = format!("@id(\"no\") forbid(principal, action, resource) when {{ {fails} }};");
    let permit = format!("@id(\"yes\") permit(principal, action, resource) when {{ {fails} }};");
    let decision = |permitted, policies: &[&str], failed: &[&str]| Decision {
        permitted,
        policies: policies.iter().map(|id| (*id).to_owned()).collect(),
        failed: failed.iter().map(|id| (*id).to_owned()).collect(),
    };
    assert_eq!(
        decide(&format!("{ALL}{forbid}"), &issue()),
        decision(false, &[], &["no"])
    );
    assert_eq!(decide(&permit, &issue()), decision(false, &[], &["yes"]));
    assert_eq!(
        decide(&format!("{ALL}{permit}"), &issue()),
        decision(true, &["all"], &["yes"])
    );
    // What can't be asked is denied.
    let beyond = Question {
        at_s: u64::MAX,
        ..issue()
    };
    assert_eq!(decide(ALL, &beyond), decision(false, &[], &["all"]));
}

#[test]
fn each_part_of_a_request_can_be_asked_about() {
    let rows = [
        "principal == Client::\"worker\"",
        "principal in Vendor::\"crm-sync\"",
        "resource == Grant::\"contacts\"",
        "resource in App::\"crm-app\"",
        "resource in Provider::\"crm\"",
        "resource.scopes.contains(\"write\")",
        "resource.targets == [\"api\"]",
        "action == Action::\"issue\"",
        "context.target == \"api\"",
        "context.audience like \"https://g.example/*\"",
        "context.scopes == [\"read\"]",
        "context.key == \"thumbprint\"",
        "context.binding == \"dpop\"",
        "context.tier == \"hardware\"",
        "context has address && context.address.isInRange(ip(\"192.0.2.0/24\"))",
        "context.weekday == 1",
        "context.now == datetime(\"2026-11-02T12:00:00Z\")",
        "context.now.toTime() == duration(\"12h\")",
    ];
    let other = Question {
        client: "other".into(),
        vendor: "other".into(),
        grant: "other".into(),
        app: "other".into(),
        provider: "other".into(),
        grant_scopes: vec![],
        grant_targets: vec!["api".into(), "other".into()],
        target: "other".into(),
        scopes: vec!["read".into(), "write".into()],
        key: "other".into(),
        binding: Binding::Mtls,
        tier: "emulated".into(),
        address: None,
        at_s: 1_793_620_800 + 86_399,
        ask: Ask::Issue {
            audience: "other".into(),
        },
    };
    for condition in rows {
        let text = format!(
            "@id(\"a\") permit(principal, action == Action::\"issue\", resource) when {{ {condition} }};"
        );
        assert!(decide(&text, &issue()).permitted, "{condition}");
        let same_action = condition.starts_with("action");
        assert_eq!(decide(&text, &other).permitted, same_action, "{condition}");
    }
    for condition in ["context.operation == \"list\"", "context.method == \"GET\""] {
        let text = format!(
            "@id(\"a\") permit(principal, action == Action::\"call\", resource) when {{ {condition} }};"
        );
        assert!(decide(&text, &call("list")).permitted, "{condition}");
        assert!(!decide(&text, &issue()).permitted, "{condition}");
        let post = question(Ask::Call {
            operation: String::new(),
            method: "POST".into(),
        });
        assert!(!decide(&text, &post).permitted, "{condition}");
    }
}

#[test]
fn what_concerns_another_grant_or_action_is_not_looked_at() {
    let text = r#"
        @id("one") permit(principal, action == Action::"issue", resource == Grant::"contacts");
        @id("two") permit(principal, action in [Action::"issue", Action::"call"], resource == Grant::"other");
        @id("all") forbid(principal, action, resource) when { context.tier == "emulated" };
        @id("in") permit(principal, action == Action::"call", resource in Provider::"crm");
    "#;
    let compiled = Compiled::new(text.as_bytes()).unwrap();
    let looked_at = |question: &Question| {
        let set = &compiled.about(question).policies;
        let mut ids: Vec<String> = set.policies().map(|p| p.id().to_string()).collect();
        ids.sort();
        ids.join(" ")
    };
    let of = |grant: &str, question: Question| Question {
        grant: grant.into(),
        ..question
    };
    let rows = [
        (issue(), "all one"),
        (call("x"), "all in"),
        (of("other", issue()), "all two"),
        (of("other", call("x")), "all in two"),
        (of("third", issue()), "all"),
        (of("third", call("x")), "all in"),
    ];
    for (question, expected) in rows {
        assert_eq!(looked_at(&question), expected, "{question:?}");
    }
}

#[test]
fn each_policy_is_explained() {
    let text = "\n@id(\"a\") permit(principal, action, resource);\n\
                @id(\"b\") forbid(principal, action, resource) when { context.weekday == 1 };\n\
                @id(\"c\") forbid(principal, action, resource) when { (9223372036854775807 + context.weekday) > 0 };\n\
                @id(\"d\") permit(principal, action, resource == Grant::\"other\");";
    let explained = Compiled::new(text.as_bytes()).unwrap().explain(&issue());
    let found: Vec<_> = explained
        .iter()
        .map(|one| {
            (
                one.id.as_str(),
                one.effect.word(),
                one.line,
                one.applies,
                one.failed,
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("a", "permit", 2, true, false),
            ("b", "forbid", 3, true, false),
            ("c", "forbid", 4, false, true),
            ("d", "permit", 5, false, false),
        ]
    );
}

/// The deepest and longest that the bounds let through are read on a small stack.
#[test]
fn what_the_bounds_allow_is_read_on_a_small_stack() {
    let chain = |link: &str, tokens: usize| link.repeat((text::MAX_POLICY_TOKENS - 30) / tokens);
    let head = "@id(\"a\") permit(principal, action, resource) when { ";
    let weekday = "context.weekday == 1";
    let nested = |open: &str, inner: &str, close: &str, levels: usize| {
        format!(
            "{head}{}{inner}{}}};",
            open.repeat(levels),
            close.repeat(levels)
        )
    };
    let texts = [
        format!("{head}{}{weekday} }};", chain("true && ", 3)),
        format!("{head}{}{weekday} }};", chain("false || ", 3)),
        format!("{head}{}1 == 1 }};", chain("1 + ", 2)),
        format!("{head}context{}}};", chain(".a", 2)),
        format!("{head}context has a{}}};", chain(".a", 2)),
        format!("{head}[{}1].contains(1)}};", chain("1, ", 2)),
        nested("(", weekday, ")", text::MAX_DEPTH - 1),
        nested("[", "1", "].contains(1)", text::MAX_DEPTH - 2),
        nested("{a: ", "1", "}.a", text::MAX_DEPTH - 1),
        nested("if true then true else ", weekday, "", text::MAX_DEPTH - 1),
        nested("!(", weekday, ")", text::MAX_DEPTH - 1),
    ];
    for text in texts {
        assert!(text::check(&text).is_ok(), "{text}");
        let small = std::thread::Builder::new().stack_size(1024 * 1024);
        let read = small.spawn(move || {
            if let Ok(compiled) = Compiled::new(text.as_bytes()) {
                drop(compiled.decide(&issue()));
                drop(compiled.explain(&issue()));
            }
        });
        read.unwrap().join().unwrap();
    }
}
