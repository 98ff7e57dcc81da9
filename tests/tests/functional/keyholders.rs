//! The root key in the hands of keyholders: a quorum opens the state, less waits; which image opens it is theirs and the
//! manifest's to say; when they are lost, a recovery set opens it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a file that is not there fails the test"
)]

use std::fs;
use std::path::Path;

use attestation::Platform;
use dev::emulated::measurement;
use dev::{lab, names};
use tests::binary::binary;
use tests::caller::Caller;
use tests::cli::Shell;
use tests::keyholders::{Keyholders, without_keyholders};
use tests::process::Process;
use tests::stack::{Blueprint, Stack, sign};
use tests::wait::wait_for;
use tests::witnesses::{copy, put_back};

/// Signs the lab's manifest anew with a risen number and more at its end.
fn raise(stack: &Stack, to: u64, more: &str) {
    sign(stack.files(), |manifest| {
        let (_, rest) = manifest.split_once("sequence = ").unwrap();
        let (_, rest) = rest.split_once('\n').unwrap();
        // Others take the place of the lab's own.
        let rest = if more.contains("[keyholders]") {
            without_keyholders(rest)
        } else {
            rest.to_owned()
        };
        format!("sequence = {to}\n{rest}{more}")
    });
}

async fn held(count: usize, quorum: usize) -> (Stack, Keyholders) {
    held_on(Platform::Snp, count, quorum).await
}

async fn held_on(platform: Platform, count: usize, quorum: usize) -> (Stack, Keyholders) {
    let blueprint = Blueprint {
        platform,
        ..Blueprint::default()
    };
    let mut stack = Stack::with_grant(blueprint).await;
    let keyholders = Keyholders::start(count, stack.files(), stack.url("issuer")).await;
    stack.kill().await;
    raise(&stack, 2, &keyholders.manifest(quorum));
    stack.restart().await;
    // The lab's own keyholder has nothing any more, and is gone from now on.
    // What it writes down, it has written when it confirms.
    wait_for("its share is destroyed", async || {
        stack.log().contains("share_destroyed").then_some(())
    })
    .await;
    assert_eq!(stack.own_shares(), 0);
    fs::remove_dir_all(stack.files().path(lab::KEYHOLDER)).unwrap();
    (stack, keyholders)
}

async fn works(stack: &Stack) {
    assert_eq!(Caller::of(stack).await.contacts().await.status, 200);
}

/// What the service of this name has logged since.
async fn logged(logs: &Path, name: &str, from: usize, what: &str) {
    let path = logs.join(format!("{name}.err"));
    wait_for(what, async || {
        let text = fs::read_to_string(&path).ok()?;
        text.get(from..)?.contains(what).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_quorum_of_keyholders_opens_the_state_and_less_is_waited_for() {
    let (mut stack, mut keyholders) = held(3, 2).await;
    assert!(stack.log().contains("root_rewrapped"), "{}", stack.log());
    works(&stack).await;
    for number in 0..3 {
        assert_eq!(keyholders.shares(number), (1, 0), "{number}");
    }
    // Two of three are enough.
    stack.kill().await;
    keyholders.stop(0).await;
    stack.restart().await;
    works(&stack).await;
    // One of three is not: the service waits, says so, and goes on when the second is back.
    stack.kill().await;
    keyholders.stop(1).await;
    let (logs, from) = (stack.logs().to_owned(), stack.log().len());
    let back = async {
        logged(&logs, "service", from, "keyholders_awaited").await;
        keyholders.start_again(1).await;
    };
    let (_, ()) = tokio::join!(stack.restart(), back);
    works(&stack).await;
    // No share is on the service's disk, in clear or in its log.
    let share = fs::read_dir(keyholders.directory(1).join("deployments")).unwrap();
    let deployment = share.map(|entry| entry.unwrap().path()).next().unwrap();
    let share = fs::read_dir(deployment.join("shares")).unwrap();
    let share = fs::read(share.map(|entry| entry.unwrap().path()).next().unwrap()).unwrap();
    assert_eq!(share.len(), 32);
    let mut places = vec![stack.log().into_bytes()];
    for entry in fs::read_dir(stack.state()).unwrap() {
        places.push(fs::read(entry.unwrap().path()).unwrap());
    }
    let hex = hex::encode(&share).into_bytes();
    for place in places {
        assert!(!place.windows(32).any(|part| part == share));
        assert!(!place.windows(64).any(|part| part == hex));
    }
    let audit = fs::read_to_string(keyholders.directory(1).join("audit.log")).unwrap();
    assert!(
        audit.contains("\"operation\":\"enrol\"") && audit.contains("\"operation\":\"release\"")
    );
    assert!(!audit.as_bytes().windows(64).any(|part| part == hex));
}

/// Starts another image on the same lab: whether it comes up, or what it says instead.
async fn image(stack: &Stack, image: &str, run: &str, refusal: &str) -> bool {
    image_at(stack, image, "0", run, refusal).await
}

async fn image_at(stack: &Stack, image: &str, svn: &str, run: &str, refusal: &str) -> bool {
    let lab = stack.files().dir().to_str().unwrap();
    let arguments = [
        "serve",
        "--state",
        lab,
        "--image",
        image,
        "--guest-svn",
        svn,
    ];
    let mut service = Process::start(&binary("tokenkeep-dev"), &arguments, stack.logs(), run);
    let up = if refusal.is_empty() {
        service.ready().await.is_ok()
    } else {
        logged(stack.logs(), run, 0, refusal).await;
        false
    };
    service.kill().await;
    up
}

#[tokio::test]
async fn an_image_opens_the_old_state_only_if_the_manifest_and_the_keyholders_allow_it() {
    let (mut stack, keyholders) = held(1, 1).await;
    stack.kill().await;
    let one = hex::encode(measurement(names::IMAGE));
    let two = hex::encode(measurement("two"));
    let signer = fs::read_to_string(stack.files().path(lab::POLICY)).unwrap();
    let both = signer.replace(&format!("\"{one}\""), &format!("\"{one}\", \"{two}\""));
    assert_ne!(both, signer);
    let plain = fs::read_to_string(stack.files().path(lab::MANIFEST)).unwrap();
    let images = |list: &[&str]| {
        let list: Vec<String> = list.iter().map(|image| format!("\"{image}\"")).collect();
        format!("\n[images]\nmeasurements = [{}]\n", list.join(", "))
    };
    let manifest = |sequence: u64, more: &str| {
        let text = plain.replacen("sequence = 2", &format!("sequence = {sequence}"), 1);
        sign(stack.files(), |_| format!("{text}{more}"));
    };

    // The keyholder's reference values do not name it, whatever the manifest says.
    manifest(3, &images(&[&one, &two]));
    assert!(!image(&stack, "two", "by-keyholder", "EVIDENCE_REFUSED").await);
    // The keyholder allows it, the manifest does not.
    keyholders.allow(&both);
    manifest(4, &images(&[&one]));
    let named = format!("it does not name the measurement {two}");
    assert!(!image(&stack, "two", "by-manifest", &named).await);
    // Both allow it: the state opens, and remembers the manifest.
    manifest(5, &images(&[&two]));
    assert!(image(&stack, "two", "allowed", "").await);
    // Back to the image before: this manifest forbids it, and the one that allowed it is older than the newest seen.
    let named = format!("it does not name the measurement {one}");
    assert!(!image(&stack, names::IMAGE, "back", &named).await);
    manifest(3, &images(&[&one, &two]));
    assert!(!image(&stack, names::IMAGE, "older", "MANIFEST_LOWER").await);
    // The manifest's floor: the same image is refused below it, and opens at it.
    let floor = format!("{}min_guest_svn = 2\n", images(&[&one, &two]));
    manifest(6, &floor);
    let below = "its guest SVN is 1, and at least 2 is asked for";
    assert!(!image_at(&stack, "two", "1", "below-the-floor", below).await);
    assert!(image_at(&stack, "two", "2", "at-the-floor", "").await);
    // Going back below it takes a manifest of its signer, not an old one.
    manifest(5, &images(&[&one, &two]));
    assert!(!image(&stack, "two", "floor-undone", "MANIFEST_LOWER").await);
    // Nothing was lost on the way.
    manifest(7, &images(&[&one, &two]));
    stack.restart().await;
    works(&stack).await;
}

#[tokio::test]
async fn when_keyholders_are_lost_two_of_three_recovery_shares_open_the_state() {
    recovered(Platform::Snp).await;
}

#[tokio::test]
async fn a_tdx_state_opens_with_recovery_shares_too() {
    recovered(Platform::Tdx).await;
}

async fn recovered(platform: Platform) {
    let (mut stack, lost) = held_on(platform, 1, 1).await;
    stack.kill().await;
    let shell = Shell::new(&stack.logs().join("shell.txt"), &[]);
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let made = shell.run(&["--json", "recovery", "split", dir]).await;
    assert_eq!(made.code, 0, "{}", made.stderr);
    let made: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
    let recovery = format!("\n[recovery]\nkey = {}\n", made["key"]);
    raise(&stack, 3, &recovery);
    stack.restart().await;
    assert!(stack.log().contains("root_rewrapped"));
    stack.kill().await;

    // The keyholder is gone with its disk. The manifest names another one.
    let gone = lost.manifest(1);
    drop(lost);
    let other = Keyholders::start(1, stack.files(), stack.url("issuer")).await;
    sign(stack.files(), |manifest| {
        manifest
            .replacen("sequence = 3", "sequence = 4", 1)
            .replace(&gone, &other.manifest(1))
    });
    let share = |number: u8| format!("{dir}/share-{number}.txt");
    let keyholder = other.directory(0);
    let keyholder = keyholder.to_str().unwrap().to_owned();
    let combine = async |shares: &[&str]| {
        let mut arguments = vec!["recovery", "combine", "--keyholder", &keyholder];
        arguments.extend(shares);
        shell.run(&arguments).await
    };
    let few = combine(&[share(1).as_str()]).await;
    assert_eq!(few.code, 2);
    assert!(
        few.stderr.contains("1 of the 2 shares that are needed"),
        "{}",
        few.stderr
    );
    let (logs, from) = (stack.logs().to_owned(), stack.log().len());
    let recovered = async {
        logged(&logs, "service", from, "keyholders_awaited").await;
        let (one, three) = (share(1), share(3));
        let combined = combine(&[one.as_str(), three.as_str()]).await;
        assert_eq!(combined.code, 0, "{}", combined.stderr);
    };
    let ((), ()) = tokio::join!(stack.restart(), recovered);
    works(&stack).await;
    assert!(
        stack.log()[from..].contains("\"by\":\"recovery\""),
        "{}",
        &stack.log()[from..]
    );
    // From now on the new keyholder opens it.
    assert_eq!(other.shares(0), (1, 0));
    let set = made["set"].as_str().unwrap();
    let arguments = ["recovery", "withdraw", set, "--keyholder", &keyholder];
    assert_eq!(shell.run(&arguments).await.code, 0);
    stack.kill().await;
    stack.restart().await;
    works(&stack).await;
}

#[tokio::test]
async fn an_export_opens_with_the_shares_of_those_who_hold_the_state() {
    let (mut stack, mut keyholders) = held(1, 1).await;
    works(&stack).await;
    assert_eq!(stack.stop().await.code(), Some(0));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.tkexport");
    let store = async |command: &str| {
        tokio::process::Command::new(binary("tokenkeep-dev"))
            .args(["store", "--state"])
            .arg(stack.files().dir())
            .args([command, "--json"])
            .arg(&file)
            .stdout(std::process::Stdio::null())
            .stderr(fs::File::create(stack.logs().join("store.err")).unwrap())
            .kill_on_drop(true)
            .status()
            .await
            .unwrap()
    };
    assert!(store("export").await.success());
    fs::rename(stack.state(), folder.path().join("lost")).unwrap();
    // Without the keyholder the file opens for nobody: it is waited for.
    keyholders.stop(0).await;
    let (logs, waited) = (stack.logs().to_owned(), async {
        logged(stack.logs(), "store", 0, "keyholders_awaited").await;
        keyholders.start_again(0).await;
    });
    let (imported, ()) = tokio::join!(store("import"), waited);
    let said = fs::read_to_string(logs.join("store.err")).unwrap();
    assert!(imported.success(), "{said}");
    stack.restart().await;
    works(&stack).await;
}

/// How far the tenant's erasure is, as `tenant show` says it.
async fn erasure(shell: &Shell) -> (String, Vec<String>) {
    let arguments = ["--json", "tenant", "show", names::TENANT];
    let shown = shell.run(&arguments).await.json();
    let waits_for = shown["waits_for"].as_array().unwrap().iter();
    (
        shown["erasure"].as_str().unwrap().to_owned(),
        waits_for
            .map(|name| name.as_str().unwrap().to_owned())
            .collect(),
    )
}

#[tokio::test]
async fn an_erased_tenant_opens_nowhere_once_all_keyholders_have_confirmed() {
    let mut stack = Stack::start(Blueprint::default()).await;
    let mut keyholders = Keyholders::start(3, stack.files(), stack.url("issuer")).await;
    stack.kill().await;
    raise(&stack, 2, &keyholders.manifest(2));
    fs::remove_dir_all(stack.files().path(lab::KEYHOLDER)).unwrap();
    stack.begin_anew().await;
    let shell = crate::keys::admin(&stack);
    works(&stack).await;
    let folder = tempfile::tempdir().unwrap();
    let copied = |name: &str| folder.path().join(name);
    copy(&stack.state(), &copied("before"));

    // Nobody erases by a slip.
    let slip = shell.run(&["tenant", "erase", names::TENANT]).await;
    assert_eq!(slip.code, 2);
    assert!(slip.stderr.contains("--yes-erase"), "{}", slip.stderr);
    works(&stack).await;

    // With a keyholder down there is no new root: nothing is served, and nothing is called done.
    keyholders.stop(2).await;
    let arguments = [
        "--json",
        "tenant",
        "erase",
        names::TENANT,
        "--yes-erase",
        names::TENANT,
    ];
    let begun = shell.run(&arguments).await.json();
    assert_eq!(begun["erasure"], "pending", "{begun}");
    assert!(!stack.try_issue().await);
    let awaited = vec!["a new root key: every keyholder must make a new share".to_owned()];
    assert_eq!(
        erasure(&shell).await,
        ("pending".to_owned(), awaited.clone())
    );
    // A crash and a start by the other two change nothing of that.
    stack.kill().await;
    stack.restart().await;
    assert!(!stack.try_issue().await);
    assert_eq!(erasure(&shell).await, ("pending".to_owned(), awaited));

    // It is back: a new root, and all three destroy their shares of the old one.
    keyholders.start_again(2).await;
    wait_for("the erasure is done", async || {
        let (state, waits_for) = erasure(&shell).await;
        (state == "done" && waits_for.is_empty()).then_some(())
    })
    .await;
    for number in 0..3 {
        let (held, destroyed) = keyholders.shares(number);
        // The crash may have left one that was made and never used.
        assert!((1..=2).contains(&held), "{number}");
        assert!(destroyed >= 1, "{number}");
    }
    // For auditors all of that is in order.
    let audited = shell.run(&["--json", "audit", "verify"]).await;
    assert_eq!(audited.code, 0, "{audited:?}");
    // The store has nothing of it any more, the id is not used again, and the newest state starts.
    let again = ["--json", "tenant", "create", names::TENANT];
    assert_eq!(shell.run(&again).await.refusal().1, "INVALID_REQUEST");
    stack.kill().await;
    stack.restart().await;
    assert_eq!(erasure(&shell).await.0, "done");
    assert!(!stack.try_issue().await);

    // The copy of the disk from before the erasure opens nowhere: its shares are gone.
    stack.kill().await;
    copy(&stack.state(), &copied("newest"));
    put_back(&copied("before"), &stack.state());
    assert!(!image(&stack, names::IMAGE, "old-copy", "SHARE_DESTROYED").await);
    put_back(&copied("newest"), &stack.state());
    stack.restart().await;
    assert_eq!(erasure(&shell).await.0, "done");
}

#[tokio::test]
async fn a_share_that_nobody_asks_for_is_destroyed_by_hand() {
    let (mut stack, keyholders) = held(1, 1).await;
    stack.kill().await;
    let shell = Shell::new(&stack.logs().join("shell.txt"), &[]);
    let directory = keyholders.directory(0);
    let directory = directory.to_str().unwrap();
    let listed = shell.run(&["--json", "keyholder", "list", directory]).await;
    let listed = listed.json();
    let share = listed["deployments"][0]["shares"][0].as_str().unwrap();
    let issuer = stack.url("issuer");
    let destroy = async |issuer: &str, share: &str, more: &[&str]| {
        let arguments = ["keyholder", "destroy", directory, issuer, share];
        shell.run(&[&arguments, more].concat()).await
    };
    assert_eq!(destroy(issuer, share, &[]).await.code, 2);
    let yes = ["--yes-destroy"];
    assert_eq!(destroy(issuer, "00-11", &yes).await.code, 2);
    assert_eq!(destroy("https://other.test", share, &yes).await.code, 2);
    assert_eq!(keyholders.shares(0), (1, 0));
    assert_eq!(destroy(issuer, share, &yes).await.code, 0);
    assert_eq!(keyholders.shares(0), (0, 1));
    assert!(!image(&stack, names::IMAGE, "destroyed", "SHARE_DESTROYED").await);
}
