//! The software that the service is made of [CycloneDX 1.6, JSON]: written by the build from what Cargo resolved.

/// The document, byte for byte as the build wrote it.
pub const SBOM: &str = include_str!(concat!(env!("OUT_DIR"), "/sbom.cdx.json"));

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::SBOM;

    #[test]
    fn the_document_lists_what_the_service_is_made_of() {
        let document: Value = serde_json::from_str(SBOM).unwrap();
        assert_eq!(document["bomFormat"], "CycloneDX");
        assert_eq!(document["specVersion"], "1.6");
        assert_eq!(document["metadata"]["component"]["name"], "tokenkeepd");
        let components = document["components"].as_array().unwrap();
        let named = |name: &str| components.iter().any(|one| one["name"] == name);
        for name in [
            "ring",
            "rustls",
            "tonic",
            "cedar-policy",
            "tokenkeep-enclave",
        ] {
            assert!(named(name), "{name}");
        }
        // What only tests, the command line or other platforms' drivers of tests need is not in the service.
        for name in ["tokenkeep-testkit", "proptest", "tempfile", "tokenkeep-dev"] {
            assert!(!named(name), "{name}");
        }
        // Each crate of a registry has its digest, and each reference leads somewhere.
        let mut known: BTreeSet<&str> = BTreeSet::new();
        known.insert(
            document["metadata"]["component"]["bom-ref"]
                .as_str()
                .unwrap(),
        );
        for one in components {
            let reference = one["bom-ref"].as_str().unwrap();
            assert!(known.insert(reference), "{reference} twice");
            if let Some(purl) = one["purl"].as_str() {
                assert_eq!(purl, reference);
                let digest = one["hashes"][0]["content"].as_str().unwrap();
                assert_eq!(digest.len(), 64, "{reference}");
            }
        }
        let dependencies = document["dependencies"].as_array().unwrap();
        assert_eq!(dependencies.len(), known.len());
        for one in dependencies {
            assert!(known.contains(one["ref"].as_str().unwrap()), "{one}");
            for next in one["dependsOn"].as_array().unwrap() {
                assert!(known.contains(next.as_str().unwrap()), "{one}");
            }
        }
    }
}
