//! What comes back to the page.

use super::*;

fn read(query: &str) -> Result<(String, Option<String>, Option<String>), &'static str> {
    answer(query).map(|answer| match answer {
        Answer::Consented(Callback { state, code, iss }) => {
            let code = String::from_utf8(code.expose().to_vec());
            (state, code.ok(), iss)
        }
        Answer::Refused(state) => (state, None, None),
    })
}

#[test]
fn each_rule_refuses() {
    let some = |text: &str| Some(text.to_owned());
    let good = "code=c%2B1&state=s-1&iss=https%3A%2F%2Fop.example&session_state=x";
    let taken = ("s-1".to_owned(), some("c+1"), some("https://op.example"));
    assert_eq!(read(good), Ok(taken));
    let refused = ("s-1".to_owned(), None, None);
    assert_eq!(read("state=s-1&error=access_denied"), Ok(refused));
    let (ill_formed, no_state) = (
        "This answer is ill-formed.",
        "This answer does not say what it is the answer to.",
    );
    let long = format!("state=s&code={}", "x".repeat(4_097));
    for (query, expected) in [
        ("", no_state),
        ("code=c", no_state),
        ("code=c&state=", no_state),
        ("state=s", ill_formed),
        ("state=s&code=", ill_formed),
        ("state=s&code=c&error=e", ill_formed),
        ("state=s&state=s&code=c", ill_formed),
        ("state=s&code=c&code=c", ill_formed),
        ("state=s&code=c&iss=a&iss=b", ill_formed),
        ("state=s&code=%00", ill_formed),
        ("state=s&code=%zz", ill_formed),
        ("state=s&code=%C3%A9", ill_formed),
        (&long, ill_formed),
    ] {
        assert_eq!(read(query), Err(expected), "{query:.80}");
    }
}

#[test]
fn debug_shows_no_code() {
    let shown = format!("{:?}", answer("state=s&code=canary-1"));
    assert!(!shown.contains("canary"), "{shown}");
}
