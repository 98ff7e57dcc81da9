//! The ledger: every presentation of every token, by digest, in the order in which it happened.

use std::{collections::VecDeque, fs::File, io, io::Write as _};

use serde::{Deserialize, Serialize};

use super::digest::TokenDigest;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Place in the ledger: 0, 1, 2, …
    pub seq: u64,
    /// The provider's clock, milliseconds since the epoch.
    pub at_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A user consented and a first refresh token was given out.
    Consented {
        /// The grant.
        grant: String,
        /// Whose it is.
        client_id: String,
        /// Who consented.
        user: String,
        /// The first refresh token.
        token: TokenDigest,
    },
    /// A refresh token was presented at the token endpoint by an authenticated client.
    Presented {
        /// The token as presented.
        token: TokenDigest,
        /// Its grant, if the token is known.
        grant: Option<String>,
        /// Its place in the family: 0 is the first token of the grant.
        generation: Option<u64>,
        /// The client that presented it.
        client_id: String,
        /// What the token was worth when it came.
        standing: Standing,
        /// Presentations for the same grant that were still open when this one came.
        concurrent: u32,
        /// What the provider did, whatever it then answered.
        outcome: Outcome,
        /// The refresh token given out, where one was.
        successor: Option<TokenDigest>,
        /// The access token given out, where one was.
        access_token: Option<TokenDigest>,
    },
    /// A grant died.
    Revoked {
        /// The grant.
        grant: String,
        /// Why.
        by: RevokedBy,
    },
    /// A fault replaced or delayed an answer.
    Faulted {
        /// The endpoint's name.
        endpoint: String,
        /// The answer's name.
        answer: String,
        /// Whether the request took effect.
        commit: bool,
    },
    /// The API was called.
    ApiCall {
        /// HTTP method.
        method: String,
        /// Path, without the query.
        path: String,
        /// The bearer token, if one came.
        token: Option<TokenDigest>,
        /// The grant behind the token, if the token is good.
        grant: Option<String>,
        /// What the check said.
        outcome: ApiOutcome,
    },
}

/// What a presented refresh token was worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The newest of its family.
    Current,
    /// Used before.
    Superseded,
    /// Of a revoked family.
    Revoked,
    /// Unused for too long.
    Expired,
    /// Another client's.
    Foreign,
    /// Never given out, or long forgotten.
    Unknown,
}

/// What the provider did with a presentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Gave out a new refresh token and an access token.
    Rotated,
    /// Gave out an access token; the refresh token stays.
    Kept,
    /// Gave out tokens for a superseded token within its grace window.
    Graced,
    /// Refused with `invalid_grant`.
    Refused,
    /// Refused with `invalid_grant` and revoked the family, for reuse.
    FamilyRevoked,
    /// Refused with `invalid_scope`; nothing was used up.
    ScopeRefused,
    /// A fault kept the request from taking effect.
    NotProcessed,
}

/// Why a grant died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokedBy {
    /// A superseded refresh token came again.
    Reuse,
    /// The client asked [RFC 7009].
    Client,
    /// The user took the consent back.
    User,
}

/// What the API's check of a bearer token said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiOutcome {
    /// Good, and with the scope.
    Accepted,
    /// No bearer token came.
    Missing,
    /// Unknown, expired or revoked.
    InvalidToken,
    /// Good, but without the scope.
    InsufficientScope,
    /// A fault kept the request from being looked at.
    NotProcessed,
}

/// A part of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerPage {
    /// Entries, oldest first.
    pub entries: Vec<Entry>,
    /// The `seq` to ask from next.
    pub next_seq: u64,
    /// Entries that were dropped from memory since the start.
    pub dropped: u64,
}

/// The ledger in memory, bounded, and its file.
#[derive(Debug)]
pub(crate) struct Ledger {
    entries: VecDeque<Entry>,
    max_entries: usize,
    next_seq: u64,
    dropped: u64,
    file: Option<File>,
}

impl Ledger {
    pub(crate) fn new(max_entries: usize, file: Option<File>) -> Self {
        Self {
            entries: VecDeque::new(),
            max_entries,
            next_seq: 0,
            dropped: 0,
            file,
        }
    }

    /// Writes one entry down; when this returns, the file has it too.
    pub(crate) fn record(&mut self, at_ms: u64, event: Event) -> Result<(), io::Error> {
        let entry = Entry {
            seq: self.next_seq,
            at_ms,
            event,
        };
        if let Some(file) = &mut self.file {
            let mut line = serde_json::to_vec(&entry)?;
            line.push(b'\n');
            file.write_all(&line)?;
        }
        self.next_seq = self.next_seq.saturating_add(1);
        self.entries.push_back(entry);
        while self.entries.len() > self.max_entries {
            self.entries.pop_front();
            self.dropped = self.dropped.saturating_add(1);
        }
        Ok(())
    }

    /// At most `limit` entries from `since_seq` on.
    pub(crate) fn page(&self, since_seq: u64, limit: usize) -> LedgerPage {
        let entries: Vec<Entry> = self
            .entries
            .iter()
            .filter(|entry| entry.seq >= since_seq)
            .take(limit)
            .cloned()
            .collect();
        let next_seq = entries.last().map_or(self.next_seq.max(since_seq), |last| {
            last.seq.saturating_add(1)
        });
        LedgerPage {
            entries,
            next_seq,
            dropped: self.dropped,
        }
    }
}
