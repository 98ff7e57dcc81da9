//! A file of grants to bring in: one JSON object a line, each a grant with its refresh token.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::io::{self, BufRead};

use proto::v1;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use thiserror::Error;
use zeroize::Zeroizing;

/// The longest line in bytes, without its end.
pub const MAX_LINE_BYTES: usize = 64 * 1_024;

/// The fields that a line must have.
const REQUIRED: [&str; 6] = [
    "grant",
    "tenant",
    "app",
    "clients",
    "targets",
    "refresh_token",
];

/// A grant and its refresh token.
pub struct ImportLine {
    /// The grant as it is to be.
    pub grant: v1::Grant,
    /// Its refresh token: printable ASCII.
    pub refresh_token: Zeroizing<String>,
}

impl fmt::Debug for ImportLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImportLine")
            .field("grant", &self.grant)
            .finish_non_exhaustive()
    }
}

/// Why a line is no grant. It says nothing of what the line holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LineError {
    /// It is too long.
    #[error("the line has more than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// It is no JSON.
    #[error("the line is no JSON object, at byte {column}")]
    Json {
        /// Where, from 1.
        column: usize,
    },
    /// A field is missing.
    #[error("the field `{field}` is missing")]
    Missing {
        /// Which.
        field: &'static str,
    },
    /// A field is none of a grant's, is there twice, or is of another type.
    #[error("a field is not known, is there twice or has the wrong type, at byte {column}")]
    Field {
        /// Where, from 1.
        column: usize,
    },
    /// A field must say something.
    #[error("the field `{field}` is empty")]
    Empty {
        /// Which.
        field: &'static str,
    },
    /// The refresh token is none [RFC 6749 A.17].
    #[error("the refresh token is not 1 to 16384 characters of printable ASCII")]
    Token,
    /// Another line has the same grant.
    #[error("line {line} has the same grant")]
    SameGrant {
        /// Which.
        line: u64,
    },
    /// Another line has the same refresh token: to present it twice would end both grants at a strict provider.
    #[error("line {line} has the same refresh token")]
    SameToken {
        /// Which.
        line: u64,
    },
}

/// What stands in a line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    grant: String,
    tenant: String,
    app: String,
    clients: Vec<String>,
    targets: Vec<String>,
    #[serde(default)]
    operations: Vec<String>,
    #[serde(default)]
    hosts: BTreeMap<String, String>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    expires_at_s: u64,
    #[serde(deserialize_with = "secret")]
    refresh_token: Zeroizing<String>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(deserializer).map(Zeroizing::new)
}

/// Reads a line.
///
/// # Errors
/// [`LineError`].
pub fn parse(line: &[u8]) -> Result<ImportLine, LineError> {
    if line.len() > MAX_LINE_BYTES {
        return Err(LineError::TooLong);
    }
    let raw: Raw = serde_json::from_slice(line).map_err(|error| fault(&error))?;
    let Raw {
        grant,
        tenant,
        app,
        clients,
        targets,
        operations,
        hosts,
        scopes,
        expires_at_s,
        refresh_token,
    } = raw;
    let empty = [
        ("grant", grant.is_empty()),
        ("tenant", tenant.is_empty()),
        ("app", app.is_empty()),
        ("clients", clients.is_empty()),
        ("targets", targets.is_empty()),
    ];
    if let Some((field, _)) = empty.into_iter().find(|(_, empty)| *empty) {
        return Err(LineError::Empty { field });
    }
    let visible = refresh_token.bytes().all(|b| (0x20..0x7f).contains(&b));
    let fits = (1..=attestation::MAX_DEPOSIT_BYTES).contains(&refresh_token.len());
    if !(visible && fits) {
        return Err(LineError::Token);
    }
    let hosts = hosts
        .into_iter()
        .map(|(target, host)| v1::TargetHost { target, host });
    Ok(ImportLine {
        grant: v1::Grant {
            id: grant,
            tenant,
            app,
            clients,
            targets,
            scopes,
            expires_at_s,
            operations,
            hosts: hosts.collect(),
            ..v1::Grant::default()
        },
        refresh_token,
    })
}

/// Serde's own words may hold what the line holds: only the place and our own names are kept of them.
fn fault(error: &serde_json::Error) -> LineError {
    let column = error.column();
    match error.classify() {
        Category::Io | Category::Syntax | Category::Eof => LineError::Json { column },
        Category::Data => {
            let text = error.to_string();
            let missing = |field: &&str| text.starts_with(&format!("missing field `{field}`"));
            match REQUIRED.into_iter().find(missing) {
                Some(field) => LineError::Missing { field },
                None => LineError::Field { column },
            }
        }
    }
}

/// Takes a file apart into lines of a bounded length. Lines of white space alone are left out.
#[derive(Debug)]
pub struct Lines<R> {
    source: R,
    number: u64,
}

/// A line as it stands, or that it is too long.
pub type Line = Result<Zeroizing<Vec<u8>>, LineError>;

impl<R: BufRead> Lines<R> {
    /// Of a file.
    pub fn new(source: R) -> Self {
        Self { source, number: 0 }
    }

    /// The next line with its number, from 1.
    ///
    /// # Errors
    /// Any of the source.
    pub fn next_line(&mut self) -> io::Result<Option<(u64, Line)>> {
        loop {
            let Some(line) = self.raw_line()? else {
                return Ok(None);
            };
            self.number = self.number.saturating_add(1);
            match line {
                Ok(line) if line.iter().all(u8::is_ascii_whitespace) => {}
                line => return Ok(Some((self.number, line))),
            }
        }
    }

    fn raw_line(&mut self) -> io::Result<Option<Line>> {
        // Room for all of it at once: a vector that grows leaves copies behind.
        let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE_BYTES));
        let (mut any, mut fits) = (false, true);
        loop {
            let found = match self.source.fill_buf() {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if found.is_empty() {
                break;
            }
            any = true;
            let end = found.iter().position(|byte| *byte == b'\n');
            let part = found.get(..end.unwrap_or(found.len())).unwrap_or(found);
            fits = fits && line.len().saturating_add(part.len()) <= MAX_LINE_BYTES;
            if fits {
                line.extend_from_slice(part);
            }
            let used = part.len().saturating_add(usize::from(end.is_some()));
            self.source.consume(used);
            if end.is_some() {
                break;
            }
        }
        let line = if fits {
            Ok(line)
        } else {
            Err(LineError::TooLong)
        };
        Ok(any.then_some(line))
    }
}

/// What earlier lines had: digests and ids, no token.
#[derive(Debug, Default)]
pub struct Seen {
    grants: HashMap<String, u64>,
    tokens: HashMap<[u8; 32], u64>,
}

impl Seen {
    /// Holds a line against those before it.
    ///
    /// # Errors
    /// [`LineError::SameGrant`], [`LineError::SameToken`].
    pub fn check(&mut self, number: u64, line: &ImportLine) -> Result<(), LineError> {
        let mut name = [0; 32];
        name.copy_from_slice(digest(&SHA256, line.refresh_token.as_bytes()).as_ref());
        let token = match self.tokens.entry(name) {
            Entry::Occupied(first) => {
                let line = *first.get();
                return Err(LineError::SameToken { line });
            }
            Entry::Vacant(place) => place,
        };
        match self.grants.entry(line.grant.id.clone()) {
            Entry::Occupied(first) => {
                let line = *first.get();
                Err(LineError::SameGrant { line })
            }
            Entry::Vacant(place) => {
                place.insert(number);
                token.insert(number);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"grant":"g","tenant":"t","app":"a","clients":["c"],"targets":["x"],"refresh_token":"canary-1"}"#;

    #[test]
    fn a_line_is_a_grant_with_its_token() {
        let line = parse(GOOD.as_bytes()).unwrap();
        assert_eq!(line.refresh_token.as_str(), "canary-1");
        assert_eq!(line.grant.clients, ["c"]);
        let more = GOOD.replace(
            "\"app\"",
            r#""hosts":{"x":"acme.crm.example"},"scopes":["r"],"operations":["x/get"],"expires_at_s":9,"app""#,
        );
        let grant = parse(more.as_bytes()).unwrap().grant;
        assert_eq!(grant.hosts[0].host, "acme.crm.example");
        let rest = (grant.scopes[0].as_str(), grant.operations[0].as_str());
        assert_eq!((rest, grant.expires_at_s), (("r", "x/get"), 9));
        assert!(!format!("{line:?}").contains("canary"));
    }

    #[test]
    fn each_rule_refuses_and_tells_nothing_of_the_line() {
        let without = |from: &str, to: &str| {
            assert!(GOOD.contains(from), "{from}");
            GOOD.replacen(from, to, 1)
        };
        let missing = |field| LineError::Missing { field };
        let empty = |field| LineError::Empty { field };
        let long = format!("\"{}\"", "x".repeat(attestation::MAX_DEPOSIT_BYTES + 1));
        let rows = [
            (String::new(), LineError::Json { column: 0 }),
            ("canary-1".to_owned(), LineError::Json { column: 1 }),
            (
                format!("{GOOD} canary"),
                LineError::Json {
                    column: GOOD.len() + 2,
                },
            ),
            (
                GOOD.replace('}', ""),
                LineError::Json {
                    column: GOOD.len() - 1,
                },
            ),
            (without("\"grant\":\"g\",", ""), missing("grant")),
            (without("\"tenant\":\"t\",", ""), missing("tenant")),
            (without("\"app\":\"a\",", ""), missing("app")),
            (without("\"clients\":[\"c\"],", ""), missing("clients")),
            (without("\"targets\":[\"x\"],", ""), missing("targets")),
            (
                without(",\"refresh_token\":\"canary-1\"", ""),
                missing("refresh_token"),
            ),
            (
                without("{", "{\"canary\":1,"),
                LineError::Field { column: 9 },
            ),
            (
                without("{", "{\"grant\":\"g\","),
                LineError::Field { column: 20 },
            ),
            (
                without("[\"c\"]", "\"canary\""),
                LineError::Field { column: 54 },
            ),
            (
                without("\"canary-1\"", "1"),
                LineError::Field {
                    column: GOOD.len() - 10,
                },
            ),
            (without("\"g\"", "\"\""), empty("grant")),
            (without("\"t\"", "\"\""), empty("tenant")),
            (without("\"a\"", "\"\""), empty("app")),
            (without("\"c\"", ""), empty("clients")),
            (without("\"x\"", ""), empty("targets")),
            (without("\"canary-1\"", "\"\""), LineError::Token),
            (without("\"canary-1\"", "\"canary\\n\""), LineError::Token),
            (
                without("\"canary-1\"", "\"canary\u{e9}\""),
                LineError::Token,
            ),
            (without("\"canary-1\"", &long), LineError::Token),
            (" ".repeat(MAX_LINE_BYTES + 1), LineError::TooLong),
        ];
        let found = rows.clone().map(|(line, _)| parse(line.as_bytes()).err());
        let expected = rows.map(|(_, error)| Some(error));
        assert_eq!(found, expected);
        for error in expected.into_iter().flatten() {
            assert!(!error.to_string().contains("canary"));
        }
    }

    #[test]
    fn lines_are_bounded_and_counted() {
        let long = "x".repeat(MAX_LINE_BYTES);
        let file = format!("a\n\n  \r\n{long}\n{long}y\nlast");
        // A buffer that is shorter than most lines.
        let mut lines = Lines::new(io::BufReader::with_capacity(7, file.as_bytes()));
        let mut found = Vec::new();
        while let Some((number, line)) = lines.next_line().unwrap() {
            found.push((number, line.map(|line| line.len())));
        }
        let whole = [
            (1, Ok(1)),
            (4, Ok(MAX_LINE_BYTES)),
            (5, Err(LineError::TooLong)),
            (6, Ok(4)),
        ];
        assert_eq!(found, whole);
    }

    #[test]
    fn a_token_or_a_grant_is_taken_once() {
        let mut seen = Seen::default();
        let line = |grant: &str, token: &str| {
            let text = GOOD.replace("\"g\"", &format!("\"{grant}\""));
            parse(text.replace("canary-1", token).as_bytes()).unwrap()
        };
        assert_eq!(seen.check(1, &line("a", "r")), Ok(()));
        let same_token = LineError::SameToken { line: 1 };
        assert_eq!(seen.check(2, &line("b", "r")), Err(same_token));
        let same_grant = LineError::SameGrant { line: 1 };
        assert_eq!(seen.check(3, &line("a", "s")), Err(same_grant));
        // What was not taken stands in nobody's way.
        assert_eq!(seen.check(4, &line("b", "s")), Ok(()));
    }
}
