//! Evidence, verification and appraisal for SEV-SNP and TDX, key bundle, manifest, deposit envelope.
