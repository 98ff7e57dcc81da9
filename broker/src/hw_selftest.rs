//! `hw-selftest`: what the machine's hardware gives, step by step, as a report to paste.

use std::fmt;

use attestation::platform::NoHardware;
use attestation::snp::Report;
use attestation::tdx::Quote;
use attestation::{
    Attester, AttesterError, Endorsements, Evidence, Expected, Outcome, Platform, Roots,
    SealingFields, UnixTime, assess,
};
use serde::Serialize;

/// What was asked, in order.
#[derive(Debug, Serialize)]
pub(crate) struct Findings {
    version: &'static str,
    steps: Vec<Step>,
}

/// One question and its answer.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Step {
    name: &'static str,
    ok: bool,
    found: String,
}

impl Findings {
    fn new() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            steps: Vec::new(),
        }
    }

    fn add(&mut self, name: &'static str, answer: Result<String, String>) {
        let ok = answer.is_ok();
        let (Ok(found) | Err(found)) = answer;
        self.steps.push(Step { name, ok, found });
    }

    /// Whether each step passed.
    pub(crate) fn ok(&self) -> bool {
        self.steps.iter().all(|step| step.ok)
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "tokenkeepd {} hw-selftest", self.version)?;
        for Step { name, ok, found } in &self.steps {
            let mark = if *ok { "pass" } else { "FAIL" };
            writeln!(f, "  {mark}  {name}: {found}")?;
        }
        let verdict = if self.ok() { "passed" } else { "failed" };
        writeln!(f, "{verdict}")
    }
}

/// The report of a machine that has nothing.
pub(crate) fn without_hardware(missing: &NoHardware) -> Findings {
    let mut findings = Findings::new();
    findings.add("hardware", Err(missing.to_string()));
    findings
}

/// Asks an attester for all that the service needs of it, and for the same again.
pub(crate) fn examine(attester: &dyn Attester, source: &str, at_s: u64) -> Findings {
    let mut findings = Findings::new();
    let platform = attester.platform().as_str();
    findings.add("platform", Ok(format!("{platform} by {source}")));
    findings.add(
        match attester.platform() {
            Platform::Snp => "manifest signer (HOST_DATA)",
            Platform::Tdx => "manifest signer (MRCONFIGID)",
        },
        attester.host_data().map(hex::encode).map_err(causes),
    );
    match attester.evidence(&[0xA5; 64]) {
        Ok(evidence) => look_at(&evidence, at_s, &mut findings),
        Err(error) => findings.add("report", Err(causes(error))),
    }
    let again = attester.evidence(&[0x5A; 64]);
    findings.add(
        "second report over other data",
        again.map(|_evidence| "given".to_owned()).map_err(causes),
    );
    match attester.sealing_fields() {
        Ok(fields) => derive(attester, fields, &mut findings),
        // A TDX guest has none, and its state none that is wrapped with one.
        Err(AttesterError::NoDerivedKey) if attester.platform() == Platform::Tdx => findings.add(
            "derived key",
            Ok("none on TDX: keyholders' shares alone open the state".to_owned()),
        ),
        Err(error) => findings.add("derived key", Err(causes(error))),
    }
    findings
}

fn look_at(evidence: &Evidence, at_s: u64, findings: &mut Findings) {
    match evidence.platform {
        Platform::Snp => look_at_report(evidence, findings),
        Platform::Tdx => look_at_quote(evidence, findings),
    }
    let answer = match Roots::amd() {
        Ok(roots) => verdict(evidence, &roots, at_s),
        Err(error) => Err(error.to_string()),
    };
    findings.add("verification against the manufacturer's roots", answer);
}

fn look_at_quote(evidence: &Evidence, findings: &mut Findings) {
    let quote = Quote::parse(&evidence.report)
        .map(|quote| {
            format!(
                "version {}, {} bytes",
                quote.version(),
                evidence.report.len()
            )
        })
        .map_err(|problem| problem.to_string());
    findings.add("quote", quote);
}

fn look_at_report(evidence: &Evidence, findings: &mut Findings) {
    let report = Report::parse(&evidence.report)
        .map(|report| {
            format!(
                "version {}, {} bytes",
                report.version(),
                evidence.report.len()
            )
        })
        .map_err(|problem| problem.to_string());
    findings.add("report", report);

    let Endorsements { vek, ask, ark } = &evidence.endorsements;
    let bytes = |certificate: &Option<Vec<u8>>| match certificate {
        Some(der) => format!("{} bytes", der.len()),
        None => "none".to_owned(),
    };
    let table = format!(
        "signing key {}, ASK {}, ARK {}",
        bytes(vek),
        bytes(ask),
        bytes(ark)
    );
    // Without the signing key's certificate no verifier can work offline.
    let table = if vek.is_some() { Ok(table) } else { Err(table) };
    findings.add("certificates", table);
}

fn verdict(evidence: &Evidence, roots: &Roots, at_s: u64) -> Result<String, String> {
    let expected = Expected::report_data([0xA5; 64]);
    let appraisal = assess(evidence, roots, UnixTime::from_secs(at_s), None, &expected);
    let failed: Vec<String> = appraisal
        .checks()
        .iter()
        .filter(|check| check.outcome == Outcome::Fail)
        .map(|check| {
            let name = check.name.as_str();
            format!(
                "{name} (expected {}, found {})",
                check.expected, check.found
            )
        })
        .collect();
    let tier = appraisal.tier().map_or("none", |tier| tier.as_str());
    if failed.is_empty() {
        Ok(format!("{}, tier {tier}", appraisal.verdict().as_str()))
    } else {
        Err(format!("failed: {}", failed.join("; ")))
    }
}

fn derive(attester: &dyn Attester, fields: SealingFields, findings: &mut Findings) {
    let SealingFields {
        guest_svn,
        tcb_version,
    } = fields;
    let selected = format!(
        "policy, guest SVN {guest_svn}, TCB {}",
        hex::encode(tcb_version)
    );
    let keys = attester
        .derived_key(&fields)
        .and_then(|key| Ok((key, attester.derived_key(&fields)?)));
    let answer = match keys {
        Ok((first, second)) if first.is_same(&second) => Ok(format!("the same twice ({selected})")),
        Ok(_) => Err(format!("two requests gave two keys ({selected})")),
        Err(error) => Err(format!("{} ({selected})", causes(error))),
    };
    findings.add("derived key", answer);

    if let Some(above) = guest_svn.checked_add(1) {
        let fields = SealingFields {
            guest_svn: above,
            tcb_version,
        };
        let answer = match attester.derived_key(&fields) {
            Err(AttesterError::FieldsRefused) => Ok("refused".to_owned()),
            Ok(_) => Err("given".to_owned()),
            Err(error) => Err(causes(error)),
        };
        findings.add("key for a higher guest SVN", answer);
    }
}

/// An error with its causes.
fn causes(error: AttesterError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use attestation::platform::{GuestDevice, HardwareAttester, KernelFiles, SevGuestError};
    use std::path::Path;
    use testkit::snp::SnpPlatform;

    /// An emulated chip behind the device's interface.
    struct Device {
        chip: SnpPlatform,
        key: fn(u8) -> u8,
        calls: std::sync::atomic::AtomicU8,
    }

    impl GuestDevice for Device {
        fn report(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, SevGuestError> {
            let mut fields = self.chip.fields();
            fields.report_data = *report_data;
            Ok(self.chip.report(&fields).unwrap())
        }

        fn derived_key(
            &self,
            _fields: &SealingFields,
            _vmpl: u32,
            key: &mut [u8; 32],
        ) -> Result<(), SevGuestError> {
            let call = self
                .calls
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            key.fill((self.key)(call));
            Ok(())
        }
    }

    fn findings(key: fn(u8) -> u8) -> Findings {
        let device = Device {
            chip: SnpPlatform::development([3; 32]).unwrap(),
            key,
            calls: 0.into(),
        };
        let absent = Path::new("/absent");
        let attester = HardwareAttester::with(absent, KernelFiles, Ok(Box::new(device))).unwrap();
        examine(&attester, "a test", 1_795_000_000)
    }

    fn failed(findings: &Findings) -> Vec<&'static str> {
        let steps = findings.steps.iter().filter(|step| !step.ok);
        steps.map(|step| step.name).collect()
    }

    #[test]
    fn each_step_is_told_and_what_fails_is_named() {
        let found = findings(|_call| 7);
        // An emulated chip has no certificates by this device and is not AMD's.
        let expected = [
            "certificates",
            "verification against the manufacturer's roots",
        ];
        assert_eq!(failed(&found), expected);
        assert!(!found.ok());
        let text = found.to_string();
        assert!(
            text.contains("pass  key for a higher guest SVN: refused"),
            "{text}"
        );
        assert!(text.contains("pass  derived key: the same twice"), "{text}");
        assert!(text.ends_with("failed\n"), "{text}");
        assert!(!text.contains("0707"), "{text}");
    }

    #[test]
    fn a_key_that_changes_or_is_empty_fails() {
        assert!(failed(&findings(|call| call + 1)).contains(&"derived key"));
        assert!(failed(&findings(|_call| 0)).contains(&"derived key"));
    }
}
