//! Work that blocks.

use std::thread;

use tokio::sync::oneshot;

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// Runs something that blocks. Neither the runtime nor the end of the process waits for it.
pub(crate) async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let (sender, receiver) = oneshot::channel();
    thread::Builder::new().spawn(move || {
        let _ = sender.send(work());
    })?;
    Ok(receiver.await?)
}
