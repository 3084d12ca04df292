//! The daemon as a process: the real binary in a scratch folder of its own, what it logs, and its end. It is gone
//! when the test is.
#![allow(dead_code)] // each test uses a part of it

use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for anything, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon that runs, or that is to; killed when dropped.
pub struct Daemon {
    child: Option<Child>,
    /// With `undertone.toml`, `log` and the folder `state`.
    pub folder: TempDir,
}

impl Daemon {
    /// Configured, and not started yet.
    pub fn new(configuration: &str) -> Daemon {
        let daemon = Daemon { child: None, folder: tempfile::tempdir().unwrap() };
        fs::write(daemon.config(), configuration).unwrap();
        fs::write(daemon.folder.path().join("log"), "").unwrap();
        daemon
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("undertone.toml")
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// What it logged since it was last started.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Another `undertone` with the same state folder.
    pub fn command(&self) -> Command {
        self.command_in(&[])
    }

    /// `undertone run` with the card that this ALSA configuration describes, inside of another program, which executes
    /// it at last; for [`Daemon::spawn`].
    pub fn run(&self, wrapper: &[&str], alsa: &Path) -> Command {
        let mut command = self.command_in(wrapper);
        command.args(["run", "--config"]).arg(self.config()).env("ALSA_CONFIG_PATH", alsa);
        command
    }

    fn command_in(&self, wrapper: &[&str]) -> Command {
        let mut words = wrapper.iter().copied().chain([env!("CARGO_BIN_EXE_undertone")]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).current_dir(env!("CARGO_MANIFEST_DIR")).env("STATE_DIRECTORY", self.state());
        command
    }

    /// Starts it (again, as after a power cut).
    pub fn spawn(&mut self, command: Command) {
        let log = File::create(self.folder.path().join("log")).unwrap();
        self.spawn_telling(command, log);
    }

    /// The same where something else than a file gets the log.
    pub fn spawn_telling(&mut self, mut command: Command, log: impl Into<Stdio>) {
        self.kill();
        self.child = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    /// Runs a command beside it to its end.
    pub fn finish(&self, mut command: Command) -> Output {
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let (sender, output) = channel();
        std::thread::spawn(move || sender.send(child.wait_with_output().unwrap()));
        output.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let _ = kill_process(pid, Signal::KILL);
            panic!("{command:?} does not end within {PATIENCE:?}: {}", self.log());
        })
    }

    /// `undertone` with these words and the same configuration; it must succeed. Returns what it prints.
    pub fn ask(&self, words: &[&str]) -> String {
        let mut command = self.command();
        command.args(words).arg("--config").arg(self.config());
        let output = self.finish(command);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{words:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    pub fn consent(&self, words: &[&str]) {
        self.ask(&[&["consent"], words].concat());
    }

    /// A withdrawal at the machine while the daemon is stopped: written, and with status 1, because it obeys only once it goes on.
    pub fn revoke_stopped(&self) {
        let mut command = self.command();
        command.args(["consent", "revoke", "listening", "--config"]).arg(self.config());
        let output = self.finish(command);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains(&format!("(process {}) was stopped", self.pid())), "{told}");
        assert_eq!(output.status.code(), Some(1), "{told}");
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon was not started").id()
    }

    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the daemon was not started");
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// A number that the kernel has of it, by its name in `/proc/PID/status`.
    pub fn figure(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .unwrap_or_else(|error| panic!("the daemon has died ({error}): {}", self.log()));
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Waits until `done` is; returns how long that was.
    pub fn until(&self, what: &str, limit: Duration, done: impl Fn(&Daemon) -> bool) -> Duration {
        let begun = Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < limit, "not {what} within {limit:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        begun.elapsed()
    }

    /// How it ended, if it does within this time.
    pub fn ended(&mut self, limit: Duration) -> Option<ExitStatus> {
        let (begun, child) = (Instant::now(), self.child.as_mut()?);
        loop {
            let status = child.try_wait().unwrap();
            if status.is_some() || begun.elapsed() >= limit {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// How it ends, which must be within this time.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        self.ended(limit).unwrap_or_else(|| panic!("it does not end within {limit:?}: {}", self.log()))
    }

    /// SIGTERM; it must end by itself, within this time and with status 0. Returns how long it took.
    pub fn stop(&mut self, limit: Duration) -> Duration {
        let begun = Instant::now();
        self.signal(Signal::TERM);
        let status = self.wait(limit);
        assert!(status.success(), "{status}: {}", self.log());
        begun.elapsed()
    }

    /// As a power cut does it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
