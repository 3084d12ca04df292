//! While the daemon ends: what is said until the very end of it is obeyed.

use super::LAST_LINES;
use super::runtime::Service;
use crate::home::Commands;
use std::time::Duration;
use tokio::sync::mpsc;

/// How often consent is looked at while the daemon ends.
pub(super) const HEED: Duration = Duration::from_millis(100);

/// Obeys what is said while the daemon ends: over MQTT, where it is acknowledged to the broker, which will not say it
/// again (but what counts only now); by a signal, where whoever sent it waits until it holds; and in the file. True: there was
/// something about consent.
pub(super) fn heed(
    commands: &mut Commands,
    withdrawals: &mut mpsc::Receiver<()>,
    service: &mut Service,
) -> bool {
    let before = *service.keeper.standing();
    let mut heeded = false;
    while let Some((command, said_after)) = commands.try_recv() {
        if !command.counts_only_now() {
            heeded |= command.withdraws();
            service.command(command, said_after);
        }
    }
    if withdrawals.try_recv().is_ok() {
        service.withdraw();
        heeded = true;
    }
    service.look_at_consent();
    heeded || *service.keeper.standing() != before
}

/// Waits for something at the end, and [`heed`]s meanwhile: what came of both.
pub(super) async fn heeding<T>(
    what: impl Future<Output = T>,
    commands: &mut Commands,
    withdrawals: &mut mpsc::Receiver<()>,
    service: &mut Service,
) -> (T, bool) {
    let (mut what, mut heeded) = (std::pin::pin!(what), false);
    loop {
        match tokio::time::timeout(HEED, &mut what).await {
            Ok(done) => return (done, heeded),
            Err(_) => heeded |= heed(commands, withdrawals, service),
        }
    }
}

/// Waits until changed thresholds are written, for a while.
pub(super) async fn keep_settings(
    commands: &mut Commands,
    withdrawals: &mut mpsc::Receiver<()>,
    service: &mut Service,
) {
    let deadline = tokio::time::Instant::now() + LAST_LINES;
    while service.keeping.is_some() && tokio::time::Instant::now() < deadline {
        match tokio::time::timeout(HEED, service.settings_written()).await {
            Ok(outcome) => service.settings_kept(outcome),
            Err(_) => _ = heed(commands, withdrawals, service),
        }
    }
}

/// Brings what was said about consent onto the disk.
pub(super) async fn write_down(service: &mut Service) {
    for told in service.keeper.end(LAST_LINES).await {
        service.consent_told(told);
    }
}
