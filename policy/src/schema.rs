//! The published schema, and the validator made of it.

use std::sync::LazyLock;

use cedar_policy::{Schema, Validator};

/// The schema that tenants' policies are written against, as it is published.
pub const SCHEMA: &str = include_str!("../tokenkeep.cedarschema");

/// The validator; none if the schema of this build does not parse, which a test excludes.
pub(crate) fn validator() -> Option<&'static Validator> {
    static VALIDATOR: LazyLock<Option<Validator>> = LazyLock::new(|| {
        let (schema, warnings) = Schema::from_cedarschema_str(SCHEMA).ok()?;
        (warnings.count() == 0).then(|| Validator::new(schema))
    });
    VALIDATOR.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_parses_without_a_warning() {
        assert!(validator().is_some());
    }
}
