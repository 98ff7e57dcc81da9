//! A profile's operations, as the gateway holds a target to them.

use profiles::document::{Document, Method, Operation as Described};
use thiserror::Error;

use crate::ids::{IdError, OperationId};
use crate::operation::{Operation, PathTemplate, TemplateError};

/// Why an operation of a profile can't be one of a target.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProfileOperationError {
    /// Its id, with `-` for `.` and `_`, is none.
    #[error("id: {0}")]
    Id(IdError),
    /// Its path is no template.
    #[error("path: {0}")]
    Path(TemplateError),
}

/// What a profile lists for a target. `{name}` is any one segment, `{name*}` the rest.
pub(super) fn of_target(
    document: &Document,
    target: &str,
) -> Result<Vec<Operation>, ProfileOperationError> {
    let listed = document.operations.iter();
    let own = listed.filter(|operation| operation.target == target);
    own.map(operation).collect()
}

fn operation(described: &Described) -> Result<Operation, ProfileOperationError> {
    let Described {
        id,
        target: _,
        method,
        path,
        query,
        body,
        max_body_bytes,
    } = described;
    let id = id.replace(['.', '_'], "-");
    let segments = path.split('/').map(|segment| {
        let name = segment
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        match name {
            None => segment.to_owned(),
            Some(name) => match name.strip_suffix('*') {
                Some(rest) => format!("{{{rest}:path}}"),
                None => format!("{{{name}:text}}"),
            },
        }
    });
    let path = segments.collect::<Vec<_>>().join("/");
    let method = match method {
        // What may be read may be looked at.
        Method::Head => Method::Get,
        Method::Get | Method::Post | Method::Put | Method::Patch | Method::Delete => *method,
    };
    Ok(Operation {
        id: OperationId::parse(&id).map_err(ProfileOperationError::Id)?,
        method: method.as_str().to_owned(),
        path: PathTemplate::parse(&path).map_err(ProfileOperationError::Path)?,
        query: query.clone(),
        content_types: body.clone(),
        max_body_bytes: max_body_bytes.filter(|_| !body.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::check;

    #[test]
    fn each_shipped_profile_lists_operations_that_a_target_can_be_held_to() {
        let mut count = 0;
        for shipped in profiles::shipped::ALL {
            let document = shipped.document().unwrap();
            for target in &document.targets {
                let operations = of_target(&document, &target.name).unwrap();
                assert_eq!(check(&operations), Ok(()), "{}", shipped.id);
                count += operations.len();
            }
            let of_none = of_target(&document, "other").unwrap();
            assert!(of_none.is_empty());
        }
        assert!(count > 10, "{count}");
    }

    #[test]
    fn ids_and_paths_are_those_of_the_gateway() {
        let salesforce = profiles::shipped::find("salesforce").unwrap();
        let operations = of_target(&salesforce.document().unwrap(), "rest").unwrap();
        let found: Vec<_> = operations
            .iter()
            .map(|operation| (operation.id.as_str(), String::from(operation.path.clone())))
            .collect();
        let get = (
            "sobjects-get",
            "/sobjects/{object:text}/{id:text}".to_owned(),
        );
        assert!(found.contains(&get), "{found:?}");
        assert!(found.contains(&("query", "/query".to_owned())), "{found:?}");
    }
}
