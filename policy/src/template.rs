//! Policies to begin with, for common cases.

/// A policy to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// What it is called.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// Its text; ids in it are examples.
    pub text: &'static str,
}

/// All of them.
pub const ALL: [Template; 8] = [
    Template {
        name: "start",
        about: "all that the grants allow, but no deletes",
        text: include_str!("../templates/start.cedar"),
    },
    Template {
        name: "read-only",
        about: "calls that read",
        text: include_str!("../templates/read-only.cedar"),
    },
    Template {
        name: "operations",
        about: "named operations of one grant for one client",
        text: include_str!("../templates/operations.cedar"),
    },
    Template {
        name: "office-hours",
        about: "working days and hours",
        text: include_str!("../templates/office-hours.cedar"),
    },
    Template {
        name: "network",
        about: "a vendor from its own networks only",
        text: include_str!("../templates/network.cedar"),
    },
    Template {
        name: "keys",
        about: "known DPoP keys only",
        text: include_str!("../templates/keys.cedar"),
    },
    Template {
        name: "scopes",
        about: "scopes that a vendor's tokens never carry",
        text: include_str!("../templates/scopes.cedar"),
    },
    Template {
        name: "hardware",
        about: "only while the service runs on hardware of the full tier",
        text: include_str!("../templates/hardware.cedar"),
    },
];

/// The one of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Template> {
    ALL.iter().find(|template| template.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Compiled;

    #[test]
    fn each_is_a_good_policy() {
        for template in ALL {
            let compiled = Compiled::new(template.text.as_bytes());
            assert!(compiled.is_ok(), "{}: {:?}", template.name, compiled.err());
            assert_eq!(find(template.name), Some(&template));
        }
        assert_eq!(find("other"), None);
    }
}
