//! The profiles that come with the product. They are part of the image, and so of
//! what is measured.

use crate::check::{Fault, read};
use crate::document::Document;

/// A profile as it is shipped.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// Its id.
    pub id: &'static str,
    /// The file.
    pub toml: &'static str,
}

macro_rules! shipped {
    ($($id:literal),* $(,)?) => {
        /// All of them, by id.
        pub const ALL: &[Shipped] = &[$(Shipped {
            id: $id,
            toml: include_str!(concat!("../data/", $id, ".toml")),
        }),*];
    };
}

shipped![
    "atlassian",
    "auth0",
    "entra",
    "generic",
    "github-app",
    "google",
    "keycloak",
    "oidc-provider",
    "okta",
    "salesforce",
    "slack",
];

impl Shipped {
    /// The profile, read.
    ///
    /// # Errors
    /// None in what is shipped: a test reads all.
    pub fn document(&self) -> Result<Document, Vec<Fault>> {
        read(self.toml.as_bytes())
    }
}

/// The profile with this id.
#[must_use]
pub fn find(id: &str) -> Option<&'static Shipped> {
    ALL.iter().find(|shipped| shipped.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_good_and_called_as_its_file() {
        for shipped in ALL {
            let document = shipped.document();
            assert_eq!(
                document.as_ref().map(|d| d.id.as_str()),
                Ok(shipped.id),
                "{document:?}"
            );
        }
        assert!(ALL.is_sorted_by_key(|shipped| shipped.id));
    }
}
