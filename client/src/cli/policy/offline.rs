//! What needs no service: the schema, templates, checks, tests, explanations, comparison, signatures.

use std::path::Path;

use attestation::manifest::{ManifestSignature, sign_policy_change};
use ring::rand::SystemRandom;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tenant_policy::cases::{Case, Cases, MAX_FILE_BYTES};
use tenant_policy::{
    Compiled, Decision, Faults, MAX_TEXT_BYTES, PolicyChange, SCHEMA, compare, template,
};
use tokenkeep::private_file::{read_private, read_public};

use super::{SignArgs, Wanted};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::record::Record;

/// The longest key file.
const MAX_KEY_BYTES: usize = 16 * 1024;

const MEND: &str = "mend what is named; docs/policy.md describes policies, `tokenkeep policy schema` prints the schema";

pub(super) fn schema(output: Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&json!({"schema": SCHEMA}));
    }
    output.bytes(SCHEMA.as_bytes()).map(|_open| ())
}

pub(super) fn template(name: Option<&str>, output: Output) -> Result<(), Failure> {
    let Some(name) = name else {
        let records: Vec<Record> = template::ALL
            .iter()
            .map(|one| Record::new([("name", json!(one.name)), ("about", json!(one.about))]))
            .collect();
        return output.records("templates", &records);
    };
    let found = template::find(name).ok_or_else(|| {
        Failure::usage(
            format!("there is no template {name}"),
            "`tokenkeep policy template` lists them",
        )
    })?;
    if output.is_json() {
        return output.json(&json!({"name": found.name, "policy": found.text}));
    }
    output.bytes(found.text.as_bytes()).map(|_open| ())
}

pub(super) fn check(files: &[impl AsRef<Path>], output: Output) -> Result<(), Failure> {
    let mut all: Vec<Value> = Vec::new();
    let mut bad = 0_usize;
    for file in files {
        let path = file.as_ref();
        let name = path.display().to_string();
        let text = read_public(path, MAX_TEXT_BYTES)?;
        let found = Compiled::new(&text);
        bad = bad.saturating_add(usize::from(found.is_err()));
        if output.is_json() {
            all.push(match &found {
                Ok(compiled) => json!({
                    "file": name,
                    "ok": true,
                    "sha256": hex::encode(compiled.sha256()),
                    "policies": compiled.ids().collect::<Vec<_>>(),
                    "faults": [],
                }),
                Err(faults) => json!({"file": name, "ok": false, "faults": each(faults)}),
            });
            continue;
        }
        match &found {
            Ok(compiled) => {
                let sha256 = hex::encode(compiled.sha256());
                let count = compiled.ids().count();
                output.line(&format!("{name}: good, {count} policies, SHA-256 {sha256}"))?;
            }
            Err(faults) => {
                for fault in each(faults) {
                    output.line(&format!("{name}: {fault}"))?;
                }
            }
        }
    }
    if output.is_json() {
        output.json(&json!({"ok": bad == 0, "files": all}))?;
    }
    match bad {
        0 => Ok(()),
        bad => Err(Failure::new(
            Exit::Refused,
            format!("{bad} of {} policies are not good", files.len()),
            MEND,
        )),
    }
}

fn each(faults: &Faults) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

/// A policy that is good.
pub(super) fn compiled(path: &Path) -> Result<Compiled, Failure> {
    let text = read_public(path, MAX_TEXT_BYTES)?;
    Compiled::new(&text).map_err(|faults| {
        let all = each(&faults).join("; ");
        Failure::new(Exit::Refused, format!("{}: {all}", path.display()), MEND)
    })
}

fn cases(path: &Path) -> Result<Cases, Failure> {
    let file = read_public(path, MAX_FILE_BYTES)?;
    Cases::read(&file).map_err(|error| {
        Failure::usage(
            format!("{}: {error}", path.display()),
            "`tokenkeep policy test --help` describes the file",
        )
    })
}

const fn word(permitted: bool) -> &'static str {
    if permitted { "permit" } else { "deny" }
}

/// A decision in words: what made it.
fn made_by(decision: &Decision) -> String {
    let Decision {
        permitted,
        policies,
        failed,
    } = decision;
    let mut text = match (permitted, policies.as_slice()) {
        (false, []) if failed.is_empty() => "nothing permits it".to_owned(),
        (_, []) => String::new(),
        (_, ids) => format!("by {}", ids.join(", ")),
    };
    if !failed.is_empty() {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&format!("not evaluated: {}", failed.join(", ")));
    }
    text
}

pub(super) fn test(policy: &Path, tests: &Path, output: Output) -> Result<Exit, Failure> {
    let (policy, cases) = (compiled(policy)?, cases(tests)?);
    let mut all: Vec<Value> = Vec::new();
    let (mut count, mut bad) = (0_usize, 0_usize);
    for case in cases.iter() {
        let outcome = case.run(&policy);
        count = count.saturating_add(1);
        bad = bad.saturating_add(usize::from(!outcome.met));
        let decision = &outcome.decision;
        if output.is_json() {
            all.push(json!({
                "name": case.name,
                "ok": outcome.met,
                "expected": word(case.permit),
                "expected_by": case.by,
                "decision": word(decision.permitted),
                "by": decision.policies,
                "failed": decision.failed,
            }));
            continue;
        }
        let mark = if outcome.met { "ok  " } else { "FAIL" };
        let mut line = format!("{mark}  {}: {}", case.name, word(decision.permitted));
        line.push_str(&format!(" ({})", made_by(decision)));
        if !outcome.met {
            line.push_str(&format!(", expected {}", word(case.permit)));
            if let Some(by) = &case.by {
                line.push_str(&format!(" by {}", by.join(", ")));
            }
        }
        output.line(&line)?;
    }
    if output.is_json() {
        output.json(&json!({"ok": bad == 0, "cases": all}))?;
    } else {
        output.line(&format!(
            "{} of {count} as expected",
            count.saturating_sub(bad)
        ))?;
    }
    Ok(if bad == 0 { Exit::Ok } else { Exit::Refused })
}

pub(super) fn explain(
    policy: &Path,
    tests: &Path,
    name: Option<&str>,
    output: Output,
) -> Result<(), Failure> {
    let (policy, cases) = (compiled(policy)?, cases(tests)?);
    let wanted: Vec<&Case> = cases
        .iter()
        .filter(|case| name.is_none_or(|name| name == case.name))
        .collect();
    if wanted.is_empty() {
        return Err(Failure::usage(
            "there is no case of this name",
            "`tokenkeep policy test` lists them",
        ));
    }
    let mut all: Vec<Value> = Vec::new();
    for case in wanted {
        let decision = policy.decide(&case.question);
        let explained = policy.explain(&case.question);
        if output.is_json() {
            let policies: Vec<Value> = explained
                .iter()
                .map(|one| {
                    json!({
                        "id": one.id,
                        "line": one.line,
                        "effect": one.effect.word(),
                        "applies": one.applies,
                        "failed": one.failed,
                    })
                })
                .collect();
            all.push(json!({
                "name": case.name,
                "decision": word(decision.permitted),
                "by": decision.policies,
                "policies": policies,
            }));
            continue;
        }
        let how = made_by(&decision);
        output.line(&format!(
            "{}: {} ({how})",
            case.name,
            word(decision.permitted)
        ))?;
        for one in explained {
            let says = match (one.applies, one.failed) {
                (_, true) => "can't be evaluated",
                (true, false) => "applies",
                (false, false) => "does not apply",
            };
            let effect = one.effect.word();
            output.line(&format!("  line {}: {effect} {}: {says}", one.line, one.id))?;
        }
    }
    if output.is_json() {
        output.json(&json!({"cases": all}))?;
    }
    Ok(())
}

pub(super) fn diff(old: &Path, new: &Path, output: Output) -> Result<Exit, Failure> {
    let (old, new) = (compiled(old)?, compiled(new)?);
    tell_change(Some(&old), Some(&new), output)
}

/// Says what a change does; as the result, or as a remark beside one.
pub(super) fn tell_change(
    old: Option<&Compiled>,
    new: Option<&Compiled>,
    output: Output,
) -> Result<Exit, Failure> {
    let found = compare(old, new);
    let loosens = !found.loosens.is_empty();
    if output.is_json() {
        output.json(&json!({
            "loosens": loosens,
            "why": found.loosens,
            "added": found.added,
            "removed": found.removed,
            "changed": found.changed,
        }))?;
    } else {
        for line in change_lines(&found) {
            output.line(&line)?;
        }
    }
    Ok(if loosens { Exit::Refused } else { Exit::Ok })
}

/// What a change does, for people.
pub(super) fn change_lines(found: &tenant_policy::Comparison) -> Vec<String> {
    let named = [
        ("added", &found.added),
        ("removed", &found.removed),
        ("changed", &found.changed),
    ];
    let mut lines: Vec<String> = named
        .iter()
        .flat_map(|(what, ids)| ids.iter().map(move |id| format!("{what:8} {id}")))
        .collect();
    lines.extend(found.loosens.iter().map(|why| format!("loosens  {why}")));
    if found.loosens.is_empty() {
        lines.push("does not loosen".to_owned());
    }
    lines
}

/// The policy that is wanted; none to remove it.
pub(super) fn wanted(wanted: &Wanted) -> Result<Option<Compiled>, Failure> {
    wanted.file.as_deref().map(compiled).transpose()
}

pub(super) fn sign(args: &SignArgs, output: Output) -> Result<(), Failure> {
    let after = wanted(&args.wanted)?;
    let before = args.before.as_deref();
    let before = before
        .map(|path| read_public(path, MAX_TEXT_BYTES))
        .transpose()?;
    let change = PolicyChange {
        issuer: &args.issuer,
        tenant: &args.tenant,
        sequence: args.sequence.saturating_add(1),
        before: before.map(|text| tenant_policy::digest_of(&text)),
        after: after.map(|compiled| *compiled.sha256()),
    };
    let signature = signature(&change, &args.owner_key)?;
    if !output.is_json() {
        output.note(&change.to_text())?;
        return output.bytes(signature.as_bytes()).map(|_open| ());
    }
    let signer = ManifestSignature::from_json(signature.as_bytes());
    output.json(&json!({
        "change": change.to_text(),
        "signature": signature,
        "signer": signer.ok().map(|signature| hex::encode(signature.signer())),
    }))
}

/// The owner's signature file over a change.
pub(super) fn signature(change: &PolicyChange<'_>, key_file: &Path) -> Result<String, Failure> {
    let no_key = || {
        Failure::usage(
            format!("{} holds no ES256 key in PKCS#8 (PEM)", key_file.display()),
            "give the key of an administrator of the role tenant:ID",
        )
    };
    let pem = read_private(key_file, MAX_KEY_BYTES)?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| no_key())?;
    sign_policy_change(
        &change.to_text(),
        key.secret_pkcs8_der(),
        &SystemRandom::new(),
    )
    .map_err(|_| no_key())
}
