//! What the reader takes, and the exact error for each thing that it does not.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Object<'_>, JsonError> {
    Object::parse(text.as_bytes(), 4096)
}

#[test]
fn space_may_stand_between_any_two_parts_and_each_escape_is_read() {
    assert_eq!(parse("{ }").unwrap().members().count(), 0);
    let text = "{ \"a\" : [ ] , \"b\" : [ 1 , [ 2 ] , { } ] , \"c\" : { \"d\" : 3 } }";
    let object = parse(text).unwrap();
    for (name, count) in [("a", 0), ("b", 3)] {
        let Some(Value::Array(array)) = object.member(name) else {
            panic!("no array")
        };
        assert_eq!(elements(array).unwrap().len(), count, "{name}");
    }
    assert_eq!(object.member("c"), Some(&Value::Object("{ \"d\" : 3 }")));
    let escapes = parse(r#"{"e":"\"\\\/\b\f\n\r\t\u00e9"}"#).unwrap();
    assert_eq!(escapes.str("e"), Ok("\"\\/\u{8}\u{c}\n\r\t\u{e9}"));
}

#[test]
fn every_kind_of_value_is_read() {
    let object = parse(
        " {\"s\":\"a\\u0062\\n\\ud83d\\ude00/\\/\", \"n\" : -1.5e+3,\"i\":18446744073709551615,\t\"t\":true,\"f\":false,\"z\":null,\"a\":[1,\"x\",{\"b\":[]}],\"o\":{\"k\":{}},\"e\":\"\"}\r\n",
    )
    .unwrap();
    assert_eq!(object.str("s"), Ok("ab\n\u{1f600}//"));
    assert!(
        matches!(object.member("n"), Some(Value::Number(n)) if n.as_text() == "-1.5e+3" && n.as_u64().is_none())
    );
    assert_eq!(object.u64("i"), Ok(u64::MAX));
    assert_eq!(object.member("t"), Some(&Value::Bool(true)));
    assert_eq!(object.member("f"), Some(&Value::Bool(false)));
    assert_eq!(object.member("z"), Some(&Value::Null));
    assert_eq!(object.member("o"), Some(&Value::Object("{\"k\":{}}")));
    assert_eq!(object.str("e"), Ok(""));
    let Some(Value::Array(array)) = object.member("a") else {
        panic!("no array")
    };
    let elements = elements(array).unwrap();
    assert_eq!(elements.len(), 3);
    assert_eq!(elements[0].as_u64(), Some(1));
    assert_eq!(elements[1].as_str(), Some("x"));
    assert_eq!(elements[2], Value::Object("{\"b\":[]}"));
    assert_eq!(object.members().count(), 9);
    assert_eq!(object.str("absent"), Err(JsonError::Missing("absent")));
    assert_eq!(object.optional_str("absent"), Ok(None));
    assert_eq!(object.str("z"), Err(JsonError::WrongType("z")));
    assert_eq!(object.u64("n"), Err(JsonError::WrongType("n")));
    assert_eq!(object.u64("absent"), Err(JsonError::Missing("absent")));
    assert_eq!(object.optional_u64("absent"), Ok(None));
    assert_eq!(object.optional_u64("s"), Err(JsonError::WrongType("s")));
}

#[test]
fn each_fault_has_its_error() {
    let cases: &[(&str, JsonError)] = &[
        ("", JsonError::NotObject),
        ("[]", JsonError::NotObject),
        ("\"a\"", JsonError::NotObject),
        ("1", JsonError::NotObject),
        ("\u{feff}{}", JsonError::NotObject),
        ("\u{a0}{}", JsonError::NotObject),
        ("{", JsonError::Syntax),
        ("{]", JsonError::Syntax),
        ("{,}", JsonError::Syntax),
        ("{\"a\"}", JsonError::Syntax),
        ("{\"a\":}", JsonError::Syntax),
        ("{\"a\":1,}", JsonError::Syntax),
        ("{\"a\":1 \"b\":2}", JsonError::Syntax),
        ("{a:1}", JsonError::Syntax),
        ("{'a':1}", JsonError::Syntax),
        ("{\"a\":1/*c*/}", JsonError::Syntax),
        ("{\"a\":[1,]}", JsonError::Syntax),
        ("{\"a\":[1 2]}", JsonError::Syntax),
        ("{\"a\":[", JsonError::Syntax),
        ("{\"a\":01}", JsonError::Syntax),
        ("{\"a\":-}", JsonError::Syntax),
        ("{\"a\":+1}", JsonError::Syntax),
        ("{\"a\":.5}", JsonError::Syntax),
        ("{\"a\":1.}", JsonError::Syntax),
        ("{\"a\":1e}", JsonError::Syntax),
        ("{\"a\":1e+-1}", JsonError::Syntax),
        ("{\"a\":1e1.5}", JsonError::Syntax),
        ("{\"a\":--1}", JsonError::Syntax),
        ("{\"a\":NaN}", JsonError::Syntax),
        ("{\"a\":tru}", JsonError::Syntax),
        ("{\"a\":nul}", JsonError::Syntax),
        ("{\"a\":falsey}", JsonError::Syntax),
        ("{\"a\":\"\n\"}", JsonError::Syntax),
        ("{\"a\":\"\0\"}", JsonError::Syntax),
        ("{\"a\":\"\\x\"}", JsonError::Syntax),
        ("{\"a\":\"\\", JsonError::Syntax),
        ("{\"a\":\"\\u00g0\"}", JsonError::Syntax),
        ("{\"a\":\"\\u+041\"}", JsonError::Syntax),
        ("{\"a\":\"\\u00", JsonError::Syntax),
        ("{\"a\":\"\\\u{e9}\"}", JsonError::Syntax),
        ("{\"a\":\"\\u00e\u{e9}\"}", JsonError::Syntax),
        ("{\"a\":\"x", JsonError::Syntax),
        ("{\"a\":\"\\n", JsonError::Syntax),
        ("{\"a\":\"\\n\u{1}\"}", JsonError::Syntax),
        ("{\"a\":\"\\ud800\"}", JsonError::LoneSurrogate),
        ("{\"a\":\"\\ud800x\"}", JsonError::LoneSurrogate),
        ("{\"a\":\"\\ud800\\n\"}", JsonError::LoneSurrogate),
        ("{\"a\":\"\\ud800\\u0041\"}", JsonError::LoneSurrogate),
        ("{\"a\":\"\\udc00\"}", JsonError::LoneSurrogate),
        ("{\"a\":\"\\udc00\\ud800\"}", JsonError::LoneSurrogate),
        ("{\"a\":{\"b\":\"\\udfff\"}}", JsonError::LoneSurrogate),
        ("{\"a\":1,\"a\":2}", JsonError::DuplicateMember),
        ("{\"a\":1,\"\\u0061\":2}", JsonError::DuplicateMember),
        ("{\"a\":{\"b\":1,\"b\":1}}", JsonError::DuplicateMember),
        (
            "{\"a\":[{\"b\":1,\"\\u0062\":1}]}",
            JsonError::DuplicateMember,
        ),
        ("{} {}", JsonError::TrailingBytes),
        ("{}x", JsonError::TrailingBytes),
        ("{}\0", JsonError::TrailingBytes),
        ("{}\u{a0}", JsonError::TrailingBytes),
    ];
    for (text, error) in cases {
        assert_eq!(parse(text), Err(*error), "{text:?}");
    }
    assert_eq!(
        Object::parse(b"{\"a\":\"\xff\"}", 99),
        Err(JsonError::NotUtf8)
    );
    assert_eq!(elements("{}"), Err(JsonError::Syntax));
    assert_eq!(elements("[1] 2"), Err(JsonError::TrailingBytes));
}

#[test]
fn bounds_hold_exactly() {
    assert!(Object::parse(b"{\"a\":1}", 7).is_ok());
    assert_eq!(Object::parse(b"{\"a\":1}", 6), Err(JsonError::TooLarge));

    let nested = |levels: usize| {
        let inner = levels - 1;
        format!("{}{}{}", "{\"a\":".repeat(inner), "{}", "}".repeat(inner))
    };
    assert!(parse(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(parse(&nested(MAX_DEPTH + 1)), Err(JsonError::TooDeep));
    let arrays = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    assert!(parse(&arrays(MAX_DEPTH - 1)).is_ok());
    assert_eq!(parse(&arrays(MAX_DEPTH)), Err(JsonError::TooDeep));
    assert_eq!(
        Object::parse(arrays(50_000).as_bytes(), 1 << 20),
        Err(JsonError::TooDeep)
    );

    let wide = |count: usize| {
        let members: Vec<String> = (0..count).map(|i| format!("\"m{i}\":{i}")).collect();
        format!("{{{}}}", members.join(","))
    };
    assert!(parse(&wide(MAX_MEMBERS)).is_ok());
    assert_eq!(
        parse(&wide(MAX_MEMBERS + 1)),
        Err(JsonError::TooManyMembers)
    );
    assert!(parse(&format!("{{\"a\":{}}}", wide(MAX_MEMBERS))).is_ok());
    assert_eq!(
        parse(&format!("{{\"a\":{}}}", wide(MAX_MEMBERS + 1))),
        Err(JsonError::TooManyMembers)
    );
}

#[test]
fn integers_are_exact_or_refused() {
    for (text, unsigned, signed) in [
        ("0", Some(0), Some(0)),
        ("-0", None, Some(0)),
        ("-1", None, Some(-1)),
        ("9223372036854775808", Some(1 << 63), None),
        ("18446744073709551615", Some(u64::MAX), None),
        ("18446744073709551616", None, None),
        ("-9223372036854775809", None, None),
        ("1.0", None, None),
        ("1e3", None, None),
        ("1e400", None, None),
    ] {
        let document = format!("{{\"n\":{text}}}");
        let object = parse(&document).unwrap();
        let Some(Value::Number(number)) = object.member("n") else {
            panic!("{text}")
        };
        assert_eq!(
            (number.as_u64(), number.as_i64()),
            (unsigned, signed),
            "{text}"
        );
    }
}

#[test]
fn what_is_written_reads_back() {
    let text = ObjectWriter::with_capacity(64)
        .string("q\"\\\u{1f}\u{7f}\u{e9}", "\"\\\u{0}\n\u{1f600}")
        .u64("n", u64::MAX)
        .optional_string("absent", None)
        .optional_string("present", Some("x"))
        .json("o", "{\"a\":[]}")
        .finish();
    let object = parse(&text).unwrap();
    assert_eq!(object.members().count(), 4);
    assert_eq!(
        object
            .member("q\"\\\u{1f}\u{7f}\u{e9}")
            .and_then(Value::as_str),
        Some("\"\\\u{0}\n\u{1f600}")
    );
    assert_eq!(object.u64("n"), Ok(u64::MAX));
    assert_eq!(object.str("present"), Ok("x"));
    assert_eq!(object.member("o"), Some(&Value::Object("{\"a\":[]}")));
    assert_eq!(ObjectWriter::with_capacity(0).finish(), "{}");
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        // What is taken, another reader takes; most is refused.
        if Object::parse(&bytes, 4096).is_ok() {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
        }
    }

    /// Text made of JSON's own pieces goes deeper than random bytes, and must agree with a second
    /// reader: all that we take, it takes too.
    #[test]
    fn all_that_is_taken_is_json(pieces in proptest::collection::vec(
        proptest::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"a\"", "\"b\"", "\"\\u0061\"", "\"\\ud800\"", "1", "-0", "1e5", "01", "true", "null", " ", "\\", "\"",
        ]), 0..24)) {
        let text = format!("{{\"m\":{}}}", pieces.concat());
        if parse(&text).is_ok() {
            let second = serde_json::from_str::<serde_json::Value>(&text);
            // The other reader makes a float of each number at once; we only keep its text.
            let too_large = |error: &serde_json::Error| error.to_string().starts_with("number out of range");
            prop_assert!(second.as_ref().err().is_none_or(too_large), "{}: {:?}", text, second);
        }
    }

    #[test]
    fn strings_survive_writing_and_reading(name in ".*", value in ".*") {
        let text = ObjectWriter::with_capacity(16).string(&name, &value).finish();
        let object = Object::parse(text.as_bytes(), usize::MAX).unwrap();
        prop_assert_eq!(object.member(&name).and_then(Value::as_str), Some(value.as_str()));
        prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(&text).unwrap()[&name], &serde_json::Value::from(value));
    }
}
