//! `--watch`: replaces the running function when its sources change.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use emulator::Emulator;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::on_thread;

/// The time between two looks at the files. Looking works on every file system, and takes less time
/// than setting up notifications.
const PERIOD: Duration = Duration::from_millis(250);

/// What a file looked like: its time and length.
type Stamp = (PathBuf, Option<(SystemTime, u64)>);

/// Watches this repository's sources, or else the executable, for ever.
pub(crate) async fn watch(emulator: &Emulator, bootstrap: &Path, is_ours: bool) {
    let look = || {
        let files = if is_ours {
            emulator::sources()
        } else {
            vec![bootstrap.to_owned()]
        };
        let mut stamps: Vec<_> = files.into_iter().map(stamp).collect();
        stamps.sort_unstable();
        stamps
    };
    let mut current = look();
    loop {
        let changed = settled_change(&current, look).await;
        let files = changed_files(&current, &changed);
        current = changed;
        let replaced = async {
            let executable = if is_ours {
                info!("{files} changed: building the function");
                on_thread(emulator::rebuild_function).await??
            } else {
                info!("{files} changed: starting it");
                bootstrap.to_owned()
            };
            Ok::<_, crate::Error>(emulator.replace(executable).await?)
        };
        match replaced.await {
            Ok(()) => info!(
                "the new function is running as process {}; the old one finishes what it has in flight",
                emulator.pid().unwrap_or_default()
            ),
            Err(error) => warn!("{error}; the old function keeps running"),
        }
    }
}

/// Waits until files have changed and then not changed again for a period.
async fn settled_change(before: &[Stamp], look: impl Fn() -> Vec<Stamp>) -> Vec<Stamp> {
    let mut last = look();
    loop {
        sleep(PERIOD).await;
        let now = look();
        if now == last && now != before {
            return now;
        }
        last = now;
    }
}

fn stamp(file: PathBuf) -> Stamp {
    let metadata = fs::metadata(&file);
    let stamp = metadata.and_then(|metadata| Ok((metadata.modified()?, metadata.len())));
    (file, stamp.ok())
}

/// The names of the files that differ.
fn changed_files(before: &[Stamp], after: &[Stamp]) -> String {
    let differs = |one: &&Stamp, others: &[Stamp]| others.binary_search(one).is_err();
    let mut names: Vec<_> = (after.iter().filter(|one| differs(one, before)))
        .chain(before.iter().filter(|one| differs(one, after)))
        .filter_map(|(file, _)| file.file_name())
        .map(|name| name.to_string_lossy())
        .collect();
    names.dedup();
    names.join(", ")
}
