//! `--watch`: replaces the running function when its files change.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use emulator::{Emulator, Target, collect_files};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{info, warn};

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// The time between two looks at the files. Looking works on every file system, and takes less time
/// than setting up notifications.
const PERIOD: Duration = Duration::from_millis(250);

/// What a file looked like: its time and length.
type Stamp = (PathBuf, Option<(SystemTime, u64)>);

/// What a function is started from.
#[derive(Clone)]
pub(crate) enum Origin {
    Built(Box<Target>),
    Bootstrap(PathBuf),
}

impl Origin {
    /// Builds the function, if need be.
    pub(crate) async fn executable(&self) -> Result<PathBuf, Error> {
        match self.clone() {
            Self::Built(target) => Ok(spawn_blocking(move || target.build()).await??),
            Self::Bootstrap(path) => Ok(path),
        }
    }
}

/// The files that a function is made of.
pub(crate) struct Watch {
    origin: Origin,
    /// Further files and directories.
    paths: Vec<PathBuf>,
    seen: Vec<Stamp>,
}

impl Watch {
    /// Looks at the files. Every change from now on counts, those during the first build included.
    pub(crate) fn new(origin: Origin, paths: Vec<PathBuf>) -> Self {
        let mut watch = Self {
            origin,
            paths,
            seen: Vec::new(),
        };
        watch.seen = watch.look();
        watch
    }

    fn look(&self) -> Vec<Stamp> {
        let mut files = match &self.origin {
            Origin::Built(target) => target.sources(),
            Origin::Bootstrap(path) => vec![path.clone()],
        };
        for path in &self.paths {
            collect_files(path, &mut files);
        }
        let mut stamps: Vec<_> = files.into_iter().map(stamp).collect();
        stamps.sort_unstable();
        stamps
    }

    /// Replaces the function whenever the files change, for ever.
    pub(crate) async fn run(mut self, emulator: &Emulator) {
        loop {
            let now = self.settled_change().await;
            let files = changed_files(&self.seen, &now);
            self.seen = now;
            match self.replace(emulator, &files).await {
                Ok(()) => info!(
                    "the new function is running as process {}; the old one finishes what it has in \
                     flight",
                    emulator.pid().unwrap_or_default()
                ),
                Err(error) => warn!("{error}; the old function keeps running"),
            }
        }
    }

    async fn replace(&self, emulator: &Emulator, files: &str) -> Result<(), Error> {
        match self.origin {
            Origin::Built(_) => info!("{files} changed: building the function"),
            Origin::Bootstrap(_) => info!("{files} changed: starting the function again"),
        }
        Ok(emulator.replace(self.origin.executable().await?).await?)
    }

    /// Waits until files have changed and then not changed again for a period.
    async fn settled_change(&self) -> Vec<Stamp> {
        let mut last = self.look();
        loop {
            sleep(PERIOD).await;
            let now = self.look();
            if now == last && now != self.seen {
                return now;
            }
            last = now;
        }
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
    // A file that was edited is in both lists.
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}
