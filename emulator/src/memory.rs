//! The memory that processes take, as Linux reports it.

use std::fs;

/// The memory that a process and its descendants take, in bytes. What some of them share counts once.
pub(crate) fn of_tree(root: u32) -> u64 {
    let (mut bytes, mut left) = (0, vec![root]);
    while let Some(pid) = left.pop() {
        bytes += proportional(pid).unwrap_or_default();
        let threads = fs::read_dir(format!("/proc/{pid}/task"));
        for thread in threads.into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children"));
            let children = children.unwrap_or_default();
            left.extend(children.split_whitespace().flat_map(str::parse::<u32>));
        }
    }
    bytes
}

/// The memory of one process. What it shares with others counts as divided among them.
fn proportional(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}
