//! `tokenkeepd config check`: every fault at once, in words that say what to do.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test may panic")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use dev::lab::{self, Lab, LabFiles};
use serde_json::{Value, json};
use tests::binary::binary;
use tests::stack::sign;

/// Exit code and standard output of `tokenkeepd` in the lab's directory; standard error, if that is empty.
fn tokenkeepd(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(binary("tokenkeepd"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    (
        output.status.code().unwrap(),
        if out.is_empty() { err } else { out },
    )
}

fn new_lab(folder: &Path) -> LabFiles {
    let parts = Lab::open(&folder.join("lab")).unwrap().into_parts();
    parts.files
}

fn check(files: &LabFiles, more: &[&str]) -> (i32, String) {
    let arguments = [&["config", "check", "--config", "host.toml"], more].concat();
    tokenkeepd(files.dir(), &arguments)
}

#[test]
fn a_good_configuration_is_ok_for_an_emulated_enclave_only() {
    let folder = tempfile::tempdir().unwrap();
    let files = new_lab(folder.path());
    let signer = hex(&lab::signer_digest(&files.path(lab::SIGNER)).unwrap());
    let (code, said) = check(&files, &["--emulated", "--signer", &signer]);
    assert_eq!(code, 0, "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        (lines[0], lines[2], lines[3]),
        (
            format!("manifest signer: {signer}").as_str(),
            "manifest sequence: 1",
            "ok"
        )
    );
    let (code, said) = check(&files, &["--emulated", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (code, &said["ok"], &said["faults"], &said["manifest_signer"]),
        (0, &json!(true), &json!([]), &json!(signer))
    );

    // Loopback targets on hardware.
    let (code, said) = check(&files, &["--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let fault = "manifest.toml: upstream.allow_loopback: must be false on hardware";
    assert_eq!((code, &said["faults"]), (1, &json!([fault])));
}

#[test]
fn all_faults_of_a_file_are_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let files = new_lab(folder.path());
    let host = fs::read_to_string(files.path(lab::HOST)).unwrap();
    let faulty = host
        .replace("[listen]", "[listen]\nport = 1")
        .replace("[state]", "[state]\nshare = \"x\"")
        .replace("\"info\"", "\"loud\"");
    fs::write(
        files.path(lab::HOST),
        format!("{faulty}\n[limit]\nstreams = 1\n"),
    )
    .unwrap();
    let faults = [
        "host.toml: listen.port: is not known; remove it",
        "host.toml: state.share: is not known; remove it",
        r#"host.toml: log.level: is "loud"; write "error", "warn", "info" or "debug""#,
        "host.toml: limit: is not known; remove it",
    ];
    let people = format!("{}\nrefused\n", faults.join("\n"));
    assert_eq!(check(&files, &["--emulated"]), (1, people));
    let (code, said) = check(&files, &["--emulated", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, said), (1, json!({"ok": false, "faults": faults})));
    let (code, said) = tokenkeepd(files.dir(), &["run", "--config", "host.toml"]);
    assert_eq!((code, said), (2, format!("{}\n", faults.join("\n"))));

    fs::write(files.path(lab::HOST), host).unwrap();
    sign(&files, |manifest| {
        format!(
            "unknown = 1\n{}",
            manifest.replace("[\"operator\"", "[\"king\"")
        )
    });
    let (code, said) = check(&files, &["--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (code, &said["faults"]),
        (
            1,
            &json!([
                "manifest.toml: administrators[0].roles[0]: must be operator, tenant:ID, tenant-security:ID, tenant-auditor:ID or vendor:ID",
                "manifest.toml: upstream.allow_loopback: must be false on hardware",
                "manifest.toml: unknown: unknown field",
            ])
        ),
        "{said}"
    );
}

#[test]
fn a_manifest_that_is_not_signed_by_its_signer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let files = new_lab(folder.path());
    let signer = hex(&lab::signer_digest(&files.path(lab::SIGNER)).unwrap());
    let (manifest, signature) = (files.path(lab::MANIFEST), files.path(lab::SIGNATURE));
    let good = (
        fs::read_to_string(&manifest).unwrap(),
        fs::read_to_string(&signature).unwrap(),
    );
    let other = "0".repeat(64);
    let rows: [(&str, String, String, &[&str], String); 4] = [
        (
            "a manifest with a changed byte",
            good.0.replace("sequence = 1", "sequence = 2"),
            good.1.clone(),
            &[],
            "the signature does not verify over this file".to_owned(),
        ),
        (
            "a signature with changed bytes",
            good.0.clone(),
            good.1.replace("\"signature\":\"", "\"signature\":\"AAAA"),
            &[],
            "the signature does not verify over this file".to_owned(),
        ),
        (
            "what is no signature",
            good.0.clone(),
            "{}".to_owned(),
            &[],
            "the signature file is not of the form {alg, public_key, signature}".to_owned(),
        ),
        (
            "another signer than is bound at launch",
            good.0.clone(),
            good.1.clone(),
            &["--signer", &other],
            format!("the signer {signer} is not the one bound at launch"),
        ),
    ];
    for (name, toml, json_file, more, fault) in rows {
        fs::write(&manifest, toml).unwrap();
        fs::write(&signature, json_file).unwrap();
        let (code, said) = check(&files, &[&["--emulated", "--json"], more].concat());
        let said: Value = serde_json::from_str(&said).unwrap();
        let fault = format!("manifest.toml.sig: {fault}");
        assert_eq!((code, &said["faults"]), (1, &json!([fault])), "{name}");
    }
}

#[test]
fn what_cannot_be_read_is_usage() {
    let folder = tempfile::tempdir().unwrap();
    let files = new_lab(folder.path());
    let rows: [(&[&str], &str); 2] = [
        (
            &["config", "check", "--config", "none.toml"],
            "tokenkeepd: can't read none.toml: entity not found\n",
        ),
        (
            &["config", "check", "--config", "host.toml", "--signer", "00"],
            "tokenkeepd: --signer takes 64 hexadecimal digits\n",
        ),
    ];
    for (arguments, said) in rows {
        assert_eq!(tokenkeepd(files.dir(), arguments), (2, said.to_owned()));
    }
    assert_eq!(tokenkeepd(files.dir(), &["config"]).0, 2);
    assert_eq!(tokenkeepd(files.dir(), &["--help"]).0, 0);
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
