//! Secrets that the caller hands in: from a file or standard input, never from the command line.

use std::io::{self, IsTerminal as _};
use std::path::Path;

use tokenkeep::private_file;
use zeroize::Zeroizing;

use super::failure::Failure;

/// The longest secret that is read, bytes, with its line end.
const MAX_SECRET_BYTES: usize = attestation::MAX_DEPOSIT_BYTES;

/// Reads a secret from `file`, or from standard input without one. One line end behind it is left out.
pub(crate) fn read(what: &str, file: Option<&Path>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let secret = match file {
        Some(path) => private_file::read_public(path, MAX_SECRET_BYTES)?,
        None if io::stdin().is_terminal() => {
            return Err(Failure::usage(
                format!("the {what} is missing"),
                "give it in a file or on standard input; it is never typed or put on the command line",
            ));
        }
        None => {
            let name = Path::new("standard input");
            private_file::read_bounded(name, io::stdin().lock(), MAX_SECRET_BYTES)?
        }
    };
    let secret = without_line_end(secret);
    if secret.is_empty() {
        return Err(Failure::usage(
            format!("the {what} is empty"),
            "give the secret and nothing else",
        ));
    }
    Ok(secret)
}

fn without_line_end(mut secret: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if secret.last() == Some(&b'\n') {
        secret.pop();
        if secret.last() == Some(&b'\r') {
            secret.pop();
        }
    }
    secret
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    #[test]
    fn one_line_end_is_left_out_and_nothing_else() {
        for (input, expected) in [
            ("token", "token"),
            ("token\n", "token"),
            ("token\r\n", "token"),
            ("token\n\n", "token\n"),
            (" token ", " token "),
            ("\n", ""),
        ] {
            let found = without_line_end(Zeroizing::new(input.as_bytes().to_vec()));
            assert_eq!(found.as_slice(), expected.as_bytes(), "{input:?}");
        }
    }

    #[test]
    fn an_empty_or_absent_file_is_usage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert_eq!(read("token", Some(&path)).unwrap_err().exit(), Exit::Usage);
        std::fs::write(&path, "\n").unwrap();
        assert_eq!(read("token", Some(&path)).unwrap_err().exit(), Exit::Usage);
        std::fs::write(&path, "secret\n").unwrap();
        assert_eq!(read("token", Some(&path)).unwrap().as_slice(), b"secret");
    }
}
