//! One check and its outcome, and the trail of all of them.

use serde::Serialize;

use crate::evidence::Platform;

/// Every check there is, in the order in which results list them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckName {
    /// Length and version of the report.
    ReportForm,
    /// Signature algorithm and zero padding.
    SignatureEncoding,
    /// The VEK certificate is there and well formed.
    Vek,
    /// The signing key's certificate is there and well formed.
    Ask,
    /// The chain ends in a root of the verifier's set.
    PinnedRoot,
    /// The signatures of the chain.
    CertificateSignatures,
    /// Names, key types, authority flags.
    CertificateConstraints,
    /// Dates.
    CertificateValidity,
    /// Revocation of signing keys.
    Revocation,
    /// Processor against the line of the certificates.
    Product,
    /// VCEK or VLEK, in the report and in the certificate.
    KeyKind,
    /// AMD's extensions in the VEK.
    VekExtensions,
    /// Chip id against the VCEK's hardware id.
    ChipId,
    /// Reported TCB against the VEK's.
    VekTcb,
    /// The signature of the report.
    ReportSignature,
    /// TEE, version and lengths of the quote.
    QuoteForm,
    /// The one allowed encoding of what the quote's signature does not cover.
    QuoteEncoding,
    /// The collateral is there and well formed.
    Collateral,
    /// TCB info: for TDX, current, signed.
    TcbInfo,
    /// QE identity: of the TD quoting enclave, current, signed.
    QeIdentity,
    /// The platform's PCK certificate.
    PckCertificate,
    /// The quoting enclave: signed by the PCK, of its identity, owner of the attestation key.
    QeReport,
    /// The signature of the quote.
    QuoteSignature,
    /// A TCB level that Intel knows and has not revoked.
    TcbLevel,
    /// No attribute bit that must be zero.
    ReservedAttributes,
    /// The host cannot make the TD take exceptions at its pages.
    SeptVeDisable,
    /// No migration TD.
    Migratable,
    /// The policy has a part for this platform.
    Platform,
    /// Report data: fresh nonce, purpose and keys.
    ReportData,
    /// The report was made at the expected privilege level.
    Vmpl,
    /// No debugging by the host.
    Debug,
    /// No migration agent.
    MigrationAgent,
    /// No policy bit without a meaning.
    PolicyKnownBits,
    /// Policy bits that must be set.
    PolicyRequired,
    /// Policy bits that must not be set.
    PolicyForbidden,
    /// The least firmware ABI that the guest asked for at launch.
    PolicyAbi,
    /// Platform bits that must be set.
    PlatformRequired,
    /// Platform bits that must not be set.
    PlatformForbidden,
    /// The product is one of those allowed.
    AllowedProduct,
    /// The least report version.
    ReportVersion,
    /// The least guest security version.
    GuestSvn,
    /// Floor for the reported TCB.
    ReportedTcb,
    /// Floor for the committed TCB.
    CommittedTcb,
    /// Floor for the TCB at launch.
    LaunchTcb,
    /// Least firmware ABI and build.
    Firmware,
    /// What runs is what is committed: the host cannot go back behind it.
    ProvisionalFirmware,
    /// Mitigations that must be on.
    Mitigations,
    /// No profiling by the host.
    Profiling,
    /// No service TD but those allowed.
    ServiceTd,
    /// The TDX module is Intel's, and one of those allowed.
    TdxModule,
    /// TD attributes that must be set.
    AttributesRequired,
    /// TD attributes that must not be set.
    AttributesForbidden,
    /// No extended feature without a meaning.
    XfamKnownBits,
    /// Extended features that must be on.
    XfamRequired,
    /// Extended features that must be off.
    XfamForbidden,
    /// The merged status of platform, module and quoting enclave.
    TcbStatus,
    /// How long ago a TCB that is out of date was recovered from.
    TcbAge,
    /// Advisories that the policy does not accept.
    Advisories,
    /// Least evaluation data number of the collateral.
    EvaluationNumber,
    /// Age of the collateral.
    CollateralAge,
    /// Least numbers of Intel's revocation lists.
    CrlNumbers,
    /// Dynamic platform, cached keys, SMT.
    PlatformFlags,
    /// What protects the platform's memory.
    SgxType,
    /// Run-time measurements against the reference values.
    Rtmrs,
    /// Owner of the TD.
    Owner,
    /// Configuration by the owner of the TD.
    OwnerConfig,
    /// Measurement against the reference values.
    Measurement,
    /// Host data against the digests of the allowed manifest signers.
    ManifestSigner,
    /// Family id from the id block.
    FamilyId,
    /// Image id from the id block.
    ImageId,
    /// Key that signed the id block.
    IdKey,
    /// Key that signed the id key.
    AuthorKey,
    /// The one guest, for its life.
    ReportId,
    /// The guest's migration agent.
    ReportIdMa,
    /// Cloud service provider of a VLEK.
    CspId,
    /// Chip allow-list.
    AllowedChip,
    /// Allow-list of platform instances.
    AllowedInstance,
    /// The tier is one of those allowed.
    Tier,
}

impl CheckName {
    /// The checks that make SEV-SNP evidence authentic.
    pub(crate) const VERIFICATION: [Self; 15] = [
        Self::ReportForm,
        Self::SignatureEncoding,
        Self::Vek,
        Self::Ask,
        Self::PinnedRoot,
        Self::CertificateSignatures,
        Self::CertificateConstraints,
        Self::CertificateValidity,
        Self::Revocation,
        Self::Product,
        Self::KeyKind,
        Self::VekExtensions,
        Self::ChipId,
        Self::VekTcb,
        Self::ReportSignature,
    ];

    /// The checks that compare authentic SEV-SNP evidence with expectations and reference values.
    pub(crate) const APPRAISAL: [Self; 31] = [
        Self::Platform,
        Self::ReportData,
        Self::Vmpl,
        Self::Debug,
        Self::MigrationAgent,
        Self::PolicyKnownBits,
        Self::PolicyRequired,
        Self::PolicyForbidden,
        Self::PolicyAbi,
        Self::PlatformRequired,
        Self::PlatformForbidden,
        Self::AllowedProduct,
        Self::ReportVersion,
        Self::GuestSvn,
        Self::ReportedTcb,
        Self::CommittedTcb,
        Self::LaunchTcb,
        Self::Firmware,
        Self::ProvisionalFirmware,
        Self::Mitigations,
        Self::Measurement,
        Self::ManifestSigner,
        Self::FamilyId,
        Self::ImageId,
        Self::IdKey,
        Self::AuthorKey,
        Self::ReportId,
        Self::ReportIdMa,
        Self::CspId,
        Self::AllowedChip,
        Self::Tier,
    ];

    /// The checks that make TDX evidence authentic.
    pub(crate) const TDX_VERIFICATION: [Self; 16] = [
        Self::QuoteForm,
        Self::QuoteEncoding,
        Self::Collateral,
        Self::PinnedRoot,
        Self::Revocation,
        Self::CertificateSignatures,
        Self::CertificateValidity,
        Self::TcbInfo,
        Self::QeIdentity,
        Self::PckCertificate,
        Self::QeReport,
        Self::QuoteSignature,
        Self::TcbLevel,
        Self::ReservedAttributes,
        Self::SeptVeDisable,
        Self::Migratable,
    ];

    /// The checks that compare authentic TDX evidence with expectations and reference values.
    pub(crate) const TDX_APPRAISAL: [Self; 27] = [
        Self::Platform,
        Self::ReportData,
        Self::Debug,
        Self::Profiling,
        Self::ServiceTd,
        Self::TdxModule,
        Self::AttributesRequired,
        Self::AttributesForbidden,
        Self::XfamKnownBits,
        Self::XfamRequired,
        Self::XfamForbidden,
        Self::TcbStatus,
        Self::TcbAge,
        Self::Advisories,
        Self::EvaluationNumber,
        Self::CollateralAge,
        Self::CrlNumbers,
        Self::PlatformFlags,
        Self::SgxType,
        Self::Measurement,
        Self::Rtmrs,
        Self::ManifestSigner,
        Self::Owner,
        Self::OwnerConfig,
        Self::AllowedChip,
        Self::AllowedInstance,
        Self::Tier,
    ];

    /// The second half of a platform's checks.
    pub(crate) const fn appraisal(platform: Platform) -> &'static [Self] {
        match platform {
            Platform::Snp => &Self::APPRAISAL,
            Platform::Tdx => &Self::TDX_APPRAISAL,
        }
    }

    /// The name in results.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReportForm => "report_form",
            Self::SignatureEncoding => "signature_encoding",
            Self::Vek => "vek",
            Self::Ask => "ask",
            Self::PinnedRoot => "pinned_root",
            Self::CertificateSignatures => "certificate_signatures",
            Self::CertificateConstraints => "certificate_constraints",
            Self::CertificateValidity => "certificate_validity",
            Self::Revocation => "revocation",
            Self::Product => "product",
            Self::KeyKind => "key_kind",
            Self::VekExtensions => "vek_extensions",
            Self::ChipId => "chip_id",
            Self::VekTcb => "vek_tcb",
            Self::ReportSignature => "report_signature",
            Self::QuoteForm => "quote_form",
            Self::QuoteEncoding => "quote_encoding",
            Self::Collateral => "collateral",
            Self::TcbInfo => "tcb_info",
            Self::QeIdentity => "qe_identity",
            Self::PckCertificate => "pck_certificate",
            Self::QeReport => "qe_report",
            Self::QuoteSignature => "quote_signature",
            Self::TcbLevel => "tcb_level",
            Self::ReservedAttributes => "reserved_attributes",
            Self::SeptVeDisable => "sept_ve_disable",
            Self::Migratable => "migratable",
            Self::Platform => "platform",
            Self::Profiling => "profiling",
            Self::ServiceTd => "service_td",
            Self::TdxModule => "tdx_module",
            Self::AttributesRequired => "attributes_required",
            Self::AttributesForbidden => "attributes_forbidden",
            Self::XfamKnownBits => "xfam_known_bits",
            Self::XfamRequired => "xfam_required",
            Self::XfamForbidden => "xfam_forbidden",
            Self::TcbStatus => "tcb_status",
            Self::TcbAge => "tcb_age",
            Self::Advisories => "advisories",
            Self::EvaluationNumber => "evaluation_number",
            Self::CollateralAge => "collateral_age",
            Self::CrlNumbers => "crl_numbers",
            Self::PlatformFlags => "platform_flags",
            Self::SgxType => "sgx_type",
            Self::Rtmrs => "rtmrs",
            Self::Owner => "owner",
            Self::OwnerConfig => "owner_config",
            Self::ReportData => "report_data",
            Self::Vmpl => "vmpl",
            Self::Debug => "debug",
            Self::MigrationAgent => "migration_agent",
            Self::PolicyKnownBits => "policy_known_bits",
            Self::PolicyRequired => "policy_required",
            Self::PolicyForbidden => "policy_forbidden",
            Self::PolicyAbi => "policy_abi",
            Self::PlatformRequired => "platform_required",
            Self::PlatformForbidden => "platform_forbidden",
            Self::AllowedProduct => "allowed_product",
            Self::ReportVersion => "report_version",
            Self::GuestSvn => "guest_svn",
            Self::ReportedTcb => "reported_tcb",
            Self::CommittedTcb => "committed_tcb",
            Self::LaunchTcb => "launch_tcb",
            Self::Firmware => "firmware",
            Self::ProvisionalFirmware => "provisional_firmware",
            Self::Mitigations => "mitigations",
            Self::Measurement => "measurement",
            Self::ManifestSigner => "manifest_signer",
            Self::FamilyId => "family_id",
            Self::ImageId => "image_id",
            Self::IdKey => "id_key",
            Self::AuthorKey => "author_key",
            Self::ReportId => "report_id",
            Self::ReportIdMa => "report_id_ma",
            Self::CspId => "csp_id",
            Self::AllowedChip => "allowed_chip",
            Self::AllowedInstance => "allowed_instance",
            Self::Tier => "tier",
        }
    }
}

impl std::fmt::Display for CheckName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Found what was expected.
    Pass,
    /// Found something else.
    Fail,
    /// Has no meaning for this evidence; the reason says why.
    NotApplicable,
    /// Could not be made or was not asked for; the reason says why.
    NotRun,
}

impl Outcome {
    /// The name in results.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::NotApplicable => "not_applicable",
            Self::NotRun => "not_run",
        }
    }
}

/// One check of one appraisal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which.
    pub name: CheckName,
    /// How it ended.
    pub outcome: Outcome,
    /// What it looked for.
    pub expected: String,
    /// What it found.
    pub found: String,
    /// Why it does not apply or did not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The outcomes so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trail {
    checks: Vec<Check>,
}

impl Trail {
    pub(crate) fn pass(
        &mut self,
        name: CheckName,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) {
        self.push(name, Outcome::Pass, expected.into(), found.into(), None);
    }

    pub(crate) fn fail(
        &mut self,
        name: CheckName,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) {
        self.push(name, Outcome::Fail, expected.into(), found.into(), None);
    }

    /// Passes or fails.
    pub(crate) fn settle(
        &mut self,
        name: CheckName,
        holds: bool,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) {
        let outcome = if holds { Outcome::Pass } else { Outcome::Fail };
        self.push(name, outcome, expected.into(), found.into(), None);
    }

    pub(crate) fn not_applicable(
        &mut self,
        name: CheckName,
        expected: impl Into<String>,
        reason: &str,
    ) {
        self.push(
            name,
            Outcome::NotApplicable,
            expected.into(),
            String::new(),
            Some(reason.to_owned()),
        );
    }

    pub(crate) fn not_run(&mut self, name: CheckName, expected: impl Into<String>, reason: &str) {
        self.push(
            name,
            Outcome::NotRun,
            expected.into(),
            String::new(),
            Some(reason.to_owned()),
        );
    }

    /// Writes down as not run every check of `names` that has no outcome yet.
    pub(crate) fn rest_not_run(&mut self, names: &[CheckName], reason: &str) {
        for name in names {
            if !self.checks.iter().any(|check| check.name == *name) {
                self.not_run(*name, String::new(), reason);
            }
        }
    }

    /// Whether any check ended with `outcome`.
    pub(crate) fn any(&self, outcome: Outcome) -> bool {
        self.checks.iter().any(|check| check.outcome == outcome)
    }

    /// The checks in the order of [`CheckName`].
    pub(crate) fn finish(mut self) -> Vec<Check> {
        self.checks.sort_by_key(|check| check.name);
        self.checks
    }

    fn push(
        &mut self,
        name: CheckName,
        outcome: Outcome,
        expected: String,
        found: String,
        reason: Option<String>,
    ) {
        self.checks.push(Check {
            name,
            outcome,
            expected,
            found,
            reason,
        });
    }
}
