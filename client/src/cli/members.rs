//! The members of an event in one line, for people.

use serde_json::Value;

/// `name=value` of each member but the kind. What people wrote makes no line and no escape sequence of its own.
pub(crate) fn members(event: &Value) -> String {
    let members = event.as_object().into_iter().flatten();
    let texts = members
        .filter(|(name, _)| *name != "event")
        .map(|(name, value)| {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            format!("{}={}", printable(name), printable(&text))
        });
    texts.collect::<Vec<_>>().join(" ")
}

/// A text with its control characters, and what turns the direction of others round, spelled out.
fn printable(text: &str) -> String {
    let is_turn = |char| matches!(char, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut printable = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() || is_turn(char) {
            printable.extend(char.escape_default());
        } else {
            printable.push(char);
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_people_wrote_makes_no_line_of_its_own() {
        let event = json!({
            "event": "frozen", "by": "jane", "reason": "a\n4711  0  thaw\u{1b}[2J\u{202e}ü",
        });
        let expected = "by=jane reason=a\\n4711  0  thaw\\u{1b}[2J\\u{202e}ü";
        assert_eq!(members(&event), expected);
    }
}
