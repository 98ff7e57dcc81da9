//! Tests of the command line: its grammar, its help, its examples.

use super::*;
use clap::CommandFactory as _;

/// Every command without commands of its own, by its words.
fn leaves(command: &clap::Command, words: &[String]) -> Vec<(Vec<String>, clap::Command)> {
    let below: Vec<_> = command
        .get_subcommands()
        .filter(|below| below.get_name() != "help")
        .flat_map(|below| {
            let words = [words, &[below.get_name().to_owned()]].concat();
            leaves(below, &words)
        })
        .collect();
    if below.is_empty() {
        vec![(words.to_vec(), command.clone())]
    } else {
        below
    }
}

/// Splits as a shell does for what examples use: spaces, single quotes, redirections, pipes and comments at the end.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '\'' => quoted = !quoted,
            ' ' if !quoted && words.last().is_some_and(String::is_empty) => {}
            ' ' if !quoted => words.push(String::new()),
            other => words.last_mut().unwrap().push(other),
        }
    }
    let redirection = words
        .iter()
        .position(|word| matches!(word.as_str(), "<" | ">" | "|" | "#"));
    words.truncate(redirection.unwrap_or(words.len()));
    words
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_documents_exit_codes_and_examples_that_parse() {
    let leaves = leaves(&Cli::command(), &[]);
    assert!(leaves.len() > 25, "{}", leaves.len());
    for (words, mut command) in leaves {
        let name = words.join(" ");
        let help = command.render_long_help().to_string();
        let (_, after) = help
            .split_once("Examples:\n")
            .unwrap_or_else(|| panic!("{name}: {help}"));
        let (examples, codes) = after.split_once("Exit codes:\n").unwrap();
        // What never asks a service cannot fail to reach one.
        let possible = if name.starts_with("manifest ") {
            0..3
        } else {
            0..5
        };
        for code in possible {
            assert!(codes.contains(&format!("  {code}  ")), "{name}: {code}");
        }
        let examples = examples.replace(" \\\n", " ");
        let lines: Vec<&str> = examples
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        assert!(!lines.is_empty(), "{name}");
        for line in lines {
            // What an example does with another program is that program's to parse.
            if !line.starts_with("tokenkeep ") {
                continue;
            }
            let parsed = Cli::try_parse_from(shell_words(line));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            assert!(line.contains(&name), "{name}: {line}");
        }
    }
}

#[test]
fn what_is_wrong_on_the_command_line_is_named() {
    use clap::error::ErrorKind;
    for (line, kind) in [
        (
            "tokenkeep",
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
        ),
        ("tokenkeep nothing", ErrorKind::InvalidSubcommand),
        ("tokenkeep verify --nothing", ErrorKind::UnknownArgument),
        (
            "tokenkeep verify --cert c.pem",
            ErrorKind::MissingRequiredArgument,
        ),
        (
            "tokenkeep verify --key k.pem",
            ErrorKind::MissingRequiredArgument,
        ),
        ("tokenkeep jwks export", ErrorKind::MissingRequiredArgument),
        (
            "tokenkeep freeze planet earth --reason x",
            ErrorKind::InvalidValue,
        ),
        (
            "tokenkeep freeze client sync",
            ErrorKind::MissingRequiredArgument,
        ),
        (
            "tokenkeep call get https://g/ --dpop-key k",
            ErrorKind::ValueValidation,
        ),
        (
            "tokenkeep call GET https://g/ -H x --dpop-key k",
            ErrorKind::ValueValidation,
        ),
        (
            "tokenkeep token --grant g --resource r",
            ErrorKind::MissingRequiredArgument,
        ),
        (
            "tokenkeep grant deposit --tenant t --app a --grant g --target t",
            ErrorKind::MissingRequiredArgument,
        ),
    ] {
        let error = Cli::try_parse_from(shell_words(line)).unwrap_err();
        assert_eq!(error.kind(), kind, "{line}");
    }
}

#[test]
fn no_flag_takes_a_secret() {
    for (words, command) in leaves(&Cli::command(), &[]) {
        for argument in command.get_arguments() {
            let name = argument.get_id().as_str();
            let is_secret = ["secret", "refresh_token", "password"]
                .iter()
                .any(|word| name.contains(word));
            assert!(!is_secret || name.ends_with("_file"), "{words:?} {name}");
        }
    }
}

#[tokio::test]
async fn a_command_without_a_server_is_usage_and_an_absent_server_unavailable() {
    // A port that was just closed: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let server = format!("https://127.0.0.1:{port}");
    for (line, exit) in [
        ("tokenkeep verify --json".to_owned(), Exit::Usage),
        (
            "tokenkeep verify --json --server http://keep.example".to_owned(),
            Exit::Usage,
        ),
        (
            format!("tokenkeep verify --json --server {server} --policy /nowhere"),
            Exit::Usage,
        ),
        (
            format!("tokenkeep verify --json --server {server} --allow-emulated Cargo.toml"),
            Exit::Usage,
        ),
        (
            format!("tokenkeep verify --json --server {server}"),
            Exit::Unavailable,
        ),
        (
            format!("tokenkeep trust --json --server {server}"),
            Exit::Unavailable,
        ),
    ] {
        let cli = Cli::try_parse_from(shell_words(&line)).unwrap();
        assert_eq!(cli.run().await, exit, "{line}");
    }
}

#[test]
fn usage_errors_are_one_line_for_programs() {
    let error = Cli::try_parse_from(["tokenkeep", "verify", "--nothing"]).unwrap_err();
    let failure = usage_failure(&error);
    assert_eq!(failure.exit(), Exit::Usage);
    let json = failure.to_json();
    let message = json["error"]["message"].as_str().unwrap();
    assert_eq!(message, "unexpected argument '--nothing' found");
}
