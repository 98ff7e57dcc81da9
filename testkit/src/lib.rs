//! Mints evidence and PKIs; a provider and an API to test against.
