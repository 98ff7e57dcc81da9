//! Tests of browsers that come back to the public listener: whose consent it is, once, and what is typed.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails"
)]

use super::tests::{ISSUER, asked, callback, form, world};
use super::*;
use crate::admin::AdminError;
use crate::testing::World;

fn begin(world: &World) -> ConnectBegun {
    let mut asked = asked(world, "new");
    asked.redirect_uri = None;
    let begun = world
        .enclave
        .begin_connect(world.admin(), asked, &world.now);
    begun.unwrap()
}

fn came(world: &World, state: &str, iss: Option<&str>) -> Result<Came, AdminError> {
    let callback = callback(state, iss);
    world.enclave.browser_came(callback, &world.now)
}

fn awaited(world: &World, state: &str) -> Result<Awaited, AdminError> {
    let by = world.admin();
    world.enclave.awaited_connect(by, state, &world.now)
}

fn confirm(world: &World, state: &str, typed: &str) -> Result<CodeExchange, AdminError> {
    let by = world.admin();
    world.enclave.confirm_connect(by, state, typed, &world.now)
}

fn refused<T>(error: ConnectError) -> Result<T, AdminError> {
    Err(AdminError::Connect(error))
}

/// Nothing of it is under way.
fn none<T>() -> Result<T, AdminError> {
    refused(ConnectError::NotUnderWay)
}

#[test]
fn what_the_page_shows_brings_browser_and_terminal_together() {
    let world = world(false, false);
    let begun = begin(&world);
    let back = format!("{}{CALLBACK_PATH}", world.enclave.config().public_origin);
    assert_eq!(begun.redirect_uri, back);
    assert_eq!(awaited(&world, &begun.state), Ok(Awaited::Pending));
    // Nothing to confirm yet, and no short cut around the page.
    assert_eq!(confirm(&world, &begun.state, "").map(|_| ()), none());
    let direct = callback(&begun.state, None);
    let direct = world
        .enclave
        .take_callback(world.admin(), direct, &world.now);
    assert_eq!(direct.map(|_| ()), none());

    let page = came(&world, &begun.state, None).unwrap();
    assert_eq!(page.grant.id.as_str(), "new");
    assert_eq!(page.by, world.admin().name);
    let letters = page.confirmation.replace('-', "");
    assert_eq!((page.confirmation.len(), letters.len()), (9, 8));
    assert!(
        letters
            .bytes()
            .all(|b| b"BCDFGHJKLMNPQRSTVWXZ".contains(&b))
    );
    assert_eq!(awaited(&world, &begun.state), Ok(Awaited::Came));
    // Once: another code does not take its place.
    assert_eq!(came(&world, &begun.state, None), none());

    // As people type.
    let typed = format!(" {} ", page.confirmation.to_lowercase().replace('-', " "));
    let exchange = confirm(&world, &begun.state, &typed).unwrap();
    let request = world.enclave.exchange_code(&exchange, &world.now).unwrap();
    let form = form(&request);
    assert_eq!(
        (form["code"].as_str(), form["redirect_uri"].as_str()),
        ("code-1", &*back)
    );
    assert_eq!(confirm(&world, &begun.state, &typed).map(|_| ()), none());
    assert_eq!(awaited(&world, &begun.state), none());
}

#[test]
fn nobody_else_waits_for_it_or_confirms_it() {
    let world = world(false, false);
    let begun = begin(&world);
    let page = came(&world, &begun.state, None).unwrap();
    let mut other = world.admin().clone();
    other.spki_sha256 = [9; 32];
    let waits = world
        .enclave
        .awaited_connect(&other, &begun.state, &world.now);
    assert_eq!(waits, none());
    let confirms =
        world
            .enclave
            .confirm_connect(&other, &begun.state, &page.confirmation, &world.now);
    assert_eq!(confirms.map(|_| ()), none());
    assert!(confirm(&world, &begun.state, &page.confirmation).is_ok());
}

#[test]
fn after_the_fifth_that_is_wrong_the_consent_is_of_no_use() {
    let world = world(false, false);
    let begun = begin(&world);
    let page = came(&world, &begun.state, None).unwrap();
    for typed in ["", "BBBB-BBBB", "x", "\u{e9}", "bcdf"] {
        let found = confirm(&world, &begun.state, typed).map(|_| ());
        assert_eq!(found, refused(ConnectError::Confirmation), "{typed}");
    }
    let late = confirm(&world, &begun.state, &page.confirmation).map(|_| ());
    assert_eq!(late, refused(ConnectError::NotUnderWay));
}

#[test]
fn a_stranger_learns_nothing_and_spoils_nothing() {
    let mut world = world(false, false);
    let begun = begin(&world);
    assert_eq!(came(&world, "another-state", None), none());
    let no = world
        .enclave
        .browser_was_refused("another-state", &world.now);
    assert_eq!(no, none());
    // What comes back to a terminal does not come back here.
    let terminal = world
        .enclave
        .begin_connect(world.admin(), asked(&world, "other"), &world.now);
    let terminal = terminal.unwrap();
    assert_eq!(came(&world, &terminal.state, None), none());
    assert_eq!(awaited(&world, &terminal.state), none());
    assert_eq!(awaited(&world, &begun.state), Ok(Awaited::Pending));
    world.now.mono_ms += LIFETIME_MS;
    assert_eq!(came(&world, &begun.state, None), none());
    assert_eq!(awaited(&world, &begun.state), none());
}

#[test]
fn whoever_began_is_told_why_nothing_comes_of_it_once() {
    let evil = Some("https://evil.example");
    let rows = [
        (false, evil, ConnectError::Issuer),
        (true, None, ConnectError::NoIssuer),
    ];
    for (demanded, iss, error) in rows {
        let world = world(demanded, false);
        let begun = begin(&world);
        assert_eq!(came(&world, &begun.state, iss), refused(error.clone()));
        // The right one comes too late.
        let again = came(&world, &begun.state, Some(ISSUER));
        assert_eq!(again, refused(ConnectError::NotUnderWay));
        assert_eq!(awaited(&world, &begun.state), refused(error));
        let gone = refused(ConnectError::NotUnderWay);
        assert_eq!(awaited(&world, &begun.state), gone);
    }
    let world = world(false, false);
    let begun = begin(&world);
    let noted = world.enclave.browser_was_refused(&begun.state, &world.now);
    assert_eq!(noted, Ok(()));
    assert_eq!(awaited(&world, &begun.state), refused(ConnectError::Denied));
}
