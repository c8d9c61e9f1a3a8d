//! How long to wait before something is tried again.

use std::time::Duration;

use tokio::time::sleep;

/// The pause before the next attempt, which doubles from 10 to 250 ms.
#[derive(Debug)]
pub(crate) struct BackOff(Duration);

impl Default for BackOff {
    fn default() -> Self {
        Self(Duration::from_millis(10))
    }
}

impl BackOff {
    /// Waits for between half of the pause and all of it, so that workers do not come back all at
    /// once. A test makes it repeatable with `fastrand::seed`.
    pub(crate) async fn wait(&mut self) {
        sleep(self.0.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        self.0 = Duration::from_millis(250).min(self.0 * 2);
    }
}
