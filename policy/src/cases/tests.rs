//! Reading and running files of cases.

use super::*;

const POLICY: &str = r#"
@id("reads") permit(principal, action == Action::"call", resource) when { context.method == "GET" };
@id("night") forbid(principal, action, resource) when { context.now.toTime() < duration("6h") };
"#;

const DEFAULTS: &str = r#"
[defaults]
client = "worker"
vendor = "crm-sync"
grant = "contacts"
app = "crm-app"
provider = "crm"
target = "api"
action = "call"
"#;

fn read(cases: &str) -> Result<Cases, CasesError> {
    Cases::read(format!("{DEFAULTS}{cases}").as_bytes())
}

#[test]
fn a_case_is_met_if_the_decision_and_who_made_it_are_as_expected() {
    let policy = Compiled::new(POLICY.as_bytes()).unwrap();
    let rows = [
        ("expect = \"permit\"", true),
        ("expect = \"permit\"\nby = [\"reads\"]", true),
        ("expect = \"permit\"\nby = [\"night\"]", false),
        ("expect = \"deny\"", false),
        ("expect = \"deny\"\nmethod = \"POST\"\nby = []", true),
        (
            "expect = \"deny\"\nat = \"2026-11-02T05:59:59Z\"\nby = [\"night\"]",
            true,
        ),
        ("expect = \"permit\"\nat = \"2026-11-02T06:00:00Z\"", true),
        ("expect = \"deny\"\naction = \"issue\"\nby = []", true),
    ];
    for (case, met) in rows {
        let cases = read(&format!("[[case]]\nname = \"x\"\n{case}")).unwrap();
        let outcomes: Vec<bool> = cases.iter().map(|case| case.run(&policy).met).collect();
        assert_eq!(outcomes, [met], "{case}");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let good = "[[case]]\nname = \"x\"\nexpect = \"permit\"\n";
    assert!(read(good).is_ok());
    let field = |field, rule| CasesError::Field {
        case: "x".into(),
        field,
        rule,
    };
    let rows = [
        (read(""), CasesError::Count),
        (read(&good.repeat(MAX_CASES + 1)), CasesError::Count),
        (
            read(&format!("{good}action = \"delete\"")),
            field("action", "must be issue or call"),
        ),
        (
            read(&format!("{good}audience = \"a\"")),
            field("audience", "is for the action issue"),
        ),
        (
            read(&format!("{good}action = \"issue\"\nmethod = \"GET\"")),
            field("operation, method", "are for the action call"),
        ),
        (
            read(&format!("{good}at = \"noon\"")),
            field("at", "must be a time as 2026-11-02T12:00:00Z"),
        ),
        (
            read(&format!("{good}at = \"1969-12-31T23:59:59Z\"")),
            field("at", "must be a time as 2026-11-02T12:00:00Z"),
        ),
        (
            Cases::read(format!("{good}action = \"call\"").as_bytes()),
            CasesError::Missing {
                case: "x".into(),
                field: "target",
            },
        ),
        (Cases::read(b"\xff"), CasesError::NotText),
        (
            Cases::read(&vec![b' '; MAX_FILE_BYTES + 1]),
            CasesError::TooLarge,
        ),
    ];
    for (found, expected) in rows {
        assert_eq!(found, Err(expected));
    }
    for (file, words) in [
        (
            format!("{good}tenant = \"acme\""),
            "case \"x\": unknown field `tenant`",
        ),
        (
            "[[case]]\nname = \"x\"\nexpect = \"maybe\"".to_owned(),
            "unknown variant `maybe`",
        ),
        (
            format!("{good}address = \"here\""),
            "case \"x\": invalid IP address syntax",
        ),
        (format!("{good}other ="), "line 13: "),
    ] {
        let Err(CasesError::Form(found)) = read(&file) else {
            panic!("{file} is read");
        };
        assert!(found.contains(words), "{found}");
    }
}

#[test]
fn a_time_is_read_in_one_form_only() {
    for (text, expected) in [
        ("1970-01-01T00:00:00Z", Some(0)),
        ("2026-11-02T12:00:00Z", Some(NOON_S)),
        ("2024-02-29T23:59:59Z", Some(1_709_251_199)),
        ("9999-12-31T23:59:59Z", Some(253_402_300_799)),
        ("2023-02-29T00:00:00Z", None),
        ("2026-13-01T00:00:00Z", None),
        ("2026-11-02T24:00:00Z", None),
        ("2026-11-02T12:00:60Z", None),
        ("2026-11-02T12:00:00+00:00", None),
        ("2026-11-02T12:00:00.5Z", None),
        ("2026-11-02 12:00:00Z", None),
        ("2026-11-2T12:00:00Z", None),
        ("2026-11-+2T12:00:00Z", None),
        ("2026-11-02-01T12:00:00Z", None),
        ("", None),
    ] {
        assert_eq!(unix_time_s(text), expected, "{text}");
    }
}
