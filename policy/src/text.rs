//! The bounds of a policy's text, kept before Cedar's parser sees it: its recursion is bounded by what is nested and by
//! how long one policy is.

use crate::fault::{Fault, Faults};

/// The longest text in bytes.
pub const MAX_TEXT_BYTES: usize = 32 * 1024;

/// The most policies: evaluation takes time in proportion to those that may concern a grant.
pub const MAX_POLICIES: usize = 64;

/// The most words and signs of one policy. Chains nest in Cedar's tree, one level a link.
pub const MAX_POLICY_TOKENS: usize = 512;

/// The most levels of brackets and of `if` in one policy.
pub const MAX_DEPTH: usize = 16;

/// Where each policy begins: its line, from 1, in their order.
///
/// # Errors
/// [`Fault::TooLarge`], [`Fault::TooMany`], [`Fault::TooLong`], [`Fault::TooDeep`].
pub(crate) fn check(text: &str) -> Result<Vec<usize>, Faults> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(Fault::TooLarge.into());
    }
    let mut policies = Vec::new();
    let mut one = Statement::default();
    for Token { line, text: word } in Tokens::new(text) {
        if one.tokens == 0 {
            one.line = line;
        }
        one.tokens = one.tokens.saturating_add(1);
        if one.tokens > MAX_POLICY_TOKENS {
            return Err(Fault::TooLong { line: one.line }.into());
        }
        match word {
            "(" | "[" | "{" => one.open = one.open.saturating_add(1),
            ")" | "]" | "}" => one.open = one.open.saturating_sub(1),
            "if" => one.ifs = one.ifs.saturating_add(1),
            ";" => {
                policies.push(one.line);
                one = Statement::default();
            }
            _ => {}
        }
        if one.open.saturating_add(one.ifs) > MAX_DEPTH {
            return Err(Fault::TooDeep { line }.into());
        }
        if policies.len() > MAX_POLICIES {
            return Err(Fault::TooMany.into());
        }
    }
    Ok(policies)
}

/// The line, from 1, of a place in a text.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    before.filter(|b| **b == b'\n').count().saturating_add(1)
}

#[derive(Default)]
struct Statement {
    line: usize,
    tokens: usize,
    open: usize,
    ifs: usize,
}

struct Token<'a> {
    line: usize,
    text: &'a str,
}

/// Words, strings and single signs, without comments and white space.
struct Tokens<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Tokens<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            rest: text,
            line: 1,
        }
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.rest = rest;
        let lines = taken.bytes().filter(|b| *b == b'\n').count();
        self.line = self.line.saturating_add(lines);
        taken
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let first = self.rest.chars().next()?;
            if first.is_whitespace() {
                self.take(first.len_utf8());
            } else if self.rest.starts_with("//") {
                let end = self.rest.find(['\n', '\r']).unwrap_or(self.rest.len());
                self.take(end);
            } else {
                let line = self.line;
                let bytes = match first {
                    '"' => string_bytes(self.rest),
                    c if is_word(c) => self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len()),
                    c => c.len_utf8(),
                };
                let text = self.take(bytes);
                return Some(Token { line, text });
            }
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// How many bytes a string has that begins here, its quotation marks among them.
fn string_bytes(text: &str) -> usize {
    let mut escaped = false;
    for (at, b) in text.bytes().enumerate().skip(1) {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at.saturating_add(1),
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault {
        check(text).unwrap_err().iter().next().unwrap().clone()
    }

    #[test]
    fn each_bound_is_kept_from_both_sides() {
        let comment = |bytes: usize| format!("//{}", "x".repeat(bytes - 2));
        assert_eq!(check(&comment(MAX_TEXT_BYTES)), Ok(Vec::new()));
        assert_eq!(fault(&comment(MAX_TEXT_BYTES + 1)), Fault::TooLarge);

        let policies = |count: usize| "a;\n".repeat(count);
        let lines: Vec<usize> = (1..=MAX_POLICIES).collect();
        assert_eq!(check(&policies(MAX_POLICIES)), Ok(lines));
        assert_eq!(fault(&policies(MAX_POLICIES + 1)), Fault::TooMany);

        let long = |tokens: usize| format!("\n\n{};", "a ".repeat(tokens - 1));
        assert_eq!(check(&long(MAX_POLICY_TOKENS)), Ok(vec![3]));
        let too_long = long(MAX_POLICY_TOKENS + 1);
        assert_eq!(fault(&too_long), Fault::TooLong { line: 3 });

        for (open, close) in [("(", ")"), ("[", "]"), ("{", "}"), ("if ", "")] {
            let deep = |levels| format!("{}\n{};", open.repeat(levels), close.repeat(levels));
            assert_eq!(check(&deep(MAX_DEPTH)), Ok(vec![1]), "{open}");
            let too_deep = deep(MAX_DEPTH + 1);
            assert_eq!(fault(&too_deep), Fault::TooDeep { line: 1 }, "{open}");
        }
    }

    #[test]
    fn strings_and_comments_hide_what_is_in_them() {
        let text = "// a; b (((((((((((((((((\nx \"y; \\\"((((((((((((((((((\\\\\" z;\n\"open ;";
        assert_eq!(check(text), Ok(vec![2]));
        assert_eq!(line_of("a\nb\n", 0), 1);
        assert_eq!(line_of("a\nb\n", 2), 2);
        assert_eq!(line_of("a", 99), 1);
    }
}
