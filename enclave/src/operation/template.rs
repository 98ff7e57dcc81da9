//! Typed path templates: `/v1/contacts/{id:integer}`.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest template in bytes.
const MAX_TEMPLATE_BYTES: usize = 512;

/// The most segments of a template.
const MAX_SEGMENTS: usize = 32;

/// The longest integer in digits.
const MAX_INTEGER_DIGITS: usize = 20;

/// The longest name in bytes.
const MAX_VALUE_BYTES: usize = 256;

/// Why a text is no path template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// It does not begin with `/`, has an empty segment, or is too long.
    #[error(
        "must be /segment/segment…: at most 512 characters and 32 segments, none empty but the last"
    )]
    Form,
    /// A segment has a character that a literal may not have, or is `.` or `..`.
    #[error("a segment may have A-Z a-z 0-9 - . _ ~ ! $ & ' ( ) * + , = : @, and is not . or ..")]
    Literal,
    /// A parameter is not `{name:type}`.
    #[error("a parameter is a whole segment {{name:type}} with a name of a-z, 0-9 and _")]
    Parameter,
    /// The type is unknown.
    #[error("a type is integer, uuid, name, text or, in the last segment, path")]
    Type,
}

/// A path of literals and typed parameters.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathTemplate {
    text: String,
    segments: Vec<Segment>,
}

/// One segment. The order is from the special to the general.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Parameter(Type),
}

/// What a parameter may stand for, from the special to the general.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Type {
    /// Decimal digits.
    Integer,
    /// A UUID [RFC 9562 §4].
    Uuid,
    /// Letters, digits, `-`, `_` and `~`, and `.` inside.
    Name,
    /// Any one segment.
    Text,
    /// One segment or more.
    Path,
}

impl PathTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let path = text.strip_prefix('/').ok_or(TemplateError::Form)?;
        if text.len() > MAX_TEMPLATE_BYTES {
            return Err(TemplateError::Form);
        }
        let mut segments = Vec::new();
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            let last = parts.peek().is_none();
            segments.push(Segment::parse(part, last)?);
        }
        if segments.len() > MAX_SEGMENTS {
            return Err(TemplateError::Form);
        }
        Ok(Self {
            text: text.to_owned(),
            segments,
        })
    }

    /// Whether a path, `/` and more in normal form, is one of the template's.
    pub(super) fn is(&self, path: &str) -> bool {
        self.fits(path, Segment::is)
    }

    /// Whether a server that ignores case, decodes, and cuts path parameters off could take the path for one of the
    /// template's.
    pub(super) fn could_be(&self, path: &str) -> bool {
        self.fits(path, Segment::could_be)
    }

    /// Which of two templates for one path says more of it: the special one first.
    pub(super) fn by_generality(&self, other: &Self) -> Ordering {
        let ranks = |template: &Self| -> Vec<u8> {
            template.segments.iter().map(Segment::generality).collect()
        };
        ranks(self).cmp(&ranks(other))
    }

    /// Whether both are for the same paths, whatever their parameters are called.
    pub(super) fn same_paths(&self, other: &Self) -> bool {
        let same = |(one, other): (&Segment, &Segment)| match (one, other) {
            (Segment::Literal(one), Segment::Literal(other)) => one.eq_ignore_ascii_case(other),
            (Segment::Parameter(one), Segment::Parameter(other)) => one == other,
            (Segment::Literal(_), Segment::Parameter(_))
            | (Segment::Parameter(_), Segment::Literal(_)) => false,
        };
        self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(same)
    }

    fn fits(&self, path: &str, fits: fn(&Segment, &str) -> bool) -> bool {
        let Some(mut rest) = path.strip_prefix('/') else {
            return false;
        };
        let mut segments = self.segments.iter().peekable();
        while let Some(segment) = segments.next() {
            if matches!(segment, Segment::Parameter(Type::Path)) {
                return !rest.is_empty();
            }
            let last = segments.peek().is_none();
            let (part, after) = match rest.split_once('/') {
                Some((part, after)) => (part, Some(after)),
                None => (rest, None),
            };
            if !fits(segment, part) || last != after.is_none() {
                return false;
            }
            rest = after.unwrap_or_default();
        }
        true
    }
}

impl Segment {
    fn parse(part: &str, last: bool) -> Result<Self, TemplateError> {
        if let Some(parameter) = part.strip_prefix('{') {
            let inside = parameter
                .strip_suffix('}')
                .ok_or(TemplateError::Parameter)?;
            let (name, of_type) = inside.split_once(':').ok_or(TemplateError::Parameter)?;
            let named = !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            if !named {
                return Err(TemplateError::Parameter);
            }
            return Type::parse(of_type, last)
                .map(Self::Parameter)
                .ok_or(TemplateError::Type);
        }
        if part.is_empty() && !last {
            return Err(TemplateError::Form);
        }
        // No `%` and no `;`: a literal has one spelling.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&b);
        if matches!(part, "." | "..") || !part.bytes().all(plain) {
            return Err(TemplateError::Literal);
        }
        Ok(Self::Literal(part.to_owned()))
    }

    fn is(&self, part: &str) -> bool {
        match self {
            Self::Literal(literal) => literal == part,
            Self::Parameter(of_type) => of_type.is(part),
        }
    }

    fn could_be(&self, part: &str) -> bool {
        match self {
            Self::Literal(literal) => {
                let decoded = percent_decoded(part);
                let bare = decoded.split(|b| *b == b';').next().unwrap_or_default();
                bare.trim_ascii().eq_ignore_ascii_case(literal.as_bytes())
            }
            Self::Parameter(of_type) => of_type.is(part),
        }
    }

    fn generality(&self) -> u8 {
        match self {
            Self::Literal(_) => 0,
            Self::Parameter(Type::Integer) => 1,
            Self::Parameter(Type::Uuid) => 2,
            Self::Parameter(Type::Name) => 3,
            Self::Parameter(Type::Text) => 4,
            Self::Parameter(Type::Path) => 5,
        }
    }
}

impl Type {
    fn parse(text: &str, last: bool) -> Option<Self> {
        Some(match text {
            "integer" => Self::Integer,
            "uuid" => Self::Uuid,
            "name" => Self::Name,
            "text" => Self::Text,
            "path" if last => Self::Path,
            _ => return None,
        })
    }

    fn is(self, part: &str) -> bool {
        match self {
            Self::Integer => {
                (1..=MAX_INTEGER_DIGITS).contains(&part.len())
                    && part.bytes().all(|b| b.is_ascii_digit())
            }
            Self::Uuid => is_uuid(part),
            Self::Name => {
                (1..=MAX_VALUE_BYTES).contains(&part.len())
                    && part
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
                    && !part.starts_with('.')
                    && !part.ends_with('.')
            }
            Self::Text | Self::Path => !part.is_empty(),
        }
    }
}

fn is_uuid(part: &str) -> bool {
    part.len() == 36
        && part.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// A segment whose escapes are well-formed, decoded.
fn percent_decoded(part: &str) -> Vec<u8> {
    let digit = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut decoded = Vec::with_capacity(part.len());
    let mut bytes = part.bytes();
    while let Some(b) = bytes.next() {
        let pair = (b == b'%').then(|| (bytes.next(), bytes.next()));
        decoded.push(match pair {
            Some((Some(high), Some(low))) => match (digit(high), digit(low)) {
                (Some(high), Some(low)) => (high << 4) | low,
                (Some(_) | None, _) => b,
            },
            Some(_) | None => b,
        });
    }
    decoded
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for PathTemplate {
    type Error = TemplateError;

    fn try_from(text: String) -> Result<Self, TemplateError> {
        Self::parse(&text)
    }
}

impl From<PathTemplate> for String {
    fn from(template: PathTemplate) -> Self {
        template.text
    }
}
