//! What the process takes from the machine: memory, threads, files, CPU. From /proc, where there is one.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;

/// The figures; [`look`](Self::look) brings them up to date.
#[derive(Debug, Default)]
pub(super) struct Process {
    cpu: Counter<f64, AtomicU64>,
    resident: Gauge,
    threads: Gauge,
    files: Gauge,
}

impl Process {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit("cpu", "CPU time of the process", Unit::Seconds, self.cpu.clone());
        registry.register_with_unit("resident", "Memory in use", Unit::Bytes, self.resident.clone());
        registry.register("threads", "Threads", self.threads.clone());
        registry.register("open_files", "Open file descriptors", self.files.clone());
    }

    pub(super) fn look(&self) {
        self.cpu.inc_by((cpu_seconds() - self.cpu.get()).max(0.0));
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        self.resident.set(figure(&status, "VmRSS:").saturating_mul(1024));
        self.threads.set(figure(&status, "Threads:"));
        // The folder itself is open while it is read.
        let files = std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count().saturating_sub(1));
        self.files.set(i64::try_from(files).unwrap_or(i64::MAX));
    }
}

/// CPU time of this process so far, in seconds.
pub fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A whole number behind its name in /proc/self/status.
fn figure(status: &str, name: &str) -> i64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_threads_and_files() {
        let process = Process::default();
        process.look();
        assert!(process.resident.get() > 1_000_000 && process.threads.get() >= 1);
        let before = process.files.get();
        assert!(before >= 3, "{before}");
        assert!(process.cpu.get() > 0.0);
    }
}
