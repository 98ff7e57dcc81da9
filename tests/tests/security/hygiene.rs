//! The process leaves nothing behind: no core dump, no page in the swap.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test may panic")]

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use tests::stack::Stack;

const SIGABRT: i32 = 6;

/// A line of a file of `/proc`, behind its name.
fn line(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("{name} in {text}"))
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[tokio::test]
async fn the_service_leaves_no_core_dump() {
    let mut stack = Stack::start(Default::default()).await;
    let id = stack.service().id();
    let limits = fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
    assert_eq!(line(&limits, "Max core file size"), "0 0 bytes");
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let locked = line(&status, "VmLck:");
    // Where locking is not allowed the log says so.
    assert_eq!(
        stack.log().contains("memory is not locked"),
        locked == "0 kB",
        "{locked}"
    );

    abort(id);
    let ended = stack.ended().await;
    assert_eq!(
        (ended.signal(), ended.core_dumped()),
        (Some(SIGABRT), false)
    );

    // Any other program that dies so here leaves one, if the system keeps any.
    let folder = tempfile::tempdir().unwrap();
    let other = Command::new("sh")
        .args(["-c", "ulimit -c unlimited && kill -ABRT $$"])
        .current_dir(folder.path())
        .status()
        .unwrap();
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    if other.signal() == Some(SIGABRT) && !pattern.trim().is_empty() {
        assert!(other.core_dumped(), "{pattern}");
    }
}

fn abort(id: u32) {
    let told = Command::new("sh")
        .args(["-c", &format!("kill -ABRT {id}")])
        .status()
        .unwrap();
    assert!(told.success());
}
