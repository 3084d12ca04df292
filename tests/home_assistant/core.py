"""A real Home Assistant Core on a loopback port: started, onboarded over REST, connected to a broker
through the config flow of its own MQTT integration. Standard library only."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

CONFIGURATION = """\
http:
  server_host: 127.0.0.1
  server_port: {port}
api:
config:
history:
logbook:
recorder:
  commit_interval: 1
websocket_api:
frontend:
lovelace:
  mode: storage
  dashboards:
    undertone-sensor:
      mode: yaml
      title: undertone
      icon: mdi:ear-hearing
      filename: dashboard.yaml
logger:
  default: warning
  logs:
    homeassistant.components.mqtt: info
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Core:
    """One installation with its own configuration folder; it can be stopped and started again."""

    def __init__(self, folder, extra="", dashboard=None):
        self.folder = pathlib.Path(folder)
        self.config = self.folder / "config"
        self.config.mkdir(parents=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.token = None
        self.refresh = None
        self.process = None
        (self.config / "configuration.yaml").write_text(CONFIGURATION.format(port=self.port) + extra)
        (self.config / "dashboard.yaml").write_text(dashboard or "views: []\n")

    def start(self):
        log = open(self.folder / "hass.log", "a")
        hass = pathlib.Path(sys.prefix) / "bin/hass"
        self.process = subprocess.Popen(
            [hass, "-c", self.config, "--skip-pip"], stdout=log, stderr=log, start_new_session=True
        )
        self.wait("http", self.answers, 180)
        if self.token is None:
            self.onboard()
        else:
            self.login()
        self.wait("state RUNNING", lambda: self.call("GET", "/api/config")["state"] == "RUNNING", 120)

    def answers(self):
        if self.process.poll() is not None:
            raise SystemExit(f"Home Assistant has ended; see {self.folder}/hass.log")
        try:
            with urllib.request.urlopen(self.url + "/manifest.json", timeout=5):
                return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def onboard(self):
        person = {"client_id": self.url + "/", "name": "test", "username": "test", "password": "test-test", "language": "en"}
        code = self.call("POST", "/api/onboarding/users", person)["auth_code"]
        form = {"grant_type": "authorization_code", "code": code, "client_id": self.url + "/"}
        tokens = self.call("POST", "/auth/token", form, form=True)
        self.token, self.refresh = tokens["access_token"], tokens["refresh_token"]
        for step in ("core_config", "analytics"):
            try:
                self.call("POST", f"/api/onboarding/{step}", {})
            except RuntimeError:
                pass  # not every version has every step
        try:
            self.call("POST", "/api/onboarding/integration", {"client_id": self.url + "/", "redirect_uri": self.url + "/?auth_callback=1"})
        except RuntimeError:
            pass

    def login(self):
        form = {"grant_type": "refresh_token", "refresh_token": self.refresh, "client_id": self.url + "/"}
        self.token = self.call("POST", "/auth/token", form, form=True)["access_token"]

    def connect(self, port, user, password):
        """Adds the MQTT integration."""
        flow = self.call("POST", "/api/config/config_entries/flow", {"handler": "mqtt", "show_advanced_options": False})
        step = {"broker": "127.0.0.1", "port": port, "username": user, "password": password}
        done = self.call("POST", "/api/config/config_entries/flow/" + flow["flow_id"], step)
        if done["type"] != "create_entry":
            raise SystemExit(f"Home Assistant refuses the broker: {json.dumps(done)[:800]}")

    def stop(self):
        if self.process is None:
            return
        os.kill(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def call(self, method, path, body=None, form=False):
        headers, data = {}, None
        if body is not None:
            data = urllib.parse.urlencode(body).encode() if form else json.dumps(body).encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded" if form else "application/json"
        if self.token and not form:
            headers["Authorization"] = "Bearer " + self.token
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as e:
            raise RuntimeError(f"{method} {path}: {e.code} {e.read().decode()[:500]}") from None
        return json.loads(text) if text[:1] in "{[" else text

    def states(self):
        """Every entity of undertone, by its id."""
        entities = self.call("GET", "/api/states")
        return {e["entity_id"]: e for e in entities if "undertone" in e["entity_id"]}

    def state(self, entity):
        try:
            return self.call("GET", "/api/states/" + entity)
        except RuntimeError:
            return {"state": None, "attributes": {}}

    def service(self, name, **data):
        domain, service = name.split(".")
        return self.call("POST", f"/api/services/{domain}/{service}", data)

    def template(self, text):
        return self.call("POST", "/api/template", {"template": text})

    def log(self):
        return (self.folder / "hass.log").read_text()

    def wait(self, what, condition, seconds=40):
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            value = condition()
            if value:
                return value
            time.sleep(0.1)
        raise AssertionError(f"{what} did not come about in {seconds} s")
