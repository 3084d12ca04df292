//! A private PulseAudio with microphones that do not exist: what is played into a null sink is captured
//! from its monitor. Cards can be plugged, unplugged and replaced; the server frozen, killed, restarted.
#![allow(dead_code)] // each test uses a part of it

use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server, ended when dropped.
pub struct Pulse {
    folder: TempDir,
    child: Option<Child>,
}

/// A card that is plugged in.
pub struct Plugged(String);

/// Sound that is played into a card, until dropped.
pub struct Playing(Child);

impl Pulse {
    /// A server without any card.
    pub fn start() -> Pulse {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("native");
        std::fs::create_dir(folder.path().join("home")).unwrap();
        let script =
            format!("load-module module-native-protocol-unix auth-anonymous=1 socket={}\n", socket.display());
        std::fs::write(folder.path().join("default.pa"), script).unwrap();
        let pcm = format!("{{ type pulse server \"unix:{}\" }}", socket.display());
        let alsa = format!("pcm.!default {pcm}\nctl.!default {pcm}\n");
        std::fs::write(folder.path().join("asound.conf"), alsa).unwrap();
        let mut pulse = Pulse { folder, child: None };
        pulse.restart();
        pulse
    }

    /// Starts it (again), without cards, and waits until it answers.
    pub fn restart(&mut self) {
        self.kill();
        let folder = self.folder.path();
        let _ = std::fs::remove_file(folder.join("native"));
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let child = Command::new("pulseaudio")
            .arg("-n")
            .arg("-F")
            .arg(folder.join("default.pa"))
            .args(["--daemonize=no", "--exit-idle-time=-1", "--disallow-exit=0", "--use-pid-file=no"])
            .args(["--realtime=no", "--high-priority=no", "--log-target=stderr"])
            .env("HOME", folder.join("home"))
            .env("XDG_RUNTIME_DIR", folder)
            .env("PULSE_RUNTIME_PATH", folder)
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("pulseaudio is not installed: scripts/setup.sh test");
        self.child = Some(child);
        let begun = Instant::now();
        while !self.client("pactl").arg("info").output().unwrap().status.success() {
            assert!(begun.elapsed() < PATIENCE, "{}", std::fs::read_to_string(folder.join("log")).unwrap());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What `ALSA_CONFIG_PATH` must name to have this server as the default device.
    pub fn configuration(&self) -> PathBuf {
        self.folder.path().join("asound.conf")
    }

    /// Plugs a card in and makes it the default.
    pub fn plug(&self, name: &str, rate: u32) -> Plugged {
        let sink = format!("sink_name={name}");
        // Without norewinds up to 2 s of the start are lost.
        let options = [sink.as_str(), &format!("rate={rate}"), "channels=2", "format=s16le", "norewinds=1"];
        let module = self.pactl(&[&["load-module", "module-null-sink"], &options[..]].concat());
        self.pactl(&["set-default-sink", name]);
        self.pactl(&["set-default-source", &format!("{name}.monitor")]);
        Plugged(module.trim().to_owned())
    }

    /// Pulls it out.
    pub fn unplug(&self, card: Plugged) {
        self.pactl(&["unload-module", &card.0]);
    }

    /// Whether anybody records, by what the server says.
    pub fn recorded(&self) -> bool {
        !self.pactl(&["list", "short", "source-outputs"]).trim().is_empty()
    }

    fn pactl(&self, arguments: &[&str]) -> String {
        let output = self.client("pactl").args(arguments).stdout(Stdio::piped()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Plays a WAV file into the default card.
    pub fn play(&self, wav: &Path) -> Playing {
        Playing(self.client("paplay").args(["--latency-msec=100"]).arg(wav).spawn().unwrap())
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("PULSE_SERVER", format!("unix:{}", self.folder.path().join("native").display()));
        command.env("HOME", self.folder.path().join("home"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGSTOP: connections stay, nothing comes.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), signal).unwrap();
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
