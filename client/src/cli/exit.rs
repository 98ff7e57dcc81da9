//! Exit codes.

use std::process::ExitCode;

/// How the program ends. The numbers are part of its contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; for `verify`: accept.
    Ok,
    /// Refused by the service, or the evidence was rejected.
    Refused,
    /// Wrong usage, or something that was named cannot be read.
    Usage,
    /// The evidence is authentic but was not compared with reference values.
    AuthenticOnly,
    /// The server was not reached or cannot serve now.
    Unavailable,
}

impl Exit {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Refused => 1,
            Self::Usage => 2,
            Self::AuthenticOnly => 3,
            Self::Unavailable => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.number().into()
    }
}

/// The end of each command's long help.
macro_rules! manual {
    ($examples:literal) => {
        concat!(
            "Examples:\n",
            $examples,
            "\n\nExit codes:\n",
            "  0  done\n",
            "  1  refused by the service, or the enclave's evidence was rejected\n",
            "  2  wrong usage, or a file that cannot be read\n",
            "  3  the evidence is authentic but no --policy was given to accept it\n",
            "  4  the server was not reached or cannot serve now"
        )
    };
}
pub(crate) use manual;
