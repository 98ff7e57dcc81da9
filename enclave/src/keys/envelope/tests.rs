//! Envelopes: who opens them, and what every change leads to.

use super::*;
use ring::rand::SystemRandom;

const STATE: [u8; 16] = [9; 16];
const INPUTS: &str = "snp;policy;guest_svn=0;tcb=00";

fn tee(key: &[u8; 32]) -> TeeKey<'_> {
    TeeKey {
        key,
        inputs: INPUTS,
    }
}

struct World {
    keys: Unlocked,
    quorum: QuorumSecret,
    custody: Custody,
    recovery: DepositPrivateKey,
}

fn holder(number: u8) -> NewHolder {
    NewHolder {
        name: format!("holder-{number}"),
        url: format!("http://holder-{number}.test"),
        key: [number; 32],
        share: [number; 16],
        secret: Zeroizing::new([number; 32]),
    }
}

fn world() -> World {
    let rng = SystemRandom::new();
    let quorum = QuorumSecret::generate(&rng).unwrap();
    let holders = [holder(1), holder(2), holder(3)];
    World {
        keys: Unlocked::generate(&rng).unwrap(),
        custody: share_out(&quorum, &STATE, 2, &holders, &rng).unwrap(),
        quorum,
        recovery: DepositPrivateKey::generate(&rng).unwrap(),
    }
}

impl World {
    fn seal(&self, local: Option<TeeKey<'_>>, off_chip: bool) -> Result<Vec<u8>, EnvelopeError> {
        let to = Recipients {
            state: STATE,
            custody: &self.custody,
            quorum: &self.quorum,
            local,
            off_chip,
            recovery: Some(*self.recovery.public()),
            retired: &[Retired::Recovery { set: Hex([7; 8]) }],
        };
        seal(&self.keys, &to, &SystemRandom::new())
    }
}

/// Which recipient opens, if the keys are the ones that were sealed.
fn opens(
    world: &World,
    file: &[u8],
    secrets: &Secrets<'_>,
) -> Result<RecipientKind, EnvelopeError> {
    let opened = Envelope::parse(file)?.open(secrets)?;
    assert_eq!(opened.keys.root.expose(), world.keys.root.expose());
    assert_eq!(opened.keys.state.expose(), world.keys.state.expose());
    Ok(opened.by)
}

#[test]
fn opens_with_the_chips_key_and_the_share_together_only() {
    let world = world();
    let file = world.seal(Some(tee(&[1; 32])), false).unwrap();
    let other = QuorumSecret::generate(&SystemRandom::new()).unwrap();
    let stranger = DepositPrivateKey::generate(&SystemRandom::new()).unwrap();
    let (own, foreign) = (&[1; 32], &[2; 32]);
    type Row<'a> = (
        &'a str,
        Option<&'a [u8; 32]>,
        Option<&'a QuorumSecret>,
        Option<&'a DepositPrivateKey>,
        Result<RecipientKind, EnvelopeError>,
    );
    let refused = || Err(EnvelopeError::NoRecipient);
    let (quorum, recovery) = (&world.quorum, &world.recovery);
    let rows: [Row<'_>; 8] = [
        (
            "both",
            Some(own),
            Some(quorum),
            None,
            Ok(RecipientKind::Local),
        ),
        ("the chip alone", Some(own), None, None, refused()),
        ("the quorum alone", None, Some(quorum), None, refused()),
        ("another chip", Some(foreign), Some(quorum), None, refused()),
        ("another quorum", Some(own), Some(&other), None, refused()),
        (
            "recovery",
            None,
            None,
            Some(recovery),
            Ok(RecipientKind::Recovery),
        ),
        ("another set", None, None, Some(&stranger), refused()),
        ("nothing", None, None, None, refused()),
    ];
    for (name, chip, quorum, recovery, expected) in rows {
        let secrets = Secrets {
            local: chip.map(tee),
            quorum,
            recovery,
        };
        assert_eq!(opens(&world, &file, &secrets), expected, "{name}");
    }
}

#[test]
fn the_quorum_opens_on_any_chip_where_that_is_allowed_and_local_is_tried_first() {
    let world = world();
    let on_any = world.seal(Some(tee(&[1; 32])), true).unwrap();
    let without_chip = world.seal(None, true).unwrap();
    let open = |file: &[u8], chip: Option<&[u8; 32]>| {
        let secrets = Secrets {
            local: chip.map(tee),
            quorum: Some(&world.quorum),
            recovery: Some(&world.recovery),
        };
        opens(&world, file, &secrets)
    };
    assert_eq!(open(&on_any, Some(&[1; 32])), Ok(RecipientKind::Local));
    assert_eq!(open(&on_any, Some(&[2; 32])), Ok(RecipientKind::OffChip));
    assert_eq!(open(&on_any, None), Ok(RecipientKind::OffChip));
    assert_eq!(open(&without_chip, None), Ok(RecipientKind::OffChip));
    assert_eq!(world.seal(None, false), Err(EnvelopeError::NobodyCouldOpen));
}

#[test]
fn a_quorum_of_shares_gives_the_secret_and_each_wrong_one_is_named() {
    let world = world();
    let released = |list: &[(usize, u8)]| -> Vec<(usize, Zeroizing<[u8; 32]>)> {
        let list = list.iter();
        list.map(|(at, byte)| (*at, Zeroizing::new([*byte; 32])))
            .collect()
    };
    let gathered = |list: &[(usize, u8)]| {
        gather(&world.custody, &STATE, &released(list)).map(|secret| *secret.expose())
    };
    let secret = Ok(*world.quorum.expose());
    assert_eq!(gathered(&[(0, 1), (2, 3)]), secret);
    assert_eq!(gathered(&[(1, 2), (0, 1), (2, 3)]), secret);
    let few = |found| Err(EnvelopeError::TooFewShares { found, needed: 2 });
    assert_eq!(gathered(&[]), few(0));
    assert_eq!(gathered(&[(0, 1)]), few(1));
    assert_eq!(gathered(&[(0, 1), (0, 1)]), few(1));
    let wrong = EnvelopeError::WrongShare {
        holder: "holder-2".to_owned(),
    };
    assert_eq!(gathered(&[(0, 1), (1, 9)]), Err(wrong));
    assert_eq!(gathered(&[(3, 1)]), Err(EnvelopeError::Unreadable));
    let shares = released(&[(0, 1), (1, 2)]);
    let elsewhere = gather(&world.custody, &[8; 16], &shares);
    assert!(matches!(elsewhere, Err(EnvelopeError::WrongShare { .. })));
    let rng = SystemRandom::new();
    let impossible = share_out(&world.quorum, &STATE, 2, &[holder(1)], &rng);
    let expected = EnvelopeError::Quorum {
        quorum: 2,
        holders: 1,
    };
    assert_eq!(impossible, Err(expected));
}

#[test]
fn every_change_of_an_envelope_is_refused_with_its_cause() {
    let world = world();
    let file = world.seal(Some(tee(&[1; 32])), true).unwrap();
    let text = String::from_utf8(file.clone()).unwrap();
    let kind = |kind: &str| EnvelopeError::UnknownRecipient(kind.to_owned());
    let format = |format: &str| EnvelopeError::UnknownFormat(format.to_owned());
    let no_retired = text.replace(&hex::encode([7u8; 8]), &hex::encode([6u8; 8]));
    let rows = [
        (
            "another format",
            text.replace("envelope/v3", "envelope/v9"),
            format("tokenkeep/envelope/v9"),
        ),
        (
            "the format before",
            text.replace("envelope/v3", "envelope/v2"),
            format("tokenkeep/envelope/v2"),
        ),
        (
            "another kind",
            text.replace("\"off_chip\"", "\"anyone\""),
            kind("anyone"),
        ),
        (
            "a field of another kind",
            text.replace("\"local\"", "\"off_chip\""),
            EnvelopeError::Unreadable,
        ),
        (
            "one field more",
            text.replacen('{', "{\"x\":1,", 1),
            EnvelopeError::Unreadable,
        ),
        (
            "no quorum",
            text.replace("\"quorum\": 2", "\"quorum\": 0"),
            EnvelopeError::Unreadable,
        ),
        (
            "upper-case digits",
            text.replace(&hex::encode([7u8; 8]), &"0A".repeat(8)),
            EnvelopeError::Unreadable,
        ),
        ("cut", text[..100].to_owned(), EnvelopeError::Unreadable),
        (
            "too large",
            " ".repeat(MAX_ENVELOPE_BYTES + 1),
            EnvelopeError::TooLarge,
        ),
        (
            "a smaller quorum",
            text.replace("\"quorum\": 2", "\"quorum\": 1"),
            EnvelopeError::HeaderChanged,
        ),
        (
            "another keyholder",
            text.replace("holder-3.test", "holder-4.test"),
            EnvelopeError::HeaderChanged,
        ),
        (
            "another to be destroyed",
            no_retired,
            EnvelopeError::HeaderChanged,
        ),
        (
            "another state",
            text.replace(&hex::encode(STATE), &hex::encode([8u8; 16])),
            EnvelopeError::NoRecipient,
        ),
    ];
    let secrets = Secrets {
        local: Some(tee(&[1; 32])),
        quorum: Some(&world.quorum),
        recovery: Some(&world.recovery),
    };
    for (name, changed, expected) in rows {
        assert_ne!(changed, text, "{name}");
        assert_eq!(
            opens(&world, changed.as_bytes(), &secrets),
            Err(expected),
            "{name}"
        );
    }
    // What the TEE's key depends on: the local recipient does not open, and behind the next one the header is not
    // the one that was sealed.
    let inputs = text.replace("guest_svn=0", "guest_svn=9");
    assert_eq!(
        opens(&world, inputs.as_bytes(), &secrets),
        Err(EnvelopeError::HeaderChanged)
    );
}

#[test]
fn an_envelope_says_in_clear_who_is_asked_and_nothing_secret() {
    let world = world();
    let file = world.seal(Some(tee(&[1; 32])), true).unwrap();
    let envelope = Envelope::parse(&file).unwrap();
    assert_eq!(envelope.state(), STATE);
    assert_eq!(envelope.custody(), &world.custody);
    assert_eq!(envelope.local_inputs(), Some(INPUTS));
    assert!(envelope.is_off_chip());
    assert_eq!(envelope.recovery(), Some(*world.recovery.public()));
    assert_eq!(envelope.retired(), [Retired::Recovery { set: Hex([7; 8]) }]);
    for secret in [
        world.keys.root.expose(),
        world.keys.state.expose(),
        world.quorum.expose(),
    ] {
        let text = String::from_utf8_lossy(&file);
        assert!(!text.contains(&hex::encode(secret)));
        assert!(!text.contains(&Base64UrlUnpadded::encode_string(secret)));
    }
    assert_eq!(
        format!("{:?} {:?} {:?}", world.keys, world.quorum, holder(1)),
        "Unlocked { root: RootKey([redacted]), state: StateKey([redacted]) } QuorumSecret([redacted]) \
         NewHolder(holder-1, [redacted])"
    );
}
