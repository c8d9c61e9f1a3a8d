//! Keeps the function running: one execution environment after another.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::environment::{Environment, Shared};
use crate::settings::Settings;
use crate::start_error::StartError;

/// The delay before a function that has ended is started again. It doubles with each failed start.
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
const LAST_BACK_OFF: Duration = Duration::from_secs(5);

/// An executable to run in place of the current one.
pub(crate) struct Replacement {
    pub(crate) bootstrap: PathBuf,
    pub(crate) outcome: oneshot::Sender<Result<(), StartError>>,
}

pub(crate) struct Supervisor {
    pub(crate) settings: Settings,
    pub(crate) shared: Arc<Shared>,
    pub(crate) pid: watch::Sender<Option<u32>>,
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
    /// Starts the function again whenever it ends, and replaces it on request, until terminated.
    /// Returns how the last process ended.
    pub(crate) async fn run(
        mut self,
        mut environment: Environment,
        mut requests: mpsc::Receiver<Replacement>,
        mut terminated: oneshot::Receiver<()>,
    ) -> Option<ExitStatus> {
        loop {
            tokio::select! {
                status = environment.exited() => {
                    self.pid.send_replace(None);
                    warn!("the function has ended ({status}); starting it again");
                    environment = tokio::select! {
                        environment = self.restart(&mut requests) => environment,
                        _ = &mut terminated => return None,
                    };
                    info!("the function is running again");
                }
                Some(replacement) = requests.recv() => {
                    let replaced = tokio::select! {
                        replaced = self.replace(replacement, Some(&mut environment)) => replaced,
                        _ = &mut terminated => return environment.terminate().await,
                    };
                    if let Some(new) = replaced {
                        self.drain(std::mem::replace(&mut environment, new));
                    }
                }
                _ = &mut terminated => return environment.terminate().await,
            }
        }
    }

    /// Starts the function, or what is asked for in its place, until it polls.
    async fn restart(&mut self, requests: &mut mpsc::Receiver<Replacement>) -> Environment {
        let mut back_off = FIRST_BACK_OFF;
        loop {
            let start = async {
                sleep(back_off).await;
                Environment::start(&self.settings, &self.shared).await
            };
            tokio::select! {
                started = start => match started {
                    Ok(environment) => {
                        self.pid.send_replace(environment.pid());
                        return environment;
                    }
                    Err(error) => {
                        warn!("{error}");
                        self.shared.invocations.fail_waiting(&error);
                        back_off = LAST_BACK_OFF.min(back_off * 2);
                    }
                },
                Some(replacement) = requests.recv() => {
                    if let Some(environment) = self.replace(replacement, None).await {
                        return environment;
                    }
                }
            }
        }
    }

    /// Starts another executable while the current environment runs. Takes note if that one ends
    /// meanwhile.
    async fn replace(
        &mut self,
        Replacement { bootstrap, outcome }: Replacement,
        current: Option<&mut Environment>,
    ) -> Option<Environment> {
        let settings = Settings {
            bootstrap,
            ..self.settings.clone()
        };
        let started = {
            let start = Environment::start(&settings, &self.shared);
            tokio::pin!(start);
            let current_ended = async {
                if let Some(current) = current {
                    current.exited().await;
                    self.pid.send_replace(None);
                }
            };
            tokio::select! {
                started = &mut start => started,
                () = current_ended => start.await,
            }
        };
        match started {
            Ok(environment) => {
                self.settings = settings;
                self.pid.send_replace(environment.pid());
                let _ = outcome.send(Ok(()));
                Some(environment)
            }
            Err(error) => {
                let _ = outcome.send(Err(error));
                None
            }
        }
    }

    /// Ends a replaced environment as soon as nothing is in flight there.
    fn drain(&mut self, mut environment: Environment) {
        while self.draining.try_join_next().is_some() {}
        self.draining.spawn(async move {
            let drained = environment.drained();
            tokio::select! {
                () = drained => {}
                _ = environment.exited() => {}
            }
            environment.terminate().await;
        });
    }
}
