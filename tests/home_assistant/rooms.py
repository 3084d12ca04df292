"""What stands around Home Assistant in this test: mosquitto with the shipped access list, and real
undertone daemons that hear a recording through a sound card made of a FIFO."""

import array
import fcntl
import json
import os
import pathlib
import signal
import struct
import subprocess
import termios
import threading
import time

from core import free_port

PROJECT = pathlib.Path(__file__).resolve().parents[2]
ALSA = """pcm.card {{ type file slave.pcm {{ type null }} file "/dev/null" infile "{fifo}" format "raw" }}
pcm.!default {{ type plug slave {{ pcm "card" format S16_LE rate 48000 channels 2 }} }}
"""
RATE = 48000
PASSWORDS = {"homeassistant": "home-word", "kitchen": "kitchen-word", "living_room": "living-word"}


def recording():
    """The demo's room, as 48 kHz stereo bytes; its header says 16 kHz mono."""
    raw = subprocess.run(["oggdec", "-Q", "--raw", "-o", "-", PROJECT / "demo/room.ogg"], check=True, capture_output=True).stdout
    mono = array.array("h", raw)
    out = array.array("h")
    before = 0
    for sample in mono:
        for step in (1, 2, 3):
            value = before + (sample - before) * step // 3
            out.append(value)
            out.append(value)
        before = sample
    return out.tobytes()


class Broker:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir()
        self.port = free_port()
        passwords = self.folder / "passwords"
        passwords.touch(mode=0o600)
        for user, password in PASSWORDS.items():
            subprocess.run(["mosquitto_passwd", "-b", passwords, user, password], check=True)
        acl = self.folder / "acl"
        acl.write_text((PROJECT / "deploy/mosquitto/undertone.acl").read_text())
        acl.chmod(0o600)
        (self.folder / "mosquitto.conf").write_text(
            f"user root\nlistener {self.port} 127.0.0.1\nallow_anonymous false\npersistence false\n"
            f"password_file {passwords}\nacl_file {acl}\nlog_dest stderr\n"
        )
        self.start()

    def start(self):
        log = open(self.folder / "log", "a")
        program = next(p for p in ("/usr/sbin/mosquitto", "/usr/bin/mosquitto") if os.path.exists(p))
        self.process = subprocess.Popen([program, "-c", self.folder / "mosquitto.conf"], stdout=log, stderr=log)
        time.sleep(0.3)

    def stop(self):
        self.process.kill()
        self.process.wait()

    def client(self, program, *arguments):
        login = ["-h", "127.0.0.1", "-p", str(self.port), "-u", "homeassistant", "-P", PASSWORDS["homeassistant"]]
        return [program, *login, *arguments]

    def publish(self, topic, payload, *flags):
        subprocess.run(self.client("mosquitto_pub", "-q", "1", "-t", topic, "-m", payload, *flags), check=True)

    def retained(self, topic):
        """The retained message of a topic, or nothing."""
        command = self.client("mosquitto_sub", "-t", topic, "--retained-only", "-C", "1", "-W", "2")
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    def watch(self, *topics):
        return Watch(self.client("mosquitto_sub", "-v", *[word for topic in topics for word in ("-t", topic)]))


class Watch:
    """What a subscriber has seen."""

    def __init__(self, command):
        self.lines = []
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace")
        threading.Thread(target=self.read, daemon=True).start()
        time.sleep(0.5)

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def stop(self):
        self.process.kill()
        self.process.wait()


class Room:
    """A daemon, its card, and its folder."""

    def __init__(self, folder, node, broker, program, sound, extra=""):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir()
        self.node, self.program, self.sound = node, program, sound
        self.process = None
        os.mkfifo(self.folder / "fifo")
        (self.folder / "asound.conf").write_text(ALSA.format(fifo=self.folder / "fifo"))
        (self.folder / "password").write_text(PASSWORDS[node] + "\n")
        self.broker = broker
        self.configure(extra)
        threading.Thread(target=self.play, daemon=True).start()

    def configure(self, extra="", discovery="true", cascade=""):
        (self.folder / "undertone.toml").write_text(
            f'node = "{self.node}"\nstate_dir = "{self.folder}/state"\n'
            f'[cascade]\n{cascade}\n'
            f'[mqtt]\nbroker = "mqtt://127.0.0.1:{self.broker.port}"\nuser = "{self.node}"\n'
            f'password_file = "{self.folder}/password"\nheartbeat_seconds = 2.0\ndiscovery = {discovery}\n'
            f'[asr]\ncommand = ["sh", "-c", "cat > /dev/null; echo words that were said"]\npublish_transcript = true\n'
            f'[consent]\nlistening = "granted"\ntranscription = "granted"\n{extra}'
        )

    def play(self):
        """Plays the recording for ever: 200 ms at a time, as the daemon reads it (the plugin fills the rest of a read with
        silence), each only when the one before it was read."""
        block = RATE // 5 * 4
        while True:
            try:
                with open(self.folder / "fifo", "wb", buffering=0) as fifo, open(self.folder / "fifo", "rb") as reader:
                    due = time.monotonic()
                    while True:
                        for at in range(0, len(self.sound), block):
                            while struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, b"\0" * 4))[0] > 0:
                                time.sleep(0.002)
                            fifo.write(self.sound[at : at + block])
                            due = max(due + 0.2, time.monotonic() - 0.4)
                            time.sleep(max(0.0, due - time.monotonic()))
            except OSError:
                time.sleep(0.1)

    def start(self):
        log = open(self.folder / "log", "a")
        environment = {**os.environ, "ALSA_CONFIG_PATH": str(self.folder / "asound.conf")}
        environment.pop("STATE_DIRECTORY", None)
        self.process = subprocess.Popen(
            [self.program, "run", "--config", self.folder / "undertone.toml"],
            cwd=PROJECT, env=environment, stdout=log, stderr=log,
        )

    def send(self, number):
        os.kill(self.process.pid, number)

    def stop(self, number=signal.SIGTERM):
        if self.process is not None:
            self.send(number)
            self.process.wait(20)
            self.process = None

    def log(self):
        return (self.folder / "log").read_text()

    def settings(self):
        file = self.folder / "state/settings.json"
        return json.loads(file.read_text()) if file.exists() else None

    def consent(self, *words):
        """`undertone consent WORDS`, said at the machine."""
        environment = {**os.environ}
        environment.pop("STATE_DIRECTORY", None)
        command = [self.program, "consent", *words, "--config", self.folder / "undertone.toml"]
        subprocess.run(command, cwd=PROJECT, env=environment, check=True, capture_output=True)

    def check(self):
        """What `undertone check` prints."""
        environment = {**os.environ, "ALSA_CONFIG_PATH": str(self.folder / "asound.conf")}
        command = [self.program, "check", "--config", self.folder / "undertone.toml"]
        return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True).stdout
