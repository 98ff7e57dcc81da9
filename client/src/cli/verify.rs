//! `verify`: what the evidence says, for people who decide whether to trust it.

use attestation::snp::Report;
use attestation::tdx::Quote;
use attestation::{KeyBundle, Outcome, Platform, TokenKey, Verdict};
use ring::digest;
use serde_json::{Value, json};
use tokenkeep::Inspection;

use super::bound_manifest::{self, Found};
use super::exit::Exit;
use super::failure::Failure;
use super::output::Output;

/// What stands in the organisation of each certificate of an emulated enclave.
const EMULATED: &[u8] = b"EMULATED";

pub(crate) const MANUAL: &str = "\
Examples:
  tokenkeep verify --server https://keep.example:8443 --policy policy.toml --revocation-list crl.der
  tokenkeep verify --server https://keep.example:8443 --policy policy.toml --json
  tokenkeep verify --server https://localhost:8443 --policy policy.toml --allow-emulated root.pem

Exit codes:
  0  accept: authentic, fresh, this server's, and equal to the policy's reference values
  1  reject: a check failed; do not trust this server
  2  wrong usage, or a file that cannot be read
  3  authentic: nothing failed, but no policy was given or a check could not be made
  4  the server was not reached or cannot serve now";

#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// Save the evidence to this new file, whatever the verdict, for `tokenkeep evidence`
    #[arg(long, value_name = "FILE")]
    save: Option<std::path::PathBuf>,
}

impl VerifyArgs {
    /// Saves the evidence if that was asked for.
    pub(crate) fn keep(&self, inspection: &Inspection) -> Result<(), Failure> {
        let Some(file) = &self.save else {
            return Ok(());
        };
        let json = inspection
            .evidence()
            .to_json()
            .map_err(|error| Failure::answer(format!("the evidence cannot be saved: {error}")))?;
        Ok(tokenkeep::private_file::create_private(
            file,
            json.as_bytes(),
        )?)
    }
}

/// Prints the result and yields the exit code of the verdict.
pub(crate) fn run(
    inspection: &Inspection,
    manifest: &Found,
    server: &str,
    output: Output,
) -> Result<Exit, Failure> {
    let result = Findings {
        inspection,
        manifest,
        server,
    };
    if output.is_json() {
        output.json(&result.to_json())?;
    } else {
        result
            .lines()
            .iter()
            .try_for_each(|line| output.line(line))?;
    }
    Ok(exit_of(inspection.verdict()))
}

pub(crate) const fn exit_of(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Accept => Exit::Ok,
        Verdict::Authentic => Exit::AuthenticOnly,
        Verdict::Reject => Exit::Refused,
    }
}

/// What to do about an emulated enclave that no root vouches for; none for other evidence.
pub(crate) fn emulated_hint(inspection: &Inspection) -> Option<&'static str> {
    let unrooted = inspection.appraisal().tier().is_none();
    (unrooted && claims_emulated(inspection)).then_some(
        "this enclave is emulated: it runs on no confidential hardware and protects nothing; to try it out, \
         add --allow-emulated ROOT.pem with the root of your development server",
    )
}

/// Whether a certificate names itself emulated. Used for a hint only: what decides is the root.
fn claims_emulated(inspection: &Inspection) -> bool {
    let endorsements = &inspection.evidence().endorsements;
    [&endorsements.vek, &endorsements.ask, &endorsements.ark]
        .into_iter()
        .flatten()
        .any(|der| der.windows(EMULATED.len()).any(|window| window == EMULATED))
}

/// SHA-256 in hexadecimal.
pub(crate) fn fingerprint(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

struct Findings<'a> {
    inspection: &'a Inspection,
    manifest: &'a Found,
    server: &'a str,
}

/// One check of the appraisal or of the binding to the server.
struct Row<'a> {
    name: &'a str,
    outcome: Outcome,
    expected: &'a str,
    found: &'a str,
    reason: Option<&'a str>,
}

impl Findings<'_> {
    fn rows(&self) -> Vec<Row<'_>> {
        let checks = self
            .inspection
            .appraisal()
            .checks()
            .iter()
            .map(|check| Row {
                name: check.name.as_str(),
                outcome: check.outcome,
                expected: &check.expected,
                found: &check.found,
                reason: check.reason.as_deref(),
            });
        let bindings = self.inspection.bindings().iter().map(|binding| Row {
            name: binding.name,
            outcome: binding.outcome,
            expected: &binding.expected,
            found: &binding.found,
            reason: None,
        });
        checks.chain(bindings).collect()
    }

    /// The report field by field, and whether its signature holds.
    fn fields(&self) -> (Vec<(&'static str, String)>, bool) {
        match self.inspection.appraisal().appraised() {
            Some(appraised) => (appraised.claims_for_display(), true),
            None => {
                let raw = &self.inspection.evidence().report;
                let claims = match self.inspection.appraisal().platform() {
                    Platform::Snp => Report::parse(raw)
                        .map(|report| report.claims_for_display(None))
                        .unwrap_or_default(),
                    Platform::Tdx => Quote::parse(raw)
                        .map(|quote| quote.claims_for_display())
                        .unwrap_or_default(),
                };
                (claims, false)
            }
        }
    }

    fn line_name(&self) -> Option<&'static str> {
        let appraised = self.inspection.appraisal().appraised();
        appraised
            .and_then(attestation::Appraised::line)
            .map(attestation::snp::Line::as_str)
    }

    /// The checks that stand between this verdict and `accept`, in one line.
    fn open_checks(&self) -> Option<String> {
        let (outcome, label) = match self.inspection.verdict() {
            Verdict::Accept => return None,
            Verdict::Authentic => (Outcome::NotRun, "not run"),
            Verdict::Reject => (Outcome::Fail, "failed"),
        };
        let rows = self.rows();
        let open = rows.iter().filter(|row| row.outcome == outcome);
        let names: Vec<&str> = open.map(|row| row.name).collect();
        Some(format!("  {label}: {}", names.join(", ")))
    }

    /// What the reader should do or know next.
    fn hint(&self) -> Option<&'static str> {
        let appraisal = self.inspection.appraisal();
        match self.inspection.verdict() {
            Verdict::Accept if appraisal.tier() == Some(attestation::Tier::Emulated) => Some(
                "accepted under --allow-emulated: there is no confidential hardware, nothing is protected",
            ),
            Verdict::Accept => None,
            Verdict::Authentic => Some(
                "nothing failed, but the checks marked not run are needed before anything is deposited: give \
                 reference values with --policy FILE, and for AMD hardware --collateral DIR",
            ),
            Verdict::Reject => Some(emulated_hint(self.inspection).unwrap_or(
                "do not trust this server with anything; the checks marked fail say why",
            )),
        }
    }

    fn to_json(&self) -> Value {
        let (_, verified) = self.fields();
        let fields = attestation::overview(self.inspection.evidence());
        let checks: Vec<Value> = self
            .rows()
            .into_iter()
            .map(|row| {
                let Row {
                    name,
                    outcome,
                    expected,
                    found,
                    reason,
                } = row;
                json!({
                    "name": name,
                    "outcome": outcome.as_str(),
                    "expected": expected,
                    "found": found,
                    "reason": reason,
                })
            })
            .collect();
        let appraisal = self.inspection.appraisal();
        json!({
            "verdict": self.inspection.verdict().as_str(),
            "tier": appraisal.tier().map(attestation::Tier::as_str),
            "platform": appraisal.platform().as_str(),
            "product_line": self.line_name(),
            "server": self.server,
            "tcb": self.tcb(),
            "fields": fields,
            "fields_verified": verified,
            "checks": checks,
            "key_bundle": bundle_json(self.inspection.bundle(), self.inspection.bundle_digest()),
            "manifest": bound_manifest::to_json(self.manifest),
            "hint": self.hint(),
        })
    }

    /// The patch levels of the reported TCB, once the product line is known.
    fn tcb(&self) -> Option<Value> {
        let appraised = self.inspection.appraisal().appraised()?;
        let parts = appraised.report()?.reported_tcb(appraised.line()?).parts();
        Some(json!({
            "fmc": parts.fmc,
            "bootloader": parts.bootloader,
            "tee": parts.tee,
            "snp": parts.snp,
            "microcode": parts.microcode,
        }))
    }

    fn lines(&self) -> Vec<String> {
        let inspection = self.inspection;
        let appraisal = inspection.appraisal();
        let verdict = inspection.verdict().as_str().to_uppercase();
        let mut lines = vec![format!("{verdict}  {}", self.server)];
        lines.extend(self.hint().map(|hint| format!("  {hint}")));
        lines.extend(self.open_checks());

        let (fields, verified) = self.fields();
        let field = |wanted: &str| {
            let found = fields.iter().find(|(name, _)| *name == wanted);
            found.map_or_else(|| "unreadable".to_owned(), |(_, value)| value.clone())
        };
        lines.push(String::new());
        lines.push(if verified {
            "Evidence".to_owned()
        } else {
            "Evidence (as claimed: it was NOT verified or did not pass)".to_owned()
        });
        let platform = match (appraisal.platform(), self.line_name()) {
            (Platform::Snp, Some(line)) => format!("AMD SEV-SNP on {line}"),
            (Platform::Snp, None) => "AMD SEV-SNP".to_owned(),
            (Platform::Tdx, _) => "Intel TDX".to_owned(),
        };
        let tier = appraisal
            .tier()
            .map_or("none: not authentic", attestation::Tier::as_str);
        lines.push(entry("platform", &platform));
        lines.push(entry("tier", tier));
        let snp: &[(&str, &str)] = &[
            ("reported TCB", "reported_tcb"),
            ("committed TCB", "committed_tcb"),
            ("launch TCB", "launch_tcb"),
            ("firmware", "current_firmware"),
            ("measurement", "measurement"),
            ("guest policy", "policy"),
            ("guest SVN", "guest_svn"),
            ("VMPL", "vmpl"),
            ("platform bits", "platform_info"),
            ("host data", "host_data"),
            ("chip id", "chip_id"),
            ("report data", "report_data"),
            ("evidence id", "evidence_id"),
        ];
        let tdx: &[(&str, &str)] = &[
            ("TEE TCB SVN", "tee_tcb_svn"),
            ("MRSEAM", "mr_seam"),
            ("MRTD", "mrtd"),
            ("RTMR0", "rtmr0"),
            ("RTMR1", "rtmr1"),
            ("RTMR2", "rtmr2"),
            ("RTMR3", "rtmr3"),
            ("MRCONFIGID", "mr_config_id"),
            ("TD attributes", "td_attributes"),
            ("XFAM", "xfam"),
            ("report data", "report_data"),
            ("evidence id", "evidence_id"),
        ];
        let rows = match appraisal.platform() {
            Platform::Snp => snp,
            Platform::Tdx => tdx,
        };
        lines.extend(rows.iter().map(|(label, name)| entry(label, &field(name))));

        lines.push(String::new());
        lines.push(if inspection.verdict() == Verdict::Reject {
            "Keys and names (as claimed: nothing vouches for them)".to_owned()
        } else {
            "Keys and names that the evidence binds".to_owned()
        });
        lines.extend(bundle_lines(
            inspection.bundle(),
            inspection.bundle_digest(),
        ));

        lines.push(String::new());
        lines.extend(bound_manifest::lines(self.manifest));

        lines.push(String::new());
        lines.push("Checks".to_owned());
        lines.extend(self.rows().iter().flat_map(check_lines));
        lines
    }
}

pub(crate) fn entry(label: &str, value: &str) -> String {
    format!("  {label:16} {value}")
}

/// A check, and below it what it expected and found.
fn check_lines(row: &Row<'_>) -> Vec<String> {
    let Row {
        name,
        outcome,
        expected,
        found,
        reason,
    } = row;
    let mark = match outcome {
        Outcome::Pass => "pass",
        Outcome::Fail => "FAIL",
        Outcome::NotApplicable => "n/a",
        Outcome::NotRun => "not run",
    };
    let mut lines = vec![format!("  {mark:8} {name}")];
    let details = [
        ("expected", *expected),
        ("found", *found),
        ("because", reason.unwrap_or("")),
    ];
    lines.extend(
        details
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(label, text)| format!("           {label:9} {text}")),
    );
    lines
}

fn bundle_lines(bundle: &KeyBundle, bundle_digest: &[u8; 32]) -> Vec<String> {
    let KeyBundle {
        enclave_ca_der,
        next_ca_ders,
        instance_key,
        token_keys,
        hpke_public,
        log_key_spki,
        earlier_log_keys,
        manifest_digest,
        manifest_signer,
        boot_identity,
        issuer,
        grpc_origin,
        public_origin,
        gateway_origin,
    } = bundle;
    let sha256 = |bytes: &[u8]| format!("SHA-256 {}", fingerprint(bytes));
    let mut lines = vec![
        entry(
            "key bundle",
            &format!("SHA-256 {}", hex::encode(bundle_digest)),
        ),
        entry("enclave CA", &sha256(enclave_ca_der)),
    ];
    let next = next_ca_ders.iter();
    lines.extend(next.map(|ca| entry("next CA", &sha256(ca))));
    lines.push(entry(
        "instance key",
        &format!("ES256, SPKI {}", sha256(&instance_key.spki_der())),
    ));
    lines.extend(token_keys.iter().map(|TokenKey { kid, key }| {
        entry(
            "token key",
            &format!("{}, kid {kid}, SPKI {}", key.alg(), sha256(&key.spki_der())),
        )
    }));
    lines.extend([
        entry(
            "deposit key",
            &format!("HPKE X25519 {}", hex::encode(hpke_public)),
        ),
        entry("log key", &format!("SPKI {}", sha256(log_key_spki))),
    ]);
    let earlier = earlier_log_keys.iter();
    lines.extend(earlier.map(|key| entry("earlier log key", &format!("SPKI {}", sha256(key)))));
    lines.extend([
        entry(
            "manifest",
            &format!("SHA-256 {}", hex::encode(manifest_digest)),
        ),
        entry(
            "manifest signer",
            &format!("SPKI SHA-256 {}", hex::encode(manifest_signer)),
        ),
        entry("boot identity", &hex::encode(boot_identity)),
        entry("issuer", issuer),
        entry("gRPC", grpc_origin),
        entry("public", public_origin),
        entry("gateway", gateway_origin),
    ]);
    lines
}

fn bundle_json(bundle: &KeyBundle, bundle_digest: &[u8; 32]) -> Value {
    let KeyBundle {
        enclave_ca_der,
        next_ca_ders,
        instance_key,
        token_keys,
        hpke_public,
        log_key_spki,
        earlier_log_keys,
        manifest_digest,
        manifest_signer,
        boot_identity,
        issuer,
        grpc_origin,
        public_origin,
        gateway_origin,
    } = bundle;
    let token_keys: Vec<Value> = token_keys
        .iter()
        .map(|token_key| {
            json!({
                "kid": token_key.kid,
                "jwk": token_key.jwk(),
                "spki_sha256": fingerprint(&token_key.key.spki_der()),
            })
        })
        .collect();
    json!({
        "sha256": hex::encode(bundle_digest),
        "enclave_ca_sha256": fingerprint(enclave_ca_der),
        "next_ca_sha256": next_ca_ders.iter().map(|ca| fingerprint(ca)).collect::<Vec<_>>(),
        "instance_key_spki_sha256": fingerprint(&instance_key.spki_der()),
        "token_keys": token_keys,
        "hpke_public": hex::encode(hpke_public),
        "log_key_spki_sha256": fingerprint(log_key_spki),
        "earlier_log_key_spki_sha256": earlier_log_keys.iter().map(|key| fingerprint(key)).collect::<Vec<_>>(),
        "manifest_sha256": hex::encode(manifest_digest),
        "manifest_signer": hex::encode(manifest_signer),
        "boot_identity": hex::encode(boot_identity),
        "issuer": issuer,
        "grpc_origin": grpc_origin,
        "public_origin": public_origin,
        "gateway_origin": gateway_origin,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verdict_has_its_documented_exit_code() {
        for (verdict, number) in [
            (Verdict::Accept, 0),
            (Verdict::Reject, 1),
            (Verdict::Authentic, 3),
        ] {
            assert_eq!(exit_of(verdict).number(), number, "{verdict:?}");
            let documented = format!("\n  {number}  {}: ", verdict.as_str());
            assert!(MANUAL.contains(&documented), "{documented}");
        }
    }
}
