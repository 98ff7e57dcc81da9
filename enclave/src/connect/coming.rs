//! Browsers that come back to the public listener: who they are is not known, so nothing comes of it before whoever
//! began has typed what the page shows.
//!
//! `state` alone does not bind a browser to who began: anyone may be sent the provider's page by someone else, and would
//! consent to a grant of theirs. Only who sees the page and sits at the terminal can bring the two together.

use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq as _;

use super::{Callback, CodeExchange, ConnectError, UnderWay, name_of};
use crate::Enclave;
use crate::admin::{AdminError, Administrator};
use crate::registry::Grant;
use crate::seal::SealError;
use crate::secret::AuthorizationCode;
use crate::time::Now;

/// Letters that are not mixed up and make no words [RFC 8628 §6.1].
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// The largest multiple of the alphabet's length that a byte holds: what is above would favour some letters.
const FAIR: u8 = 240;

/// Letters of a confirmation: 34 bits.
const LETTERS: usize = 8;

/// So often may something else be typed.
const MAX_TYPOS: u8 = 4;

/// Whether a browser came back.
pub(super) enum Coming {
    /// It comes back to whoever began.
    Elsewhere,
    /// Not yet.
    Awaited,
    /// It did, with a code.
    Came {
        code: AuthorizationCode,
        /// SHA-256 of what the page shows.
        confirmation: [u8; 32],
        typos: u8,
    },
    /// It did, and nothing comes of it.
    Failed(ConnectError),
}

/// What the page says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Came {
    /// What is to be granted.
    pub grant: Grant,
    /// Who asked for it.
    pub by: String,
    /// What is to be typed where it was begun.
    pub confirmation: String,
}

/// How far a consent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// No browser came back yet.
    Pending,
    /// One did: its page's code is to be typed.
    Came,
}

impl Enclave {
    /// Takes what came back with a browser to the public listener, once.
    ///
    /// # Errors
    /// [`ConnectError`]: no such consent is awaited, or nothing comes of it.
    pub fn browser_came(&self, callback: Callback, now: &Now) -> Result<Came, AdminError> {
        let Callback { state, code, iss } = callback;
        let grant = {
            let connects = self.connects.0.lock();
            awaited(connects.get(&name_of(&state)), now)?.grant.clone()
        };
        // Before the code is kept for anything.
        let checked = self.check_iss(&grant, iss.as_deref());
        let confirmation = self.draw_letters()?;
        let mut connects = self.connects.0.lock();
        let under_way = connects.get_mut(&name_of(&state));
        let under_way = under_way.ok_or(ConnectError::NotUnderWay)?;
        awaited(Some(&*under_way), now)?;
        if let Err(error) = checked {
            if let AdminError::Connect(error) = &error {
                under_way.coming = Coming::Failed(error.clone());
            }
            return Err(error);
        }
        under_way.coming = Coming::Came {
            code,
            confirmation: name_of(&confirmation),
            typos: 0,
        };
        Ok(Came {
            grant,
            by: under_way.by_name.clone(),
            confirmation: shown(&confirmation),
        })
    }

    /// Takes note that the provider refused.
    ///
    /// # Errors
    /// [`ConnectError::NotUnderWay`]: no such consent is awaited.
    pub fn browser_was_refused(&self, state: &str, now: &Now) -> Result<(), AdminError> {
        let mut connects = self.connects.0.lock();
        let under_way = connects.get_mut(&name_of(state));
        let under_way = under_way.ok_or(ConnectError::NotUnderWay)?;
        awaited(Some(&*under_way), now)?;
        under_way.coming = Coming::Failed(ConnectError::Denied);
        Ok(())
    }

    /// How far a consent is, for whoever began it.
    ///
    /// # Errors
    /// [`AdminError::Connect`]: nothing comes of it.
    pub fn awaited_connect(
        &self,
        by: &Administrator,
        state: &str,
        now: &Now,
    ) -> Result<Awaited, AdminError> {
        let mut connects = self.connects.0.lock();
        let name = name_of(state);
        let own = connects.get(&name).filter(|one| one.is_of(by, now));
        match &own.ok_or(ConnectError::NotUnderWay)?.coming {
            Coming::Elsewhere => Err(ConnectError::NotUnderWay.into()),
            Coming::Awaited => Ok(Awaited::Pending),
            Coming::Came { .. } => Ok(Awaited::Came),
            Coming::Failed(error) => {
                let error = error.clone();
                connects.remove(&name);
                Err(error.into())
            }
        }
    }

    /// Goes on with what came back with a browser, once what its page shows was typed.
    ///
    /// # Errors
    /// [`ConnectError::Confirmation`] if it was not; after the fifth time the consent is of no use.
    pub fn confirm_connect(
        &self,
        by: &Administrator,
        state: &str,
        typed: &str,
        now: &Now,
    ) -> Result<CodeExchange, AdminError> {
        let mut connects = self.connects.0.lock();
        let name = name_of(state);
        let own = connects.get_mut(&name).filter(|one| one.is_of(by, now));
        let Some(UnderWay {
            coming:
                Coming::Came {
                    confirmation,
                    typos,
                    ..
                },
            ..
        }) = own
        else {
            return Err(ConnectError::NotUnderWay.into());
        };
        let found = digest(&SHA256, normal(typed).as_bytes());
        if !bool::from(found.as_ref().ct_eq(confirmation)) {
            *typos = typos.saturating_add(1);
            if *typos > MAX_TYPOS {
                connects.remove(&name);
            }
            return Err(ConnectError::Confirmation.into());
        }
        let mut under_way = connects.remove(&name).ok_or(ConnectError::NotUnderWay)?;
        drop(connects);
        match std::mem::replace(&mut under_way.coming, Coming::Awaited) {
            Coming::Came { code, .. } => Ok(CodeExchange::new(by, under_way, code)),
            Coming::Elsewhere | Coming::Awaited | Coming::Failed(_) => {
                Err(ConnectError::NotUnderWay.into())
            }
        }
    }

    /// Letters by chance.
    fn draw_letters(&self) -> Result<String, SealError> {
        let mut letters = String::with_capacity(LETTERS);
        while letters.len() < LETTERS {
            let mut bytes = [0; 16];
            self.rng.fill(&mut bytes).map_err(|_| SealError::Failed)?;
            let fair = bytes.into_iter().filter(|byte| *byte < FAIR);
            let place = |byte: u8| usize::from(byte).checked_rem(ALPHABET.len());
            let drawn = fair.filter_map(|byte| ALPHABET.get(place(byte)?));
            let wanted = LETTERS.saturating_sub(letters.len());
            letters.extend(drawn.take(wanted).map(|letter| char::from(*letter)));
        }
        Ok(letters)
    }
}

/// A consent whose browser is awaited at the public listener.
fn awaited<'a>(found: Option<&'a UnderWay>, now: &Now) -> Result<&'a UnderWay, ConnectError> {
    found
        .filter(|one| now.mono_ms < one.until_ms && matches!(one.coming, Coming::Awaited))
        .ok_or(ConnectError::NotUnderWay)
}

/// In two halves, as people read it.
fn shown(letters: &str) -> String {
    let (first, last) = letters
        .split_at_checked(LETTERS / 2)
        .unwrap_or((letters, ""));
    format!("{first}-{last}")
}

/// What was typed, without what people add or change.
fn normal(typed: &str) -> String {
    let letters = typed.chars().filter(|c| c.is_ascii_alphabetic());
    letters.map(|c| c.to_ascii_uppercase()).collect()
}
