//! From the files in the state directory to the keys: shares are asked for until a quorum has released them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use attestation::DepositPrivateKey;
use attestation::keyholder::{Operation, Released, Request};
use attestation::manifest::{Keyholder, recovery_set};
use enclave::keys::envelope::{
    Custody, Envelope, EnvelopeError, Holder, MAX_ENVELOPE_BYTES, Opened, QuorumSecret,
    RecipientKind, Recipients, Retired, Secrets, gather, seal,
};
use enclave::keys::root::Unlocked;
use futures_util::future::join_all;
use ring::rand::SystemRandom;
use zeroize::Zeroizing;

use super::ask::Target;
use super::chip::ChipKey;
use super::enrol::{EnrolError, new_id, target};
use super::keeper::{Current, RootKeeper};
use super::{ENVELOPE_NAME, Ground, NEXT_ENVELOPE_NAME};
use crate::boot::{StartError, guest_svn, image, make_dir};
use crate::events;
use crate::files::{FileError, read_bounded};
use crate::listener::ShutdownSignal;
use crate::store::{FILE_NAME, create_or_replace};

/// The shortest and the longest pause between rounds of questions.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// An opened envelope with what it was opened by.
struct Unwrapped {
    opened: Opened,
    envelope: Envelope,
    /// Not there if a recovery set opened.
    quorum: Option<QuorumSecret>,
}

impl Ground {
    /// Opens the root key, or makes one for a new state. Keyholders that don't answer, or refuse for now, are waited
    /// for. None if the service is to stop first.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open(self, stop: &mut ShutdownSignal) -> Result<Option<RootKeeper>, StartError> {
        make_dir(&self.state_dir)?;
        self.check_image()?;
        tokio::select! {
            biased;
            () = stop.begun() => Ok(None),
            opened = Box::pin(self.open_or_create()) => opened.map(Some),
        }
    }

    /// Opens the root key of a state that is there, and changes nothing. None if it is to stop first.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn unlock(&self, stop: &mut ShutdownSignal) -> Result<Option<Unlocked>, StartError> {
        self.check_image()?;
        let path = self.state_dir.join(ENVELOPE_NAME);
        tokio::select! {
            biased;
            () = stop.begun() => Ok(None),
            found = Box::pin(self.unwrap(&path)) => found.map(|found| Some(found.opened.keys)),
        }
    }

    /// The manifest lets this image open the state. Keyholders check it too: an image that is not measured right would
    /// not ask itself.
    fn check_image(&self) -> Result<(), StartError> {
        let Some(images) = &self.images else {
            return Ok(());
        };
        let found = image(&*self.attester)?;
        let named = images.measurements.iter().map(hex::encode);
        if !named.into_iter().any(|named| named == found.measurement) {
            let what = format!("it does not name the measurement {}", found.measurement);
            return Err(StartError::ImageForbidden { what });
        }
        let floor = images.min_guest_svn;
        match guest_svn(&*self.attester)? {
            Some(found) if found < floor => {
                let what = format!("its guest SVN is {found}, and at least {floor} is asked for");
                Err(StartError::ImageForbidden { what })
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn open_or_create(self) -> Result<RootKeeper, StartError> {
        let envelope_path = self.state_dir.join(ENVELOPE_NAME);
        let next_path = self.state_dir.join(NEXT_ENVELOPE_NAME);
        let store_path = self.state_dir.join(FILE_NAME);
        match (exists(&envelope_path)?, exists(&store_path)?) {
            (true, store) => {
                if !store {
                    // A crash of the first boot, or a host that took the store away:
                    // the service begins empty, and whoever pinned its CA will see.
                    events::store_absent(&store_path);
                }
                let current = self.unwrap(&envelope_path).await?;
                if exists(&next_path)? {
                    let next = self.unwrap(&next_path).await?;
                    return self.resume(current, next);
                }
                self.adopt(current).await
            }
            (false, false) => self.create().await,
            (false, true) => Err(StartError::NoEnvelope {
                store: store_path,
                envelope: envelope_path,
            }),
        }
    }

    /// A new state.
    async fn create(self) -> Result<RootKeeper, StartError> {
        let state = new_id()?;
        let (custody, quorum) = self.enrol_all(state).await?;
        let keys = Unlocked::generate(&SystemRandom::new())?;
        let current = Current {
            keys: keys.into(),
            state,
            custody,
            quorum,
            retired: Vec::new(),
        };
        self.write(ENVELOPE_NAME, &current)?;
        events::root_created();
        Ok(RootKeeper::new(self, current, None))
    }

    /// An envelope that opened is written anew if it is not as the manifest and the chip want it now.
    async fn adopt(self, found: Unwrapped) -> Result<RootKeeper, StartError> {
        let Unwrapped {
            opened,
            envelope,
            quorum,
        } = found;
        events::root_opened(opened.by.as_str());
        let state = envelope.state();
        let mut retired = envelope.retired().to_vec();
        let (custody, quorum, anew) = match quorum {
            Some(quorum) if self.is_wanted(envelope.custody()) => {
                (envelope.custody().clone(), quorum, false)
            }
            Some(_) | None => {
                let (custody, quorum) = self.enrol_all(state).await?;
                retired.extend(shares_of(envelope.custody()));
                (custody, quorum, true)
            }
        };
        let recovery = self.recovery_key();
        if let Some(before) = envelope.recovery()
            && recovery != Some(before)
        {
            let set = enclave::keys::envelope::Hex(recovery_set(&before));
            retired.push(Retired::Recovery { set });
        }
        let chip = ChipKey::current(&*self.attester)?;
        let as_wanted = envelope.local_inputs() == chip.as_ref().map(ChipKey::inputs)
            && envelope.is_off_chip() == self.off_chip()
            && envelope.recovery() == recovery
            && (opened.by == RecipientKind::Local || chip.is_none());
        let current = Current {
            keys: opened.keys.into(),
            state,
            custody,
            quorum,
            retired,
        };
        if anew || !as_wanted {
            self.write(ENVELOPE_NAME, &current)?;
            events::root_rewrapped();
        }
        Ok(RootKeeper::new(self, current, None))
    }

    /// A crash fell between a new root and the end of the old one.
    fn resume(self, current: Unwrapped, next: Unwrapped) -> Result<RootKeeper, StartError> {
        events::root_opened(next.opened.by.as_str());
        let quorum = next.quorum.ok_or(StartError::NoKeyholders)?;
        let next = Current {
            keys: next.opened.keys.into(),
            state: next.envelope.state(),
            custody: next.envelope.custody().clone(),
            quorum,
            retired: next.envelope.retired().to_vec(),
        };
        Ok(RootKeeper::new(self, next, Some(current.opened.keys.root)))
    }

    /// Shares for a new quorum's secret, from all keyholders: they are waited for.
    async fn enrol_all(&self, state: [u8; 16]) -> Result<(Custody, QuorumSecret), StartError> {
        let mut pause = PAUSES.0;
        loop {
            match Box::pin(self.enrol(state)).await {
                Ok(enrolled) => return Ok(enrolled),
                Err(EnrolError::Missing { found, all }) => {
                    events::keyholders_awaited(found, all);
                }
                Err(EnrolError::Share(source)) => {
                    let path = self.state_dir.join(ENVELOPE_NAME);
                    return Err(StartError::Envelope { path, source });
                }
                Err(EnrolError::Start(error)) => return Err(*error),
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(PAUSES.1);
        }
    }

    /// Opens an envelope's file. Waits for a quorum of its keyholders, or for one that has the recovery set's key.
    async fn unwrap(&self, path: &Path) -> Result<Unwrapped, StartError> {
        let failed = |source| StartError::Envelope {
            path: path.to_owned(),
            source,
        };
        let file = read_bounded(path, MAX_ENVELOPE_BYTES)?;
        let envelope = Envelope::parse(&file).map_err(failed)?;
        let chip = match envelope.local_inputs() {
            Some(inputs) => ChipKey::of_inputs(&*self.attester, inputs)?,
            None => None,
        };
        let local = chip.as_ref().map(ChipKey::tee_key);
        let mut pause = PAUSES.0;
        loop {
            let quorum = match self.quorum(&envelope).await {
                Ok(quorum) => Some(quorum),
                Err(QuorumFault::Few { found, needed }) => {
                    events::keyholders_awaited(found, needed);
                    None
                }
                Err(QuorumFault::Envelope(source)) => return Err(failed(source)),
            };
            if let Some(quorum) = quorum {
                let secrets = Secrets {
                    local,
                    quorum: Some(&quorum),
                    recovery: None,
                };
                match envelope.open(&secrets) {
                    Ok(opened) => {
                        let quorum = Some(quorum);
                        return Ok(Unwrapped {
                            opened,
                            envelope,
                            quorum,
                        });
                    }
                    // Another chip: a recovery set may still open it.
                    Err(EnvelopeError::NoRecipient) if envelope.recovery().is_some() => {
                        events::recovery_awaited();
                    }
                    Err(source) => return Err(failed(source)),
                }
            }
            if let Some(private) = self.recovery_private(&envelope).await {
                let secrets = Secrets {
                    local: None,
                    quorum: None,
                    recovery: Some(&private),
                };
                let opened = envelope.open(&secrets).map_err(failed)?;
                return Ok(Unwrapped {
                    opened,
                    envelope,
                    quorum: None,
                });
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(PAUSES.1);
        }
    }

    async fn quorum(&self, envelope: &Envelope) -> Result<QuorumSecret, QuorumFault> {
        let Custody { quorum, holders } = envelope.custody();
        let asked = holders.iter().enumerate().map(|(at, holder)| async move {
            let target = self.where_now(holder);
            let asked = self.asker.ask(
                &target,
                Operation::Release,
                envelope.state(),
                holder.share.0,
            );
            match Box::pin(asked).await {
                Ok(Released::Share(share)) => Some((at, share)),
                Ok(Released::Destroyed) => None,
                Err(fault) => {
                    events::keyholder_fault(&target.name, Operation::Release, &fault);
                    None
                }
            }
        });
        let released: Vec<(usize, Zeroizing<[u8; 32]>)> =
            join_all(asked).await.into_iter().flatten().collect();
        let found = released.len();
        let needed = *quorum;
        if found < needed {
            return Err(QuorumFault::Few { found, needed });
        }
        gather(envelope.custody(), &envelope.state(), &released).map_err(QuorumFault::Envelope)
    }

    /// The private key of the envelope's recovery set, if a keyholder was given it.
    async fn recovery_private(&self, envelope: &Envelope) -> Option<DepositPrivateKey> {
        let public = envelope.recovery()?;
        let share = Request::recovery_share(&recovery_set(&public));
        for keyholder in &self.keyholders.keyholders {
            let target = target(keyholder);
            let recover = Operation::Recover;
            match Box::pin(self.asker.ask(&target, recover, envelope.state(), share)).await {
                Ok(Released::Share(private)) => {
                    let private = DepositPrivateKey::from_bytes(&private).ok();
                    if let Some(private) = private.filter(|key| *key.public() == public) {
                        return Some(private);
                    }
                }
                Ok(Released::Destroyed) => {}
                Err(fault) if fault.is_refused("NO_RECOVERY_KEY") => {}
                Err(fault) => events::keyholder_fault(&target.name, recover, &fault),
            }
        }
        None
    }

    /// A keyholder is known by its key: its address is the manifest's, where the manifest still names it.
    fn where_now(&self, holder: &Holder) -> Target {
        self.target_of(&holder.name, &holder.url, holder.key.0)
    }

    pub(super) fn target_of(&self, name: &str, url: &str, key: [u8; 32]) -> Target {
        let mut named = self.keyholders.keyholders.iter();
        named.find(|named| named.key == key).map_or_else(
            || Target {
                name: name.to_owned(),
                url: url.to_owned(),
                key,
            },
            |named: &Keyholder| target(named),
        )
    }

    /// Whether an envelope is held by those whom the manifest names, with its quorum.
    fn is_wanted(&self, custody: &Custody) -> bool {
        let Custody { quorum, holders } = custody;
        let table = &self.keyholders;
        let mut found: Vec<[u8; 32]> = holders.iter().map(|holder| holder.key.0).collect();
        let mut wanted: Vec<[u8; 32]> = table.keyholders.iter().map(|named| named.key).collect();
        found.sort_unstable();
        wanted.sort_unstable();
        *quorum == table.quorum && found == wanted
    }

    /// Writes an envelope, whole or not at all.
    pub(super) fn write(&self, name: &str, current: &Current) -> Result<(), StartError> {
        let path: PathBuf = self.state_dir.join(name);
        let chip = ChipKey::current(&*self.attester)?;
        let to = Recipients {
            state: current.state,
            custody: &current.custody,
            quorum: &current.quorum,
            local: chip.as_ref().map(ChipKey::tee_key),
            off_chip: self.off_chip(),
            recovery: self.recovery_key(),
            retired: &current.retired,
        };
        let file = seal(&current.keys, &to, &SystemRandom::new());
        let file = file.map_err(|source| StartError::Envelope {
            path: path.clone(),
            source,
        })?;
        create_or_replace(&self.state_dir, name, &file)
            .map_err(|error| FileError::new("write", &path, &error))?;
        Ok(())
    }
}

/// Why there is no quorum's secret.
enum QuorumFault {
    Few { found: usize, needed: usize },
    Envelope(EnvelopeError),
}

/// What opened an envelope, to be destroyed.
pub(super) fn shares_of(custody: &Custody) -> Vec<Retired> {
    let Custody { quorum: _, holders } = custody;
    let shares = holders.iter().map(|holder| Retired::Share {
        name: holder.name.clone(),
        url: holder.url.clone(),
        key: holder.key,
        share: holder.share,
    });
    shares.collect()
}

fn exists(path: &Path) -> Result<bool, FileError> {
    path.try_exists()
        .map_err(|error| FileError::new("look for", path, &error))
}
