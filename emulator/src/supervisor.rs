//! Keeps the function running: one execution environment after another.

use std::future::pending;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::environment::Environment;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::start_error::StartError;

/// The delay before a function that has ended is started again. It doubles with each failed start.
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
const LAST_BACK_OFF: Duration = Duration::from_secs(5);

/// An executable to run in place of the current one, and where to say what came of it.
pub(crate) type Replacement = (PathBuf, oneshot::Sender<Result<(), StartError>>);

pub(crate) struct Supervisor {
    /// What runs or is to be started again.
    pub(crate) settings: Settings,
    pub(crate) shared: Arc<Shared>,
    pub(crate) requests: mpsc::Receiver<Replacement>,
    /// What runs, unless it has ended.
    pub(crate) current: Option<Environment>,
    /// Replaced environments that finish what they have in flight.
    pub(crate) draining: JoinSet<()>,
}

impl Drop for Supervisor {
    /// Turns waiting callers away.
    fn drop(&mut self) {
        self.shared.invocations.terminate();
    }
}

impl Supervisor {
    /// Keeps the function running until terminated. Returns how the last process ended.
    pub(crate) async fn run(mut self, terminated: oneshot::Receiver<()>) -> Option<ExitStatus> {
        tokio::select! {
            () = self.supervise() => {}
            _ = terminated => {}
        }
        self.current.take()?.terminate().await
    }

    /// Starts the function again whenever it ends, and replaces it on request, for ever.
    async fn supervise(&mut self) {
        let mut back_off = FIRST_BACK_OFF;
        loop {
            let has_ended = self.current.is_none();
            let restart = async {
                sleep(back_off).await;
                Environment::start(&self.settings, &self.shared).await
            };
            tokio::select! {
                status = ended(&mut self.current) => {
                    self.shared.pid.send_replace(None);
                    self.current = None;
                    warn!("the function has ended ({status}); starting it again");
                    back_off = FIRST_BACK_OFF;
                }
                started = restart, if has_ended => match started {
                    Ok(environment) => {
                        self.shared.pid.send_replace(environment.pid());
                        self.current = Some(environment);
                        info!("the function is running again");
                    }
                    Err(error) => {
                        warn!("{error}");
                        self.shared.invocations.fail_waiting(&error);
                        back_off = LAST_BACK_OFF.min(back_off * 2);
                    }
                },
                Some(replacement) = self.requests.recv() => self.replace(replacement).await,
            }
        }
    }

    /// Starts another executable while the current environment runs, or ends.
    async fn replace(&mut self, (bootstrap, outcome): Replacement) {
        let settings = Settings {
            bootstrap,
            ..self.settings.clone()
        };
        let started = {
            let start = Environment::start(&settings, &self.shared);
            tokio::pin!(start);
            tokio::select! {
                started = &mut start => started,
                _ = ended(&mut self.current) => {
                    self.shared.pid.send_replace(None);
                    start.await
                }
            }
        };
        let replaced = started.map(|environment| {
            self.settings = settings;
            self.shared.pid.send_replace(environment.pid());
            if let Some(old) = self.current.replace(environment) {
                while self.draining.try_join_next().is_some() {}
                self.draining.spawn(old.drain());
            }
        });
        let _ = outcome.send(replaced);
    }
}

/// Waits until an environment ends, if there is one.
async fn ended(environment: &mut Option<Environment>) -> ExitStatus {
    match environment {
        Some(environment) => environment.exited().await,
        None => pending().await,
    }
}
