//! Whoever runs another image on the right chip, or edits what passes between enclave, keyholders and disk: none of it
//! opens the state.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a failed test may panic; what is counted is far below 2^52"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use attestation::keyholder::{Answer, Call, Operation, Released, Request};
use attestation::manifest::sign_manifest;
use attestation::policy::pinned;
use attestation::{DepositPrivateKey, Endorsements, Evidence, Roots, Tier};
use enclave::frame::{FILE_HEADER_BYTES, FrameCipher};
use enclave::keys::envelope::{
    Envelope, NewHolder, QuorumSecret, Recipients, Secrets, TeeKey, gather, seal, share_out,
};
use enclave::keys::root::Unlocked;
use jose::{Alg, SigningKey};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use tempfile::TempDir;
use testkit::snp::{Certificates, ReportFields, SnpPlatform};
use tests::bars::{self, Bar, Row};
use tests::binary::binary;
use tests::caller::Caller;
use tests::disk::Dice;
use tests::effort;
use tests::process::Process;
use tests::stack::{Blueprint, Stack};
use tests::wait::wait_for;
use tokenkeep::keyholder::Keyholder;
use tokenkeep::{Clock as _, SystemClock};
use zeroize::Zeroizing;

const ISSUER: &str = "https://127.0.0.1:7444";
const STATE: [u8; 16] = [9; 16];
/// The image that made the state.
const MADE: [u8; 48] = [0xA1; 48];
/// An image that the keyholders alone allow.
const KEYHOLDERS_ONLY: [u8; 48] = [0xC2; 48];
/// One that the manifest alone allows.
const MANIFEST_ONLY: [u8; 48] = [0xD3; 48];
/// One that both allow.
const BOTH: [u8; 48] = [0xE4; 48];
/// The guest SVN of the image.
const SVN: u32 = 5;
/// The manifest's floor, and the keyholders' own.
const MANIFEST_SVN: u32 = 4;
const KEYHOLDER_SVN: u32 = 3;
/// The manifest's sequence number.
const SEQUENCE: u64 = 5;
/// All of them are needed: an edit that one of them took would open the state.
const KEYHOLDERS: usize = 3;
/// Where a report has the measurement.
const MEASUREMENT: std::ops::Range<usize> = 0x090..0x0C0;
/// What of a report is signed.
const SIGNED_BYTES: u64 = 0x2A0;

type Share = Zeroizing<[u8; 32]>;

/// A manifest with its signature.
#[derive(Clone)]
struct Signed {
    toml: String,
    signature: String,
}

/// One request, as an enclave makes it.
struct Asked {
    call: Call,
    private: DepositPrivateKey,
}

/// What passed between the enclave and one keyholder.
struct Exchange {
    asked: Asked,
    answer: Answer,
    share: Share,
}

/// A state that the image made under keyholders, and all that an attacker may have of it.
struct World {
    _folder: TempDir,
    chip: SnpPlatform,
    launched: ReportFields,
    signer: Zeroizing<Vec<u8>>,
    keyholders: Vec<Keyholder>,
    now_s: u64,
    envelope: Vec<u8>,
    inputs: String,
    /// The beginning of the store.
    store: [u8; FILE_HEADER_BYTES],
    /// What was asked when the state was made, and once more under other ids.
    exchanges: [Vec<Exchange>; 2],
}

/// A change of something on its way.
type Change<T> = Box<dyn Fn(&mut T)>;

/// What is asked of a keyholder in place of what the image would ask, and what it must say to that.
struct Edit {
    what: &'static str,
    launched: ReportFields,
    manifest: Signed,
    /// Before there is evidence for it.
    request: Change<Request>,
    /// The report, after it was signed.
    report: Change<Vec<u8>>,
    /// The call, with its evidence.
    call: Change<Call>,
    refusal: &'static str,
}

/// Asks one keyholder, or in a canary does as if.
type Ask = dyn Fn(&World, usize, &Asked) -> Result<Share, &'static str>;

fn spki_digest(pkcs8: &[u8]) -> [u8; 32] {
    let rng = SystemRandom::new();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &rng).unwrap();
    let key = attestation::P256PublicKey::from_point(pair.public_key().as_ref()).unwrap();
    key.spki_sha256()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().unwrap()
}

/// What the manifest's signer may have written.
struct Draft<'a> {
    sequence: u64,
    issuer: &'a str,
    images: &'a [[u8; 48]],
    keys: Vec<[u8; 32]>,
}

impl Draft<'_> {
    fn signed_by(&self, pkcs8: &[u8]) -> Signed {
        let images: Vec<String> = self.images.iter().map(hex::encode).collect();
        let mut toml = format!(
            r#"sequence = {}
issuer = "{}"
[origins]
grpc = "https://127.0.0.1:7443"
public = "https://127.0.0.1:7444"
gateway = "https://127.0.0.1:7445"
[[administrators]]
name = "a"
spki_sha256 = "2222222222222222222222222222222222222222222222222222222222222222"
roles = ["operator"]
[images]
measurements = {images:?}
min_guest_svn = {MANIFEST_SVN}
[keyholders]
quorum = {KEYHOLDERS}
"#,
            self.sequence, self.issuer
        );
        for (number, key) in self.keys.iter().enumerate() {
            write!(
                toml,
                "[[keyholders.keyholder]]\nname = \"k{number}\"\nurl = \"http://k{number}.test\"\nkey = \"{}\"\nrun_by = \"tenant\"\n",
                hex::encode(key)
            )
            .unwrap();
        }
        let signature = sign_manifest(toml.as_bytes(), pkcs8, &SystemRandom::new()).unwrap();
        Signed { toml, signature }
    }
}

/// The keyholders' own reference values.
fn policy(signer: &[u8; 32], tcb: [u8; 8]) -> String {
    let text = pinned(&MADE, signer, &[Tier::Emulated]);
    let measurements = [MADE, KEYHOLDERS_ONLY, BOTH].map(hex::encode);
    let text = text.replace(
        &format!("measurements = [\"{}\"]", hex::encode(MADE)),
        &format!("measurements = {measurements:?}\nminimum_guest_svn = {KEYHOLDER_SVN}"),
    );
    let text = text.replace("\"migrate_ma\"]", "\"migrate_ma\", \"cxl_allowed\"]");
    let [bootloader, tee, .., snp, microcode] = tcb;
    let floor = format!(
        "{{ bootloader = {bootloader}, tee = {tee}, snp = {snp}, microcode = {microcode} }}"
    );
    format!(
        "{text}\n[[snp.tcb]]\nfamily = 0x19\nmodel_first = 0x10\nmodel_last = 0x1f\nreported = {floor}\ncommitted = {floor}\nlaunch = {floor}\n"
    )
}

impl World {
    fn new() -> Self {
        let rng = SystemRandom::new();
        let folder = tempfile::tempdir().unwrap();
        let chip = SnpPlatform::development([7; 32]).unwrap();
        let signer = SigningKey::generate(Alg::Es256, &rng).unwrap();
        let launched = ReportFields {
            measurement: MADE,
            host_data: spki_digest(&signer),
            guest_svn: SVN,
            ..chip.fields()
        };
        let keyholders = (0..KEYHOLDERS).map(|number| {
            let root = chip.root_pem().to_owned();
            let roots = move || Roots::with_emulated(&root).ok();
            let path = folder.path().join(format!("k{number}"));
            let keyholder = Keyholder::init(&path, Box::new(roots)).unwrap();
            let policy = policy(&launched.host_data, launched.committed_tcb);
            let directory = keyholder.directory();
            directory.add(ISSUER, policy.as_bytes()).unwrap();
            keyholder
        });
        let mut world = Self {
            keyholders: keyholders.collect(),
            now_s: SystemClock.unix_time_s(),
            envelope: Vec::new(),
            inputs: format!("snp;policy;guest_svn={SVN};tcb=00"),
            store: [0; FILE_HEADER_BYTES],
            exchanges: [Vec::new(), Vec::new()],
            _folder: folder,
            chip,
            launched,
            signer,
        };
        for enrolment in [0, 1] {
            world.exchanges[enrolment] = (0..KEYHOLDERS)
                .map(|at| world.enrolled(at, enrolment))
                .collect();
        }
        world.make_state();
        world
    }

    /// Makes the state with the shares of the first enrolment.
    fn make_state(&mut self) {
        let rng = SystemRandom::new();
        let keys = Unlocked::generate(&rng).unwrap();
        let quorum = QuorumSecret::generate(&rng).unwrap();
        let holders: Vec<NewHolder> = self.exchanges[0]
            .iter()
            .enumerate()
            .map(|(at, exchange)| NewHolder {
                name: format!("k{at}"),
                url: format!("http://k{at}.test"),
                key: *self.keyholders[at].public_key(),
                share: share_id(at, 0),
                secret: exchange.share.clone(),
            })
            .collect();
        let custody = share_out(&quorum, &STATE, KEYHOLDERS, &holders, &rng).unwrap();
        let local = self.derived_key(&self.launched).unwrap();
        let to = Recipients {
            state: STATE,
            custody: &custody,
            quorum: &quorum,
            local: Some(TeeKey {
                key: &local,
                inputs: &self.inputs,
            }),
            off_chip: true,
            recovery: None,
            retired: &[],
        };
        self.envelope = seal(&keys, &to, &rng).unwrap();
        let cipher = FrameCipher::new(keys.state.frame_key().unwrap());
        self.store = cipher.begin_file(&rng).unwrap().0;
    }

    /// The key that the chip derives for what runs, if it does.
    fn derived_key(&self, launched: &ReportFields) -> Option<[u8; 32]> {
        let sealed_at = (self.launched.guest_svn, self.launched.committed_tcb);
        let derived = self.chip.derived_key(launched, sealed_at.0, sealed_at.1);
        derived.ok()
    }

    fn manifest(&self) -> Signed {
        self.draft(SEQUENCE, ISSUER, &[MADE, MANIFEST_ONLY, BOTH])
            .signed_by(&self.signer)
    }

    fn draft<'a>(&self, sequence: u64, issuer: &'a str, images: &'a [[u8; 48]]) -> Draft<'a> {
        let keys = self.keyholders.iter().map(|one| *one.public_key());
        Draft {
            sequence,
            issuer,
            images,
            keys: keys.collect(),
        }
    }

    /// What the image itself asks.
    fn genuine(&self) -> Edit {
        Edit {
            what: "nothing",
            launched: self.launched.clone(),
            manifest: self.manifest(),
            request: Box::new(|_| {}),
            report: Box::new(|_| {}),
            call: Box::new(|_| {}),
            refusal: "",
        }
    }

    fn asked(&self, at: usize, operation: Operation, enrolment: usize, edit: &Edit) -> Asked {
        let keyholder = &self.keyholders[at];
        let nonce = keyholder.challenge(self.now_s).unwrap();
        let private = DepositPrivateKey::generate(&SystemRandom::new()).unwrap();
        let mut request = Request {
            operation,
            keyholder: *keyholder.public_key(),
            issuer: ISSUER.to_owned(),
            state: STATE,
            share: share_id(at, enrolment),
            recipient: *private.public(),
            manifest: sha256(edit.manifest.toml.as_bytes()),
        };
        (edit.request)(&mut request);
        let fields = ReportFields {
            report_data: request.report_data(&nonce).unwrap(),
            ..edit.launched.clone()
        };
        let mut report = self.chip.report(&fields).unwrap();
        (edit.report)(&mut report);
        let Certificates { ark, ask, vek } = self.chip.certificates().clone();
        let endorsements = Endorsements {
            vek: Some(vek),
            ask: Some(ask),
            ark: Some(ark),
        };
        let mut call = Call {
            nonce,
            request,
            evidence: Evidence::snp(report, endorsements),
            manifest: edit.manifest.toml.clone(),
            manifest_signature: edit.manifest.signature.clone(),
        };
        (edit.call)(&mut call);
        Asked { call, private }
    }

    fn enrolled(&self, at: usize, enrolment: usize) -> Exchange {
        let asked = self.asked(at, Operation::Enrol, enrolment, &self.genuine());
        let json = asked.call.to_json().unwrap();
        let answer = self.keyholders[at].ask(json.as_bytes(), self.now_s);
        let answer = answer.unwrap();
        let share = share_of(&answer, &asked.call.request, &asked.private).unwrap();
        Exchange {
            asked,
            answer,
            share,
        }
    }

    /// Whether these shares open this envelope, and the keys in it the store.
    fn opens(
        &self,
        envelope: &[u8],
        shares: &[(usize, Share)],
        launched: Option<&ReportFields>,
    ) -> bool {
        let Ok(envelope) = Envelope::parse(envelope) else {
            return false;
        };
        let Ok(quorum) = gather(envelope.custody(), &envelope.state(), shares) else {
            return false;
        };
        let key = launched.and_then(|launched| self.derived_key(launched));
        let inputs = envelope.local_inputs().unwrap_or_default().to_owned();
        let secrets = Secrets {
            local: key.as_ref().map(|key| TeeKey {
                key,
                inputs: &inputs,
            }),
            quorum: Some(&quorum),
            recovery: None,
        };
        let Ok(opened) = envelope.open(&secrets) else {
            return false;
        };
        let cipher = FrameCipher::new(opened.keys.state.frame_key().unwrap());
        cipher.open_file(&self.store).is_ok()
    }

    /// The shares of an enrolment.
    fn shares(&self, enrolment: usize) -> Vec<(usize, Share)> {
        let exchanges = self.exchanges[enrolment].iter().enumerate();
        exchanges
            .map(|(at, exchange)| (at, exchange.share.clone()))
            .collect()
    }

    /// Whether an edit opens the state: one keyholder is asked, and the shares of the others are known.
    fn opened_by(&self, at: usize, edit: &Edit, ask: &Ask) -> bool {
        let asked = self.asked(at, Operation::Release, 0, edit);
        let mut shares = self.shares(0);
        match ask(self, at, &asked) {
            Ok(share) => shares[at].1 = share,
            Err(refusal) => {
                assert_eq!(refusal, edit.refusal, "{}", edit.what);
                shares.remove(at);
            }
        }
        self.opens(&self.envelope, &shares, Some(&edit.launched))
    }
}

fn share_id(at: usize, enrolment: usize) -> [u8; 16] {
    [u8::try_from(10 * enrolment + at + 1).unwrap(); 16]
}

fn share_of(answer: &Answer, request: &Request, private: &DepositPrivateKey) -> Option<Share> {
    match answer.open(request, private) {
        Ok(Released::Share(share)) => Some(share),
        Ok(Released::Destroyed) | Err(_) => None,
    }
}

/// The keyholder itself: its own appraisal, by its own reference values.
fn appraised(world: &World, at: usize, asked: &Asked) -> Result<Share, &'static str> {
    let json = asked.call.to_json().unwrap();
    let answer = world.keyholders[at].ask(json.as_bytes(), world.now_s);
    let answer = answer.map_err(|refusal| refusal.reason())?;
    // Sealed to the key of the request: an attacker has it for its own requests.
    share_of(&answer, &asked.call.request, &asked.private).ok_or("ANSWER")
}

fn flip(bytes: &mut [u8], dice: &mut Dice) {
    let at = usize::try_from(dice.below(bytes.len() as u64)).unwrap();
    bytes[at] ^= 1 << dice.below(8);
}

/// Kinds of edits of what is asked.
const KINDS: u64 = 23;

/// One edit of what is asked of a keyholder.
fn asked_edit(world: &World, dice: &mut Dice, kind: u64) -> Edit {
    let mut edit = world.genuine();
    let images = [MADE, MANIFEST_ONLY, BOTH];
    let (what, refusal) = match kind {
        0 => {
            flip(&mut edit.launched.measurement, dice);
            ("another measurement", "EVIDENCE_REFUSED")
        }
        1 => {
            edit.launched.measurement = MANIFEST_ONLY;
            ("the manifest alone allows it", "EVIDENCE_REFUSED")
        }
        2 => {
            edit.launched.measurement = KEYHOLDERS_ONLY;
            ("the keyholder alone allows it", "IMAGE_FORBIDDEN")
        }
        3 => {
            flip(&mut edit.launched.host_data, dice);
            ("another host data", "EVIDENCE_REFUSED")
        }
        4 => {
            // Migration agent, debugging, CXL, a bit without a meaning.
            let bits = [18, 19, 21, 40];
            edit.launched.policy |= 1 << bits[usize::try_from(dice.below(4)).unwrap()];
            ("another guest policy", "EVIDENCE_REFUSED")
        }
        5 => {
            edit.launched.vmpl = u32::try_from(1 + dice.below(3)).unwrap();
            ("another privilege level", "EVIDENCE_REFUSED")
        }
        6 => {
            edit.launched.guest_svn = u32::try_from(dice.below(u64::from(KEYHOLDER_SVN))).unwrap();
            ("a guest SVN below the keyholder's", "EVIDENCE_REFUSED")
        }
        7 => {
            edit.launched.guest_svn = MANIFEST_SVN - 1;
            ("a guest SVN below the manifest's", "IMAGE_FORBIDDEN")
        }
        8 => {
            let ReportFields {
                reported_tcb,
                committed_tcb,
                launch_tcb,
                ..
            } = &mut edit.launched;
            let levels = [reported_tcb, committed_tcb, launch_tcb];
            let which = usize::try_from(dice.below(3)).unwrap();
            // Boot loader, SNP firmware, microcode.
            let part = [0, 6, 7][usize::try_from(dice.below(3)).unwrap()];
            let level = &mut levels.into_iter().nth(which).unwrap()[part];
            *level -= 1 + u8::try_from(dice.below(u64::from(*level))).unwrap();
            ("an older TCB", "EVIDENCE_REFUSED")
        }
        9 => {
            flip(&mut edit.launched.measurement, dice);
            edit.report = Box::new(|report| report[MEASUREMENT].copy_from_slice(&MADE));
            ("the measurement written over", "EVIDENCE_REFUSED")
        }
        10 => {
            let at = usize::try_from(dice.below(SIGNED_BYTES)).unwrap();
            let bit = dice.below(8);
            edit.report = Box::new(move |report| report[at] ^= 1 << bit);
            ("a bit of the report", "EVIDENCE_REFUSED")
        }
        11 => {
            let other = SigningKey::generate(Alg::Es256, &SystemRandom::new()).unwrap();
            let sequence = SEQUENCE + dice.below(3);
            edit.manifest = world.draft(sequence, ISSUER, &images).signed_by(&other);
            ("another manifest signer", "MANIFEST_REFUSED")
        }
        12 => {
            let other = SigningKey::generate(Alg::Es256, &SystemRandom::new()).unwrap();
            edit.launched.host_data = spki_digest(&other);
            edit.manifest = world.draft(SEQUENCE, ISSUER, &images).signed_by(&other);
            ("a signer that the launch binds", "EVIDENCE_REFUSED")
        }
        13 => {
            let mut toml = edit.manifest.toml.into_bytes();
            let at = usize::try_from(dice.below(toml.len() as u64)).unwrap();
            // It stays text.
            toml[at] = if toml[at] == b'1' { b'2' } else { b'1' };
            edit.manifest.toml = String::from_utf8(toml).unwrap();
            ("a byte of the manifest", "MANIFEST_REFUSED")
        }
        14 => {
            let newer = world.draft(SEQUENCE + 1, ISSUER, &images);
            edit.manifest.signature = newer.signed_by(&world.signer).signature;
            ("the signature of another manifest", "MANIFEST_REFUSED")
        }
        15 => {
            let sequence = 1 + dice.below(SEQUENCE - 1);
            edit.manifest = world
                .draft(sequence, ISSUER, &images)
                .signed_by(&world.signer);
            ("an older manifest", "MANIFEST_LOWER")
        }
        16 => {
            let mut other = MADE;
            flip(&mut other, dice);
            let sequence = SEQUENCE + dice.below(3);
            edit.manifest = world
                .draft(sequence, ISSUER, &[other])
                .signed_by(&world.signer);
            ("a manifest without the measurement", "IMAGE_FORBIDDEN")
        }
        17 => {
            let issuer = "https://127.0.0.1:1";
            edit.manifest = world
                .draft(SEQUENCE, issuer, &images)
                .signed_by(&world.signer);
            ("a manifest of another issuer", "MANIFEST_REFUSED")
        }
        18 => {
            let mut other = [0; 32];
            flip(&mut other, dice);
            edit.request = Box::new(move |request| request.manifest = other);
            ("another manifest than was asked under", "MANIFEST_REFUSED")
        }
        19 => {
            let place = dice.below(3);
            let mut other = [0x55; 16];
            flip(&mut other, dice);
            edit.request = Box::new(move |request| match place {
                0 => request.state = other,
                1 => request.share = other,
                _ => (request.state, request.share) = (other, other),
            });
            ("a share that nobody enrolled", "UNKNOWN_SHARE")
        }
        20 => {
            let place = dice.below(4);
            let mut other = [0x55; 32];
            flip(&mut other, dice);
            edit.call = Box::new(move |call| match place {
                // The attacker's own key in a genuine enclave's request.
                0 => call.request.recipient = other,
                1 => call.request.manifest = other,
                2 => call.request.operation = Operation::Enrol,
                _ => call.request.share[0] ^= other[0],
            });
            ("evidence for another request", "EVIDENCE_REFUSED")
        }
        21 => {
            let place = dice.below(32);
            let bit = dice.below(8);
            edit.call = Box::new(move |call| {
                call.nonce[usize::try_from(place).unwrap()] ^= 1 << bit;
            });
            ("a nonce of nobody", "STALE_NONCE")
        }
        _ => {
            // What an eavesdropper on the first boot has; it can't open the answer, so it would get another one.
            let exchange = &world.exchanges[usize::try_from(dice.below(2)).unwrap()];
            let calls: Vec<Call> = exchange.iter().map(|one| one.asked.call.clone()).collect();
            edit.call = Box::new(move |call| {
                let same = calls.iter();
                let mut same = same.filter(|old| old.request.keyholder == call.request.keyholder);
                *call = same.next().unwrap().clone();
            });
            ("a call played again", "SPENT_NONCE")
        }
    };
    edit.what = what;
    edit.refusal = refusal;
    edit
}

/// Edits of answers on their way to the image, which has the right keys.
fn answer_edit_opens(world: &World, dice: &mut Dice) -> bool {
    let at = usize::try_from(dice.below(KEYHOLDERS as u64)).unwrap();
    let other = (at + 1) % KEYHOLDERS;
    let Exchange { asked, answer, .. } = &world.exchanges[0][at];
    let stranger = DepositPrivateKey::generate(&SystemRandom::new()).unwrap();
    let (answer, private) = match dice.below(4) {
        // Another keyholder's.
        0 => (world.exchanges[0][other].answer.clone(), &asked.private),
        // Another enrolment's, of the same keyholder.
        1 => (world.exchanges[1][at].answer.clone(), &asked.private),
        2 => {
            let mut bytes = answer.encode();
            flip(&mut bytes, dice);
            (Answer::decode(&bytes).unwrap(), &asked.private)
        }
        // Right, but somebody else has it.
        _ => (answer.clone(), &stranger),
    };
    let mut shares = world.shares(0);
    match share_of(&answer, &asked.call.request, private) {
        Some(share) => shares[at].1 = share,
        None => drop(shares.remove(at)),
    }
    world.opens(&world.envelope, &shares, Some(&world.launched))
}

/// Edits of envelope and shares, with everything else that the image has. None if the dice changed nothing.
fn disk_edit_opens(world: &World, dice: &mut Dice) -> Option<bool> {
    let mut envelope = world.envelope.clone();
    let mut shares = world.shares(0);
    let others = world.shares(1);
    let at = usize::try_from(dice.below(KEYHOLDERS as u64)).unwrap();
    let other = (at + 1) % KEYHOLDERS;
    match dice.below(6) {
        // Another enrolment's share of the same keyholder.
        0 => shares[at].1 = others[at].1.clone(),
        // Two keyholders' shares, swapped.
        1 => {
            let kept = shares[at].1.clone();
            shares[at].1 = std::mem::replace(&mut shares[other].1, kept);
        }
        2 => flip(&mut *shares[at].1, dice),
        3 => drop(shares.remove(at)),
        // A field, given the value of another one of its kind.
        4 => {
            let mut json: serde_json::Value = serde_json::from_slice(&envelope).unwrap();
            let holders = json["header"]["custody"]["holders"].as_array_mut().unwrap();
            let name = ["name", "url", "key", "share", "index", "sealed_piece"]
                [usize::try_from(dice.below(6)).unwrap()];
            match dice.below(3) {
                0 => holders[at][name] = holders[other][name].clone(),
                1 => holders.swap(at, other),
                _ => json["header"]["recipients"]
                    .as_array_mut()
                    .unwrap()
                    .swap(0, 1),
            }
            envelope = serde_json::to_vec_pretty(&json).unwrap();
        }
        // Any bit of the file.
        _ => flip(&mut envelope, dice),
    }
    if envelope == world.envelope && shares == world.shares(0) {
        return None;
    }
    Some(world.opens(&envelope, &shares, Some(&world.launched)))
}

/// So many edits that opened the state, and how often each kind was tried.
fn edits(world: &World, count: u64, seed: u64, ask: &Ask) -> (u64, BTreeMap<&'static str, u64>) {
    let (mut opened, mut done, mut dice) = (0, 0, Dice::new(seed));
    let mut kinds = BTreeMap::new();
    while done < count {
        // Each kind in its turn, what it does by the dice.
        let (kind, opens) = match done % (KINDS + 5) {
            kind if kind < KINDS => {
                let at = usize::try_from(dice.below(KEYHOLDERS as u64)).unwrap();
                let edit = asked_edit(world, &mut dice, kind);
                (edit.what, Some(world.opened_by(at, &edit, ask)))
            }
            kind if kind < KINDS + 2 => ("an answer", Some(answer_edit_opens(world, &mut dice))),
            _ => ("the disk", disk_edit_opens(world, &mut dice)),
        };
        let Some(opens) = opens else {
            continue;
        };
        done += 1;
        opened += u64::from(opens);
        *kinds.entry(kind).or_default() += 1;
    }
    (opened, kinds)
}

/// Whole services of other images, on the disk and the chip of one that lived: how many were started, and how many came
/// up.
async fn services_of_other_images() -> (u64, u64) {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    stack.kill().await;
    let lab = stack.files().dir().to_str().unwrap().to_owned();
    let images = ["two", "tokenkeep-de", "tokenkeep-dev2", "Tokenkeep-dev"];
    let mut up = 0;
    for image in images {
        let arguments = ["serve", "--state", &lab, "--image", image];
        let program = binary("tokenkeep-dev");
        let mut service = Process::start(&program, &arguments, stack.logs(), image);
        up += wait_for("the keyholder has judged it", async || {
            let said = service.stderr();
            let judged = [("EVIDENCE_REFUSED", 0), ("service_ready", 1)];
            let judged = judged.into_iter().find(|(word, _)| said.contains(word));
            judged.map(|(_, up)| up)
        })
        .await;
        service.kill().await;
    }
    // The image itself goes on.
    stack.restart().await;
    assert_eq!(Caller::of(&stack).await.contacts().await.status, 200);
    (images.len() as u64, up)
}

#[tokio::test]
async fn state_bar_no_other_image_and_no_edit_opens_the_state() {
    let (runs, seed) = (if effort::is_full() { 1_000 } else { 140 }, 0x3_ea5);
    let world = World::new();
    // Unedited it opens, by each keyholder's word and for an image that both allow; also without the chip's key.
    for at in 0..KEYHOLDERS {
        assert!(world.opened_by(at, &world.genuine(), &appraised));
        let mut allowed = world.genuine();
        allowed.launched.measurement = BOTH;
        assert!(world.opened_by(at, &allowed, &appraised));
    }
    assert!(world.opens(&world.envelope, &world.shares(0), None));
    let (opened, kinds) = edits(&world, runs, seed, &appraised);
    assert_eq!(kinds.len() as u64, KINDS + 2, "{kinds:?}");
    let (started, up) = services_of_other_images().await;
    let row = Row {
        name: "wrong_measurement_opened",
        value: (opened + up) as f64,
        unit: "count",
        bar: Bar::AtMost(0.0),
        runs: runs + started,
        seed,
    };
    if effort::is_full() {
        assert!(bars::record("state", row).unwrap());
    } else {
        assert!(row.met(), "{row:?}");
    }
    // Nothing was spoiled on the way.
    assert!(world.opened_by(0, &world.genuine(), &appraised));
}

/// A keyholder that believes whoever asks: what it gives out opens the state, and is counted.
#[test]
fn state_bar_canary_a_keyholder_that_appraises_nothing_is_seen() {
    let world = World::new();
    let blind = |world: &World, at: usize, _: &Asked| Ok(world.exchanges[0][at].share.clone());
    let (opened, kinds) = edits(&world, KINDS, 1, &blind);
    assert_eq!(kinds.len() as u64, KINDS);
    assert_eq!(opened, KINDS);
    // One image more in its reference values: that edit opens, and no other one.
    let allowed = |world: &World, at: usize, asked: &Asked| {
        let policy = policy(&world.launched.host_data, world.launched.committed_tcb);
        let more = policy.replace(&hex::encode(KEYHOLDERS_ONLY), &hex::encode(MANIFEST_ONLY));
        let directory = world.keyholders[at].directory();
        directory.add(ISSUER, more.as_bytes()).unwrap();
        let asked = appraised(world, at, asked);
        directory.add(ISSUER, policy.as_bytes()).unwrap();
        asked
    };
    let mut edit = asked_edit(&world, &mut Dice::new(1), 1);
    assert!(world.opened_by(0, &edit, &allowed));
    assert!(!world.opened_by(0, &edit, &appraised));
    edit = asked_edit(&world, &mut Dice::new(1), 0);
    assert!(!world.opened_by(0, &edit, &allowed));
}
