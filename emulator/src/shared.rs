//! What the servers and the execution environments of an emulator share.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::sync::{Semaphore, watch};

use crate::body::ROOM;
use crate::faults::Faults;
use crate::invocations::Invocations;
use crate::logs::Logs;
use crate::settings::Settings;

pub(crate) struct Shared {
    /// With the ports that were free.
    pub(crate) settings: Settings,
    pub(crate) invocations: Arc<Invocations>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) faults: Faults,
    /// For events.
    pub(crate) room: Arc<Semaphore>,
    /// The function's process, if it is ours and has not ended.
    pub(crate) pid: watch::Sender<Option<u32>>,
    /// What has happened in the last minute, oldest first, for the console.
    pub(crate) samples: Mutex<VecDeque<Value>>,
}

impl Shared {
    pub(crate) fn new(settings: Settings) -> Self {
        let logs = Arc::new(Logs::new(settings.echo));
        Self {
            invocations: Arc::new(Invocations::new(&settings, Arc::clone(&logs))),
            logs,
            faults: Faults::default(),
            room: Arc::new(Semaphore::new(ROOM)),
            pid: watch::Sender::default(),
            samples: Mutex::default(),
            settings,
        }
    }
}
