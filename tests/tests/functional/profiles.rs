//! Providers that are registered by their profiles, as an operator does it.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::fs;

use tests::stack::{Blueprint, Stack, sign};

use crate::keys::admin;

#[tokio::test]
async fn a_provider_is_registered_by_a_profile_that_is_measured_or_signed() {
    let mut stack = Stack::start(Blueprint::default()).await;
    let shell = admin(&stack);
    let create = ["--json", "provider", "create"];
    let measured = ["acme-crm", "--profile", "salesforce"];
    let without = shell.run(&[&create[..], &measured].concat()).await;
    assert_eq!(without.code, 1);
    assert!(without.stderr.contains("such as"), "{}", without.stderr);
    let set = ["--set", "domain=acme.my.salesforce.com"];
    let made = shell.run(&[&create[..], &measured, &set].concat()).await;
    let made = made.json();
    assert_eq!(
        made["token_endpoint"],
        "https://acme.my.salesforce.com/services/oauth2/token"
    );
    assert_eq!(made["rotation"], "strict");
    let from = made["made_from"].as_str().unwrap();
    assert!(from.starts_with("salesforce domain=acme.my.salesforce.com version=v61.0 "));
    assert!(from.ends_with("part of the image)"), "{from}");

    // One of our own: refused until the manifest names its signer.
    let google = profiles::shipped::find("google").unwrap().toml;
    let own = google.replace("id = \"google\"", "id = \"own\"");
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (toml, sig, key) = (path("own.toml"), path("own.sig"), path("own.key"));
    let made = shell.run(&["key", "new", &key]).await;
    assert_eq!(made.code, 0, "{}", made.stderr);
    // What breaks a rule is not signed, nor by what is no key.
    fs::write(&toml, own.replace("id = \"own\"", "id = \"Own\"")).unwrap();
    let signing = ["--json", "provider", "sign", &toml, "--key", &key];
    let faulty = shell.run(&signing).await;
    assert_eq!(faulty.code, 1);
    assert!(
        faulty.stderr.contains("is not signed: id"),
        "{}",
        faulty.stderr
    );
    fs::write(&toml, &own).unwrap();
    let no_key = shell
        .run(&["provider", "sign", &toml, "--key", &toml])
        .await;
    assert_eq!(no_key.code, 2, "{}", no_key.stderr);
    let signed = shell.run(&signing).await.json();
    let signer = signed["signer"].as_str().unwrap().to_owned();
    assert_eq!(signed["id"], "own");
    fs::write(&sig, signed["signature"].as_str().unwrap()).unwrap();
    let signed = ["own", "--profile-file", &toml, "--profile-signature", &sig];
    let refused = shell.run(&[&create[..], &signed].concat()).await;
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("signer"), "{}", refused.stderr);
    stack.kill().await;
    sign(stack.files(), |manifest| {
        let manifest = manifest.replacen("sequence = 1", "sequence = 2", 1);
        format!("{manifest}\n[profiles]\nsigners = [\"{signer}\"]\n")
    });
    stack.restart().await;
    let shell = admin(&stack);
    let made = shell.run(&[&create[..], &signed].concat()).await.json();
    assert_eq!(made["rotation"], "never");
    let from = made["made_from"].as_str().unwrap();
    assert!(from.ends_with(&format!("signed by {signer})")), "{from}");
    // It is still there, and still says so.
    stack.kill().await;
    stack.restart().await;
    let shown = admin(&stack)
        .run(&["--json", "provider", "show", "own"])
        .await
        .json();
    assert_eq!(shown["made_from"], made["made_from"]);
}
