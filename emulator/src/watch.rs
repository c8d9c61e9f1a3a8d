//! `--watch`: replaces the running function when its files change.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use emulator::{Emulator, Target, collect_files};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{info, warn};

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// The time between two looks at the files. Looking works on every file system, and takes less time
/// than setting up notifications.
const PERIOD: Duration = Duration::from_millis(250);

/// What the files look like: the time and length of each.
type Look = BTreeSet<(PathBuf, Option<(SystemTime, u64)>)>;

/// What a function is started from.
#[derive(Clone)]
pub(crate) enum Origin {
    Built(Arc<Target>),
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
    seen: Look,
}

impl Watch {
    /// Looks at the files. Every change from now on counts, those during the first build included.
    pub(crate) fn new(origin: Origin, paths: Vec<PathBuf>) -> Self {
        let mut watch = Self {
            origin,
            paths,
            seen: Look::new(),
        };
        watch.seen = watch.look();
        watch
    }

    fn look(&self) -> Look {
        let mut files = match &self.origin {
            Origin::Built(target) => target.sources(),
            Origin::Bootstrap(path) => vec![path.clone()],
        };
        for path in &self.paths {
            collect_files(path, &mut files);
        }
        let look_at = |file: PathBuf| {
            let metadata = fs::metadata(&file);
            let look = metadata.and_then(|metadata| Ok((metadata.modified()?, metadata.len())));
            (file, look.ok())
        };
        files.into_iter().map(look_at).collect()
    }

    /// Replaces the function whenever the files change, for ever.
    pub(crate) async fn run(mut self, emulator: &Emulator) {
        loop {
            let now = self.settled_change().await;
            // A file that was edited differs twice.
            let changed: BTreeSet<_> = (now.symmetric_difference(&self.seen))
                .filter_map(|(file, _)| file.file_name()?.to_str())
                .collect();
            let what = match self.origin {
                Origin::Built(_) => "building the function",
                Origin::Bootstrap(_) => "starting the function again",
            };
            let changed: Vec<_> = changed.into_iter().collect();
            info!("{} changed: {what}", changed.join(", "));
            self.seen = now;
            let replaced = async {
                let executable = self.origin.executable().await?;
                Ok::<_, Error>(emulator.replace(executable).await?)
            };
            match replaced.await {
                Ok(()) => info!(
                    "the new function is running as process {}; the old one finishes what it has in \
                     flight",
                    emulator.pid().unwrap_or_default()
                ),
                Err(error) => warn!("{error}; the old function keeps running"),
            }
        }
    }

    /// Waits until files have changed and then not changed again for a period.
    async fn settled_change(&self) -> Look {
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
