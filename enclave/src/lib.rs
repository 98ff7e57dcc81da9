//! The trusted core: secrets, sealing, grants, refresh, tokens, policy, audit.
