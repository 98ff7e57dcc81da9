//! `manifest`: for whoever signs manifests: begin one, sign it, check it, compare it with the one before.

use std::path::{Path, PathBuf};

use attestation::manifest::{
    Draft, Effect, EnclaveKind, MAX_MANIFEST_BYTES, MAX_SIGNATURE_BYTES, ManifestSignature, Origin,
    TEMPLATE, manifest_digest, sign_manifest,
};
use clap::{Args, Subcommand};
use ring::rand::SystemRandom;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokenkeep::private_file::{read_private, read_public};

use super::exit::Exit;
use super::failure::Failure;
use super::output::Output;

/// The longest key file.
const MAX_KEY_BYTES: usize = 16 * 1024;

macro_rules! manual {
    ($examples:literal, $one:literal) => {
        concat!(
            "Examples:\n",
            $examples,
            "\n\nExit codes:\n  0  done\n  1  ",
            $one,
            "\n  2  wrong usage, or a file that cannot be read"
        )
    };
}

/// Manifests, for whoever signs them: begin one, sign, check, compare
#[derive(Debug, Subcommand)]
pub(crate) enum ManifestCommand {
    /// Print a commented manifest to begin with
    #[command(after_long_help = manual!("  tokenkeep manifest init --issuer https://tokens.example \\\n      --grpc https://tokens.example:8443 --gateway https://gateway.tokens.example > manifest.toml", "what was given makes no manifest"))]
    Init(InitArgs),
    /// Print the signature of a manifest that breaks no rule and, against --previous, has a risen sequence number
    ///
    /// The key is an ES256 key in PKCS#8 (PEM, mode 0600), such as `tokenkeep key new` makes; it is read from a file only.
    #[command(after_long_help = manual!("  tokenkeep manifest sign manifest.toml --key signer.key --previous old.toml > manifest.sig", "the manifest has faults, or its sequence number does not rise"))]
    Sign(SignArgs),
    /// Say everything that is wrong with a manifest: signature, rules, sequence number
    #[command(after_long_help = manual!("  tokenkeep manifest check manifest.toml --signature manifest.sig --signer 9f86d0…\n  tokenkeep --json manifest check manifest.toml --previous old.toml", "something is wrong"))]
    Check(CheckArgs),
    /// Say what a manifest loosens and tightens against the one before
    #[command(after_long_help = manual!("  tokenkeep manifest diff old.toml new.toml\n  tokenkeep --json manifest diff old.toml new.toml", "something loosens: look at it before you sign"))]
    Diff {
        /// The manifest before
        old: PathBuf,
        /// The new one
        new: PathBuf,
        /// They are an emulated enclave's
        #[arg(long)]
        emulated: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The issuer of the tokens
    #[arg(long, value_name = "ORIGIN")]
    issuer: Option<Origin>,
    /// Where gRPC is reached
    #[arg(long, value_name = "ORIGIN")]
    grpc: Option<Origin>,
    /// Where the public listener is reached [default: as --issuer]
    #[arg(long, value_name = "ORIGIN")]
    public: Option<Origin>,
    /// Where the gateway is reached
    #[arg(long, value_name = "ORIGIN")]
    gateway: Option<Origin>,
    /// SHA-256 of the SubjectPublicKeyInfo of the operator's client certificate, in hex
    #[arg(long, value_name = "HEX")]
    operator_spki_sha256: Option<String>,
    /// Launch measurements of the images that may open the state, in hex
    #[arg(long, value_name = "HEX")]
    measurement: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    /// The manifest
    manifest: PathBuf,
    /// The signer's ES256 key (PEM, mode 0600)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The manifest that is in use: the new one's sequence number must be higher
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    /// It is an emulated enclave's
    #[arg(long)]
    emulated: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The manifest
    manifest: PathBuf,
    /// Its signature file
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// SHA-256 of the signer's SubjectPublicKeyInfo in hex, as it is bound at launch
    #[arg(long, value_name = "HEX", requires = "signature")]
    signer: Option<String>,
    /// The manifest that is in use: this one's sequence number must be higher
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    /// It is an emulated enclave's
    #[arg(long)]
    emulated: bool,
}

pub(crate) fn run(command: &ManifestCommand, output: Output) -> Result<Exit, Failure> {
    match command {
        ManifestCommand::Init(args) => init(args, output),
        ManifestCommand::Sign(args) => sign(args, output),
        ManifestCommand::Check(args) => check(args, output),
        ManifestCommand::Diff { old, new, emulated } => diff(old, new, kind(*emulated), output),
    }
}

const fn kind(emulated: bool) -> EnclaveKind {
    if emulated {
        EnclaveKind::Emulated
    } else {
        EnclaveKind::Hardware
    }
}

fn init(args: &InitArgs, output: Output) -> Result<Exit, Failure> {
    let mut text = TEMPLATE.to_owned();
    let public = args.public.as_ref().or(args.issuer.as_ref());
    let fields = [
        ("\nissuer = ", args.issuer.as_ref()),
        ("\ngrpc = ", args.grpc.as_ref()),
        ("\npublic = ", public),
        ("\ngateway = ", args.gateway.as_ref()),
    ];
    for (field, origin) in fields {
        if let Some(origin) = origin {
            set(&mut text, field, &format!("\"{origin}\""))?;
        }
    }
    if let Some(spki) = &args.operator_spki_sha256 {
        set(&mut text, "\nspki_sha256 = ", &format!("\"{spki}\""))?;
    }
    if !args.measurement.is_empty() {
        let list: Vec<String> = args
            .measurement
            .iter()
            .map(|one| format!("\"{one}\""))
            .collect();
        let table = format!(
            "\n[images]\nmeasurements = [{}]\nmin_guest_svn = 0\n",
            list.join(", ")
        );
        text.push_str(&table);
    }
    let emulated = args.issuer.as_ref().is_some_and(Origin::is_local);
    read(text.as_bytes(), kind(emulated)).map_err(|faults| faulty(&faults))?;
    if output.is_json() {
        output.json(&json!({"manifest": text}))?;
    } else {
        output.bytes(text.as_bytes())?;
    }
    Ok(Exit::Ok)
}

/// Replaces the rest of the first line that begins so.
fn set(text: &mut String, field: &str, value: &str) -> Result<(), Failure> {
    let absent = || {
        Failure::usage(
            format!("the template has no {}", field.trim()),
            "report this",
        )
    };
    let at = text.find(field).ok_or_else(absent)?;
    let from = at.saturating_add(field.len());
    let line = text.get(from..).and_then(|rest| rest.find('\n'));
    let to = from.saturating_add(line.ok_or_else(absent)?);
    text.replace_range(from..to, value);
    Ok(())
}

fn sign(args: &SignArgs, output: Output) -> Result<Exit, Failure> {
    let toml = read_public(&args.manifest, MAX_MANIFEST_BYTES)?;
    let kind = kind(args.emulated);
    let mut faults = Vec::new();
    let draft = read(&toml, kind).map_err(|found| faults.extend(found)).ok();
    let previous = args.previous.as_deref();
    let previous = previous.map(|path| sequence(path, kind)).transpose()?;
    faults.extend(not_risen(draft.as_ref(), previous));
    if !faults.is_empty() {
        return Err(faulty(&faults));
    }
    let pem = read_private(&args.key, MAX_KEY_BYTES)?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| no_key(&args.key))?;
    let signature = sign_manifest(&toml, key.secret_pkcs8_der(), &SystemRandom::new());
    let signature = signature.map_err(|_| no_key(&args.key))?;
    if output.is_json() {
        let signer = ManifestSignature::from_json(signature.as_bytes());
        output.json(&json!({
            "signature": signature,
            "signer": signer.ok().map(|signature| hex::encode(signature.signer())),
            "manifest_sha256": hex::encode(manifest_digest(&toml)),
            "sequence": draft.map(|draft| draft.sequence()),
        }))?;
    } else {
        output.bytes(signature.as_bytes())?;
    }
    Ok(Exit::Ok)
}

fn check(args: &CheckArgs, output: Output) -> Result<Exit, Failure> {
    let toml = read_public(&args.manifest, MAX_MANIFEST_BYTES)?;
    let kind = kind(args.emulated);
    let mut faults = Vec::new();
    let mut signer = None;
    if let Some(path) = &args.signature {
        let file = read_public(path, MAX_SIGNATURE_BYTES)?;
        match ManifestSignature::from_json(&file) {
            Ok(signature) => {
                let found = signature.signer();
                signer = Some(hex::encode(found));
                let expected = match &args.signer {
                    Some(text) => digest(text)?,
                    None => found,
                };
                let verified = signature.verify(&toml, &expected);
                faults.extend(verified.err().map(|fault| format!("signature: {fault}")));
            }
            Err(fault) => faults.push(format!("signature: {fault}")),
        }
    }
    let draft = read(&toml, kind).map_err(|found| faults.extend(found)).ok();
    let previous = args.previous.as_deref();
    let previous = previous.map(|path| sequence(path, kind)).transpose()?;
    faults.extend(not_risen(draft.as_ref(), previous));
    let holds = faults.is_empty();
    if output.is_json() {
        output.json(&json!({
            "holds": holds,
            "faults": faults,
            "sequence": draft.map(|draft| draft.sequence()),
            "manifest_sha256": hex::encode(manifest_digest(&toml)),
            "signer": signer,
        }))?;
    } else if holds {
        output.line(&format!(
            "holds: SHA-256 {}",
            hex::encode(manifest_digest(&toml))
        ))?;
    } else {
        for fault in &faults {
            output.line(fault)?;
        }
    }
    Ok(if holds { Exit::Ok } else { Exit::Refused })
}

fn diff(old: &Path, new: &Path, kind: EnclaveKind, output: Output) -> Result<Exit, Failure> {
    let open = |path: &Path| -> Result<Draft, Failure> {
        let toml = read_public(path, MAX_MANIFEST_BYTES)?;
        read(&toml, kind).map_err(|faults| unreadable(path, &faults))
    };
    let (before, after) = (open(old)?, open(new)?);
    let changes = after.changes_since(&before);
    let loosens = changes
        .iter()
        .any(|change| change.effect == Effect::Loosens);
    if output.is_json() {
        let changes: Vec<Value> = changes
            .iter()
            .map(|change| {
                json!({
                    "path": change.path,
                    "effect": change.effect.as_str(),
                    "what": change.what,
                })
            })
            .collect();
        output.json(&json!({"loosens": loosens, "changes": changes}))?;
    } else if changes.is_empty() {
        output.line("nothing but the sequence number changes")?;
    } else {
        for change in &changes {
            let effect = change.effect.as_str();
            output.line(&format!("{effect:8}  {}: {}", change.path, change.what))?;
        }
    }
    Ok(if loosens { Exit::Refused } else { Exit::Ok })
}

fn read(toml: &[u8], kind: EnclaveKind) -> Result<Draft, Vec<String>> {
    Draft::read(toml, kind).map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

fn sequence(path: &Path, kind: EnclaveKind) -> Result<u64, Failure> {
    let toml = read_public(path, MAX_MANIFEST_BYTES)?;
    let previous = read(&toml, kind).map_err(|faults| unreadable(path, &faults))?;
    Ok(previous.sequence())
}

fn not_risen(draft: Option<&Draft>, previous: Option<u64>) -> Option<String> {
    let (found, previous) = (draft?.sequence(), previous?);
    (found <= previous)
        .then(|| format!("sequence: {found} does not rise: the manifest before has {previous}"))
}

fn digest(text: &str) -> Result<[u8; 32], Failure> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).map_err(|_| {
        let next = "`tokenkeep --json manifest sign` and `verify` print it";
        Failure::usage("--signer is not 64 hex digits", next)
    })?;
    Ok(digest)
}

fn faulty(faults: &[String]) -> Failure {
    let what = format!(
        "the manifest has {} fault(s): {}",
        faults.len(),
        faults.join("; ")
    );
    Failure::new(Exit::Refused, what, "mend them all and try again")
}

fn unreadable(path: &Path, faults: &[String]) -> Failure {
    let what = format!("{} is no manifest: {}", path.display(), faults.join("; "));
    Failure::usage(
        what,
        "`tokenkeep manifest check` says all that is wrong with it",
    )
}

fn no_key(path: &Path) -> Failure {
    Failure::usage(
        format!("{} holds no ES256 key in PKCS#8 (PEM)", path.display()),
        "`tokenkeep key new FILE` makes one",
    )
}
