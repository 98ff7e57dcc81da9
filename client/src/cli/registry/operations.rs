//! Operations of targets, as files list them and as they are shown.

use std::collections::BTreeMap;
use std::fs;

use proto::v1;
use serde::Deserialize;

use crate::cli::failure::Failure;

/// The largest file of operations in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// An operation as a file lists it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    id: String,
    method: String,
    path: String,
    #[serde(default)]
    query: Vec<String>,
    #[serde(default)]
    content_types: Vec<String>,
    max_body_bytes: Option<u64>,
}

/// The operations of each target, from pairs of a target and a file.
pub(super) fn read(
    files: &[(String, String)],
) -> Result<BTreeMap<String, Vec<v1::Operation>>, Failure> {
    let mut all = BTreeMap::new();
    for (target, file) in files {
        let operations = text(file).and_then(|text| parse(&text)).map_err(|why| {
            Failure::usage(
                format!("{file}: {why}"),
                "name a file with a JSON array of operations: see provider create --help",
            )
        })?;
        if all.insert(target.clone(), operations).is_some() {
            let twice = format!("--operations names the target {target} twice");
            return Err(Failure::usage(twice, "put all of them into one file"));
        }
    }
    Ok(all)
}

/// That each of these names is that of a target.
pub(super) fn no_strays<'a>(
    targets: &[v1::Target],
    mut names: impl Iterator<Item = &'a String>,
) -> Result<(), Failure> {
    match names.find(|name| !targets.iter().any(|target| target.name == **name)) {
        Some(stray) => Err(Failure::usage(
            format!("there is no --gateway-target {stray}"),
            "name a target of this command",
        )),
        None => Ok(()),
    }
}

/// A target's operations, a line each.
pub(super) fn shown(target: &v1::Target) -> Vec<String> {
    let line = |operation: &v1::Operation| {
        let v1::Operation {
            id,
            method,
            path,
            query,
            content_types,
            max_body_bytes,
        } = operation;
        let mut line = format!("{}/{id}: {method} {path}", target.name);
        if !query.is_empty() {
            line.push_str(&format!("?{}", query.join("&")));
        }
        if !content_types.is_empty() {
            line.push_str(&format!(" ({})", content_types.join(", ")));
        }
        if let Some(max_bytes) = max_body_bytes {
            line.push_str(&format!(" at most {max_bytes} bytes"));
        }
        line
    };
    target.operations.iter().map(line).collect()
}

fn text(file: &str) -> Result<String, String> {
    let size = fs::metadata(file).map_err(|error| error.to_string())?.len();
    if size > MAX_FILE_BYTES {
        return Err(format!("larger than {MAX_FILE_BYTES} bytes"));
    }
    fs::read_to_string(file).map_err(|error| error.to_string())
}

fn parse(text: &str) -> Result<Vec<v1::Operation>, String> {
    let listed: Vec<Listed> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    // An empty list would allow everything.
    if listed.is_empty() {
        return Err("lists no operation".to_owned());
    }
    let operation = |listed: Listed| v1::Operation {
        id: listed.id,
        method: listed.method,
        path: listed.path,
        query: listed.query,
        content_types: listed.content_types,
        max_body_bytes: listed.max_body_bytes,
    };
    Ok(listed.into_iter().map(operation).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_lists_operations() {
        let text = r#"[
            {"id": "get", "method": "GET", "path": "/a/{id:integer}", "query": ["page", "size"]},
            {"id": "add", "method": "POST", "path": "/a", "content_types": ["application/json"], "max_body_bytes": 9}
        ]"#;
        let target = v1::Target {
            name: "api".to_owned(),
            operations: parse(text).unwrap(),
            ..v1::Target::default()
        };
        assert_eq!(
            shown(&target),
            [
                "api/get: GET /a/{id:integer}?page&size",
                "api/add: POST /a (application/json) at most 9 bytes"
            ]
        );
        let names = ["api".to_owned()];
        assert!(no_strays(std::slice::from_ref(&target), names.iter()).is_ok());
        let names = ["other".to_owned()];
        let stray = no_strays(&[target], names.iter()).unwrap_err();
        let said = stray.for_people();
        assert!(
            said.contains("there is no --gateway-target other"),
            "{said}"
        );
    }

    #[test]
    fn a_file_that_lists_none_is_refused() {
        for (text, why) in [
            ("[]", "lists no operation"),
            (
                "{}",
                "invalid type: map, expected a sequence at line 1 column 0",
            ),
            (
                r#"[{"id": "get", "method": "GET", "pfad": "/"}]"#,
                "unknown field `pfad`, expected one of `id`, `method`, `path`, `query`, `content_types`, `max_body_bytes` at line 1 column 38",
            ),
        ] {
            assert_eq!(parse(text), Err(why.to_owned()), "{text}");
        }
    }
}
