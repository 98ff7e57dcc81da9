//! The program `tokenkeep` as a shell sees it: exit codes, the two outputs, files it makes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn tokenkeep(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tokenkeep"));
    command.args(arguments).stdin(Stdio::null()).env_clear();
    command
}

fn run(arguments: &[&str]) -> Output {
    tokenkeep(arguments).output().unwrap()
}

fn json(bytes: &[u8]) -> Value {
    let text = std::str::from_utf8(bytes).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_key_is_made_once_and_is_the_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dpop.key");
    let file = path.to_str().unwrap();
    let made = run(&["--json", "key", "new", file]);
    assert_eq!(made.status.code(), Some(0));
    assert!(made.stderr.is_empty());
    let jkt = json(&made.stdout)["jkt"].as_str().unwrap().to_owned();
    assert_eq!(jkt.len(), 43);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let again = run(&["--json", "key", "new", file]);
    assert_eq!(again.status.code(), Some(2));
    assert!(again.stdout.is_empty());
    let error = json(&again.stderr);
    assert_eq!(error["error"]["exit_code"], 2);
    let shown = run(&["--json", "key", "show", file]);
    assert_eq!(json(&shown.stdout)["jkt"], jkt);
    let secret = std::fs::read_to_string(&path).unwrap();
    let line = secret.lines().nth(1).unwrap();
    for output in [&made, &again, &shown] {
        let all = [output.stdout.as_slice(), &output.stderr].concat();
        assert!(!String::from_utf8_lossy(&all).contains(line));
    }
}

#[test]
fn failures_go_to_standard_error_with_their_exit_code() {
    // A port that was just closed: nobody listens there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("https://{}", listener.local_addr().unwrap());
    drop(listener);
    let rows: [(&[&str], i32, &str); 5] = [
        (&["--bad"], 2, "unexpected argument '--bad' found"),
        (&["nonsense"], 2, "unrecognized subcommand 'nonsense'"),
        (&["verify"], 2, "no server is named"),
        (
            &["verify", "--server", "http://localhost"],
            2,
            "must begin with https://",
        ),
        (&["verify", "--server", &server], 4, "no connection to"),
    ];
    for (arguments, code, what) in rows {
        for as_json in [false, true] {
            let flags: &[&str] = if as_json { &["--json"] } else { &[] };
            let output = run(&[arguments, flags].concat());
            assert_eq!(output.status.code(), Some(code), "{arguments:?}");
            assert!(output.stdout.is_empty(), "{arguments:?}");
            let told = if as_json {
                let error = json(&output.stderr)["error"].clone();
                assert_eq!(error["exit_code"], code);
                assert!(!error["next"].as_str().unwrap().is_empty());
                error["message"].as_str().unwrap().to_owned()
            } else {
                String::from_utf8(output.stderr).unwrap()
            };
            assert!(told.contains(what), "{arguments:?}: {told}");
        }
    }
}

#[test]
fn the_environment_gives_defaults_to_the_flags() {
    let output = tokenkeep(&["verify"])
        .env("TOKENKEEP_SERVER", "http://from-the-environment")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("must begin with https://"), "{told}");
}

#[test]
fn help_is_a_result_and_a_closed_pipe_no_failure() {
    let help = run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(
        String::from_utf8(help.stdout)
            .unwrap()
            .contains("Exit codes:")
    );

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("k");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = tokenkeep(&["key", "new", path.to_str().unwrap()])
        .stdout(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(path.exists());
}
