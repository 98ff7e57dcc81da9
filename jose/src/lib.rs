//! Compact JWS, JWK, thumbprints and DPoP proofs: make and verify.
