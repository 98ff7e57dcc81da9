//! Operations: what may be called at a target behind the gateway, each by its id.
//!
//! A target that lists operations is called by them alone: a method, a typed path template, the names of the query,
//! the types of the body and its size. Which operation a call is, is decided as the most forgiving server would read
//! its path; where that differs from what the call literally says, the call is none. A grant names operations by
//! target and id and never sees a raw path.

mod template;

use std::borrow::Cow;
use std::fmt;

use http::header::{self, HeaderMap};
use http::{HeaderValue, Method};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::{IdError, OperationId, TargetName};
pub use template::{PathTemplate, TemplateError};

/// The most operations of a target.
pub const MAX_OPERATIONS: usize = 512;

/// The most query names, and the most content types, of an operation.
pub const MAX_NAMED: usize = 64;

/// The longest query name or content type in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// In the place of a list of query names: any.
const ANY_QUERY: &str = "*";

/// In the place of a list of content types: any.
const ANY_CONTENT: &str = "*/*";

/// The methods that an operation may have. `HEAD` is `GET` without the answer's body [RFC 9110 §9.3.2].
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// One thing that may be called at a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its id, unique within the target.
    pub id: OperationId,
    /// The method, one of `GET`, `POST`, `PUT`, `PATCH` and `DELETE`.
    pub method: String,
    /// The path below the target's base URL.
    pub path: PathTemplate,
    /// The names that its query may have: none unless listed; `*` alone for any.
    #[serde(default)]
    pub query: Vec<String>,
    /// The media types that its body may have: no body unless listed; `*/*` alone for any.
    #[serde(default)]
    pub content_types: Vec<String>,
    /// The most bytes of its body, if bounded.
    #[serde(default)]
    pub max_body_bytes: Option<u64>,
}

/// An operation of a target as a grant names it: `{target}/{operation}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OperationName {
    /// The target.
    pub target: TargetName,
    /// The operation.
    pub operation: OperationId,
}

/// What a call is judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Called<'a> {
    pub(crate) method: &'a Method,
    /// The path below the base URL: empty, or `/` and more, in normal form.
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
    /// The size of the body, if it is known beforehand.
    pub(crate) body_bytes: Option<u64>,
}

/// Why a list of operations can't be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OperationsError {
    /// There are more than [`MAX_OPERATIONS`].
    #[error("at most 512")]
    TooMany,
    /// Two have one id.
    #[error("each id once")]
    SameId,
    /// Two have the same method and, but for the names of parameters, the same path.
    #[error("each method and path once")]
    SamePath,
    /// The method is none of those.
    #[error("must be GET, POST, PUT, PATCH or DELETE")]
    Method,
    /// A query name is empty, too long, or not printable ASCII; or `*` is not alone.
    #[error("query names: at most 64, each 1 to 128 printable ASCII characters, or * alone")]
    Query,
    /// A content type is no `type/subtype` in lower case; or `*/*` is not alone.
    #[error("content types: at most 64 of type/subtype in lower case, or */* alone")]
    ContentType,
    /// A body is bounded that may not be.
    #[error("a body's size is bounded only where content types are listed")]
    Bound,
}

/// Why a call is no operation that is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OperationError {
    /// No operation of the target has this method and path.
    #[error("the target has no operation of this method and path")]
    Unknown,
    /// The target has it, but the grant does not allow it.
    #[error("the grant does not allow the operation {0}")]
    NotGranted(OperationId),
    /// The query has a name that the operation does not have.
    #[error("the operation {0} does not take this query")]
    Query(OperationId),
    /// The body has a type that the operation does not take, or there is a body and it takes none.
    #[error("the operation {0} does not take a body of this type")]
    ContentType(OperationId),
    /// The body is too large.
    #[error("the body is larger than the {max_bytes} bytes that the operation {operation} takes")]
    TooLarge {
        /// The operation.
        operation: OperationId,
        /// Its bound.
        max_bytes: u64,
    },
}

/// Checks what a target lists.
///
/// # Errors
/// [`OperationsError`] says which rule it breaks.
pub fn check(operations: &[Operation]) -> Result<(), OperationsError> {
    if operations.len() > MAX_OPERATIONS {
        return Err(OperationsError::TooMany);
    }
    for (at, operation) in operations.iter().enumerate() {
        let Operation {
            id,
            method,
            path,
            query,
            content_types,
            max_body_bytes,
        } = operation;
        if !METHODS.contains(&method.as_str()) {
            return Err(OperationsError::Method);
        }
        if !listed(query, ANY_QUERY, is_query_name) {
            return Err(OperationsError::Query);
        }
        if !listed(content_types, ANY_CONTENT, is_media_type) {
            return Err(OperationsError::ContentType);
        }
        if max_body_bytes.is_some() && content_types.is_empty() {
            return Err(OperationsError::Bound);
        }
        for earlier in operations.iter().take(at) {
            if earlier.id == *id {
                return Err(OperationsError::SameId);
            }
            if earlier.method == *method && earlier.path.same_paths(path) {
                return Err(OperationsError::SamePath);
            }
        }
    }
    Ok(())
}

/// The operation that a call is.
///
/// # Errors
/// [`OperationError`], but [`OperationError::NotGranted`].
pub(crate) fn find<'a>(
    operations: &'a [Operation],
    called: &Called<'_>,
) -> Result<&'a Operation, OperationError> {
    let method = match called.method.as_str() {
        "HEAD" => "GET",
        method => method,
    };
    let path = if called.path.is_empty() {
        "/"
    } else {
        called.path
    };
    // The most specific one that a forgiving server could take it for.
    let operation = operations
        .iter()
        .filter(|operation| operation.method == method && operation.path.could_be(path))
        .min_by(|one, other| one.path.by_generality(&other.path))
        .filter(|operation| operation.path.is(path))
        .ok_or(OperationError::Unknown)?;
    operation.check_query(called.query)?;
    operation.check_body(called.headers, called.body_bytes)?;
    Ok(operation)
}

impl Operation {
    fn check_query(&self, query: Option<&str>) -> Result<(), OperationError> {
        let query = query.unwrap_or_default();
        if query.is_empty() || self.query.iter().any(|name| name == ANY_QUERY) {
            return Ok(());
        }
        let refused = || OperationError::Query(self.id.clone());
        // Some servers part a query at `;` as well, and would see another name.
        if query.contains(';') {
            return Err(refused());
        }
        for pair in query.split('&') {
            let name = pair.split_once('=').map_or(pair, |(name, _)| name);
            let name = decoded(name);
            if !self.query.iter().any(|listed| *listed == name) {
                return Err(refused());
            }
        }
        Ok(())
    }

    fn check_body(
        &self,
        headers: &HeaderMap,
        body_bytes: Option<u64>,
    ) -> Result<(), OperationError> {
        let refused = || OperationError::ContentType(self.id.clone());
        let mut types = headers.get_all(header::CONTENT_TYPE).iter();
        let (given, more) = (types.next(), types.next());
        let any = self
            .content_types
            .iter()
            .any(|listed| listed == ANY_CONTENT);
        match given {
            // Which of several is meant, servers do not agree on.
            _ if more.is_some() => return Err(refused()),
            Some(given) if !any && !self.takes(given) => return Err(refused()),
            None if !any && body_bytes != Some(0) => return Err(refused()),
            Some(_) | None => {}
        }
        match (self.max_body_bytes, body_bytes) {
            (Some(max_bytes), Some(bytes)) if bytes > max_bytes => Err(self.too_large(max_bytes)),
            (Some(_) | None, Some(_) | None) => Ok(()),
        }
    }

    /// The error for a body of more than so many bytes.
    pub(crate) fn too_large(&self, max_bytes: u64) -> OperationError {
        OperationError::TooLarge {
            operation: self.id.clone(),
            max_bytes,
        }
    }

    fn takes(&self, given: &HeaderValue) -> bool {
        let Ok(given) = given.to_str() else {
            return false;
        };
        let media_type = given.split(';').next().unwrap_or_default().trim();
        self.content_types
            .iter()
            .any(|listed| listed.eq_ignore_ascii_case(media_type))
    }
}

/// A list of acceptable entries, or the one that stands for any.
fn listed(names: &[String], any: &str, acceptable: fn(&str) -> bool) -> bool {
    names.len() <= MAX_NAMED
        && match names {
            [name] if name == any => true,
            names => names.iter().all(|name| acceptable(name)),
        }
}

fn is_query_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name != ANY_QUERY
        && name.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}

/// `type/subtype` of tokens [RFC 9110 §8.3.1], in lower case.
fn is_media_type(name: &str) -> bool {
    let token = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$&-^_.+".contains(&b))
    };
    name.len() <= MAX_NAME_BYTES
        && name
            .split_once('/')
            .is_some_and(|(one, other)| token(one) && token(other))
}

/// A query name as it is meant [HTML, `application/x-www-form-urlencoded`].
fn decoded(name: &str) -> Cow<'_, str> {
    url::form_urlencoded::parse(name.as_bytes())
        .next()
        .map_or(Cow::Borrowed(""), |(name, _)| name)
}

impl OperationName {
    /// Reads `{target}/{operation}`.
    ///
    /// # Errors
    /// [`IdError`] if a part is no id, [`IdError::Character`] if there are not two.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let (target, operation) = text.split_once('/').ok_or(IdError::Character)?;
        Ok(Self {
            target: TargetName::parse(target)?,
            operation: OperationId::parse(operation)?,
        })
    }
}

impl TryFrom<String> for OperationName {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(&text)
    }
}

impl From<OperationName> for String {
    fn from(name: OperationName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for OperationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.target, self.operation)
    }
}

impl fmt::Debug for OperationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
