"""Real Home Assistant, real mosquitto with the shipped access list, two real undertone daemons that hear
a recording. Run by `make test-home-assistant`, in the environment that setup.sh makes.

    run.py PROGRAM [--screenshots FOLDER]
"""

import argparse
import json
import pathlib
import shutil
import signal
import sys
import tempfile
import time
import traceback

from core import Core
from rooms import PASSWORDS, PROJECT, Broker, Room, recording

EMOTIONS = ["neutral", "happy", "fear", "disgust", "anger", "sad"]
ENTITIES = """binary_sensor.microphone_open binary_sensor.microphone_problem binary_sensor.model_problem
binary_sensor.recogniser_problem binary_sensor.speech binary_sensor.storage_problem button.forget button.restart event.utterance number.emotion_confidence number.gate_threshold
number.listen_threshold sensor.activity sensor.confidence sensor.cpu sensor.dropped_audio sensor.emotion
sensor.modules_skipped sensor.privacy sensor.transcript switch.guest_mode switch.listening_consent
switch.transcription_consent""".split()
DEPLOY = PROJECT / "deploy/home-assistant"
# Short times, so that the blueprints can be seen at work; what they listen to is made by the test itself.
AUTOMATIONS = """
input_boolean:
  meeting:
  guests:
  lasting:
  bulb: {initial: true}
input_number:
  lamp: {min: 0, max: 255, initial: 200}
  unlit: {min: 0, max: 255, initial: 0}
  low: {min: 0, max: 255, initial: 40}
  told: {min: 0, max: 1, initial: 0}
light:
  - platform: template
    lights:
LAMPS
      bulb:
        value_template: "{{ is_state('input_boolean.bulb', 'on') }}"
        turn_on:
          - action: input_number.set_value
            data: {value: 1}
            target: {entity_id: input_number.told}
        turn_off: []
scene:
mqtt:
  - event:
      name: played
      state_topic: homeassistant/played
      event_types: [neutral, happy, fear, disgust, anger, sad]
  - binary_sensor:
      name: busy
      state_topic: homeassistant/busy
      availability_topic: homeassistant/busy/availability
automation:
  - alias: dim
    use_blueprint:
      path: undertone/dim_the_lights.yaml
      input:
        utterance: event.played
        lights: [light.lamp, light.unlit, light.low, light.bulb, light.absent]
        calm: {seconds: 3}
  - alias: lasting
    use_blueprint:
      path: undertone/notify_when_it_lasts.yaml
      input:
        utterance: event.played
        count: 3
        within: {seconds: 6}
        actions:
          - action: input_boolean.turn_on
            target: {entity_id: input_boolean.lasting}
        pause: {seconds: 1}
  - alias: pause
    use_blueprint:
      path: undertone/pause_listening.yaml
      input:
        consent: [switch.undertone_kitchen_listening_consent]
        reasons: [input_boolean.meeting]
  - alias: resume
    use_blueprint:
      path: undertone/pause_listening.yaml
      input:
        consent: [switch.undertone_living_room_listening_consent]
        reasons: [binary_sensor.busy, input_boolean.guests]
        resume: true
"""
LAMP = """
      NAME:
        value_template: "{{ states('input_number.NAME') | int > 0 }}"
        level_template: "{{ states('input_number.NAME') | int }}"
        turn_on:
          action: input_number.set_value
          data: {value: 200}
          target: {entity_id: input_number.NAME}
        turn_off:
          action: input_number.set_value
          data: {value: 0}
          target: {entity_id: input_number.NAME}
        set_level:
          action: input_number.set_value
          data: {value: "{{ brightness }}"}
          target: {entity_id: input_number.NAME}
"""
AUTOMATIONS = AUTOMATIONS.replace("LAMPS\n", "".join(LAMP.lstrip("\n").replace("NAME", name) for name in ("lamp", "unlit", "low")))


class House:
    """Everything that runs."""

    def __init__(self, folder, program):
        self.folder = pathlib.Path(folder)
        self.sound = recording()
        self.broker = Broker(self.folder / "mosquitto")
        self.core = Core(self.folder / "core", AUTOMATIONS, (DEPLOY / "dashboard.yaml").read_text())
        blueprints = self.core.config / "blueprints/automation/undertone"
        shutil.copytree(DEPLOY / "blueprints", blueprints)
        self.kitchen = Room(self.folder / "kitchen", "kitchen", self.broker, program, self.sound)
        self.living_room = Room(
            self.folder / "living_room", "living_room", self.broker, program, self.sound, "remote_grant = true\n"
        )

    def end(self):
        for stop in (self.kitchen.stop, self.living_room.stop, self.core.stop, self.broker.stop):
            try:
                stop()
            except Exception:  # noqa: BLE001  # the others must be stopped, too
                traceback.print_exc()

    def state(self, entity, node="kitchen"):
        platform, key = entity.split(".")
        return self.core.state(f"{platform}.undertone_{node}_{key}")

    def becomes(self, entity, *values, node="kitchen", seconds=40):
        return self.core.wait(
            f"{node} {entity} {values}", lambda: self.state(entity, node)["state"] in values and self.state(entity, node), seconds
        )

    def discovered(self, node):
        ids = {f"{e.split('.')[0]}.undertone_{node}_{e.split('.')[1]}" for e in ENTITIES}
        self.core.wait(f"the entities of {node}", lambda: ids <= self.core.states().keys())
        mine = {e for e in self.core.states() if e.split(".")[1].startswith(f"undertone_{node}_")}
        assert mine == ids, f"more or fewer than expected: {mine ^ ids}"


def is_found_by_itself(house):
    house.kitchen.start()
    house.discovered("kitchen")
    device = "{{ device_attr(device_id('sensor.undertone_kitchen_emotion'), '%s') }}"
    assert house.core.template(device % "name") == "undertone kitchen"
    assert house.core.template(device % "manufacturer") == "undertone"
    count = "{{ device_entities(device_id('sensor.undertone_kitchen_emotion')) | count }}"
    assert int(house.core.template(count)) == len(ENTITIES), "one device holds them all"


def shows_what_is_heard(house):
    house.becomes("binary_sensor.microphone_open", "on")
    house.becomes("binary_sensor.speech", "on", seconds=60)
    house.becomes("sensor.activity", "speech")
    emotion = house.becomes("sensor.emotion", *EMOTIONS, seconds=60)
    house.core.wait("posterior", lambda: "posterior" in house.state("sensor.emotion")["attributes"])
    attributes = house.state("sensor.emotion")["attributes"]
    assert attributes["options"] == EMOTIONS and abs(sum(attributes["posterior"].values()) - 1) < 0.01, attributes
    assert attributes["start"] < attributes["end"], attributes
    utterance = house.core.wait("utterance", lambda: (s := house.state("event.utterance"))["state"] != "unknown" and s)
    assert utterance["attributes"]["event_type"] in EMOTIONS, utterance
    assert utterance["attributes"]["posterior"], utterance
    confidence = float(house.becomes("sensor.confidence", *[house.state("sensor.confidence")["state"]])["state"])
    assert 0 < confidence <= 100, confidence
    house.becomes("sensor.transcript", "words that were said")
    # Unknown while the model was not asked since the state before.
    skipped = lambda: (s := house.state("sensor.modules_skipped")["state"]) not in ("unknown", "unavailable", None) and s  # noqa: E731
    assert 0 <= float(house.core.wait("modules skipped", skipped, 60)) <= 100
    for problem in ("microphone", "model", "recogniser", "storage"):
        house.becomes(f"binary_sensor.{problem}_problem", "off")
    house.becomes("sensor.activity", "background", seconds=60)
    house.becomes("sensor.privacy", "listening")
    assert len(house.state("sensor.privacy")["attributes"]["page"]) > 500
    assert emotion["attributes"]["friendly_name"] == "undertone kitchen Emotion"


def thresholds_act_and_survive(house):
    number = "number.undertone_kitchen_listen_threshold"
    house.becomes("number.listen_threshold", "0.99")
    # By thousandths; what a threshold does is seen in tests/operating.
    house.core.service("number.set_value", entity_id=number, value=0.999)
    house.becomes("number.listen_threshold", "0.999")
    # Written beside the runtime: a moment after it is told.
    house.core.wait("the file", lambda: house.kitchen.settings() == {"listen_threshold": 0.999}, 5)
    house.kitchen.stop(signal.SIGKILL)
    house.becomes("sensor.emotion", "unavailable")
    house.kitchen.start()
    house.becomes("number.listen_threshold", "0.999")
    assert "listen_threshold 0.999 (changed at run time" in house.kitchen.check(), house.kitchen.check()
    house.core.service("number.set_value", entity_id=number, value=0.99)
    house.becomes("number.listen_threshold", "0.99")
    house.core.wait("the file", lambda: house.kitchen.settings() == {}, 5)
    house.becomes("binary_sensor.speech", "on", seconds=120)


def what_cannot_be_kept_is_shown(house):
    place = house.kitchen.folder / "state" / "settings.json"
    place.unlink(missing_ok=True)
    place.mkdir()  # no file can be moved over a folder
    house.core.service("number.set_value", entity_id="number.undertone_kitchen_gate_threshold", value=0.6)
    house.becomes("binary_sensor.storage_problem", "on")
    told = lambda: "settings" in house.state("binary_sensor.storage_problem")["attributes"].get("message", "")  # noqa: E731
    house.core.wait("what cannot be kept", told, 5)
    house.becomes("binary_sensor.model_problem", "off")
    place.rmdir()
    house.becomes("binary_sensor.storage_problem", "off", seconds=30)
    house.core.service("number.set_value", entity_id="number.undertone_kitchen_gate_threshold", value=0.5)
    house.becomes("number.gate_threshold", "0.5")


def less_confident_emotions_are_not_shown(house):
    number = "number.undertone_kitchen_emotion_confidence"
    house.becomes("sensor.emotion", *EMOTIONS, seconds=60)
    house.core.service("number.set_value", entity_id=number, value=1.0)
    house.becomes("number.emotion_confidence", "1.0")
    shown = house.state("event.utterance")["state"]
    events = house.broker.watch("undertone/kitchen/event")
    unsure = lambda: [line for line in events.lines if '"confident":false' in line]  # noqa: E731
    house.core.wait("an emotion that is not shown", unsure, 90)
    events.stop()
    time.sleep(1)
    assert house.state("event.utterance")["state"] == shown
    house.core.service("number.set_value", entity_id=number, value=0.0)
    house.becomes("number.emotion_confidence", "0.0")


def the_transcription_switch_acts(house):
    house.becomes("switch.transcription_consent", "on")
    house.core.service("switch.turn_off", entity_id="switch.undertone_kitchen_transcription_consent")
    house.becomes("switch.transcription_consent", "off")
    state = lambda: json.loads(house.broker.retained("undertone/kitchen/state"))["consent"]["transcription"]  # noqa: E731
    house.core.wait("the state", lambda: state() == "withheld")


def forget_takes_back_what_is_shown(house):
    house.becomes("sensor.emotion", *EMOTIONS, seconds=120)
    house.core.service("button.press", entity_id="button.undertone_kitchen_forget")
    house.becomes("sensor.emotion", "unknown")
    house.core.wait("attributes", lambda: "posterior" not in house.state("sensor.emotion")["attributes"])
    house.becomes("sensor.transcript", "unknown")
    assert json.loads(house.broker.retained("undertone/kitchen/emotion")) == {}


def restart_restarts(house):
    watch = house.broker.watch("undertone/kitchen/availability")
    pid = house.kitchen.process.pid
    house.core.service("button.press", entity_id="button.undertone_kitchen_restart")
    gone = lambda: [line.split()[1] for line in watch.lines][-2:] == ["offline", "online"]  # noqa: E731
    house.core.wait("offline, then online", gone)
    watch.stop()
    assert house.kitchen.process.poll() is None and house.kitchen.process.pid == pid
    house.becomes("binary_sensor.microphone_open", "on")


def two_rooms_do_not_clash(house):
    house.living_room.start()
    house.discovered("living_room")
    house.discovered("kitchen")
    assert len(house.core.states()) == 2 * len(ENTITIES)
    number = "number.undertone_living_room_gate_threshold"
    house.becomes("number.gate_threshold", "0.5", node="living_room")
    house.core.service("number.set_value", entity_id=number, value=0.7)
    house.becomes("number.gate_threshold", "0.7", node="living_room")
    house.becomes("number.gate_threshold", "0.5")
    house.living_room.stop()
    house.becomes("sensor.emotion", "unavailable", node="living_room")
    assert house.state("sensor.emotion")["state"] != "unavailable"
    house.living_room.start()


def home_assistant_restarts(house):
    watch = house.broker.watch("homeassistant/status", "homeassistant/device/undertone_kitchen/config")
    house.core.stop()
    house.core.start()
    house.discovered("kitchen")
    house.becomes("binary_sensor.microphone_open", "on")
    announced = lambda: [line.split(" ", 1)[0] for line in watch.lines][-2:] == [  # noqa: E731
        "homeassistant/status", "homeassistant/device/undertone_kitchen/config",
    ]
    house.core.wait("one announcement after the birth", announced)
    time.sleep(6)
    assert announced(), "it was announced more than once"
    watch.stop()
    house.becomes("sensor.emotion", *EMOTIONS, seconds=120)


def the_broker_restarts(house):
    house.broker.stop()
    house.becomes("sensor.emotion", "unavailable")
    house.broker.start()
    for node in ("kitchen", "living_room"):
        house.becomes("binary_sensor.microphone_open", "on", node=node, seconds=90)
        house.discovered(node)


def the_configuration_is_read_again(house):
    house.kitchen.configure(cascade="onset = 0.61")
    house.kitchen.send(signal.SIGHUP)
    house.becomes("number.listen_threshold", "0.61")
    house.kitchen.configure(cascade="onset = 61")
    house.kitchen.send(signal.SIGHUP)
    house.core.wait("the refusal", lambda: "the old one stays: cascade.onset = 61" in house.kitchen.log())
    assert house.state("number.listen_threshold")["state"] == "0.61"
    house.kitchen.configure()


def play(house, label, confidence=0.9):
    house.broker.publish("homeassistant/played", json.dumps({"event_type": label, "confidence": confidence}))
    time.sleep(0.7)


def the_blueprints_dim_and_notify(house):
    level = lambda name="lamp": float(house.core.state(f"input_number.{name}")["state"])  # noqa: E731
    others_are_left_alone = lambda: (level("unlit"), level("low"), level("told")) == (0, 40, 0)  # noqa: E731
    assert house.core.state("automation.dim")["state"] == "on", house.core.log()
    assert level() == 200 and house.core.state("light.bulb")["state"] == "on"
    play(house, "happy")
    play(house, "anger", 0.3)
    assert level() == 200
    play(house, "anger")
    house.core.wait("dimmed", lambda: level() < 100, 5)
    play(house, "anger")
    play(house, "happy")
    assert level() < 100 and others_are_left_alone()
    house.core.wait("back as it was", lambda: level() == 200, 15)
    assert others_are_left_alone()

    lasting = lambda: house.core.state("input_boolean.lasting")["state"]  # noqa: E731
    idle = lambda: house.core.state("automation.lasting")["attributes"]["current"] == 0  # noqa: E731
    house.core.wait("the first run to end", idle, 15)
    for label in ("fear", "neutral", "fear"):
        play(house, label)
    time.sleep(5)
    assert lasting() == "off", "two are not enough"
    for label in ("anger", "neutral", "fear", "anger"):
        play(house, label)
    house.core.wait("lasting", lambda: lasting() == "on", 5)
    # Three within six seconds, of which the first of all is none.
    house.core.wait("the pause to end", idle, 10)
    house.core.service("input_boolean.turn_off", entity_id="input_boolean.lasting")
    for label, pause in (("fear", 3.8), ("anger", 1.8), ("fear", 0)):
        play(house, label)
        time.sleep(pause)
    assert lasting() == "off", "the first is too long ago"
    play(house, "anger")
    house.core.wait("lasting", lambda: lasting() == "on", 5)

    running = lambda: house.core.state("automation.dim")["attributes"]["current"]  # noqa: E731
    house.core.wait("calm", lambda: running() == 0 and level() == 200, 20)
    house.core.service("light.turn_off", entity_id="light.lamp")
    play(house, "anger")
    assert level() == 0 and others_are_left_alone() and running() == 0, "there is nothing to dim"


def the_blueprint_pauses_listening(house):
    house.becomes("switch.listening_consent", "on")
    house.core.service("input_boolean.turn_on", entity_id="input_boolean.meeting")
    house.becomes("switch.listening_consent", "off")
    house.becomes("binary_sensor.microphone_open", "off")
    house.becomes("sensor.activity", "not_listening")
    house.core.service("input_boolean.turn_off", entity_id="input_boolean.meeting")
    time.sleep(1)
    assert house.state("switch.listening_consent")["state"] == "off", "it does not listen again by itself"

    # Away when it begins, and back while it lasts.
    house.kitchen.consent("grant", "listening")
    house.becomes("switch.listening_consent", "on")
    house.kitchen.stop()
    house.becomes("switch.listening_consent", "unavailable")
    house.core.service("input_boolean.turn_on", entity_id="input_boolean.meeting")
    house.kitchen.start()
    house.becomes("switch.listening_consent", "off")
    house.becomes("binary_sensor.microphone_open", "off")
    house.core.service("input_boolean.turn_off", entity_id="input_boolean.meeting")
    idle = lambda: house.core.state("automation.pause")["attributes"]["current"] == 0  # noqa: E731
    house.core.wait("the end of the pause", idle, 10)


def the_blueprint_listens_again_when_it_is_over(house):
    consent = "switch.undertone_living_room_listening_consent"
    becomes = lambda state: house.becomes("switch.listening_consent", state, node="living_room")  # noqa: E731
    stays = lambda state: time.sleep(4) or house.core.state(consent)["state"] == state  # noqa: E731
    busy = lambda state: house.core.wait(f"busy {state}", lambda: house.core.state("binary_sensor.busy")["state"] == state)  # noqa: E731
    becomes("on")
    house.broker.publish("homeassistant/busy/availability", "online")
    house.broker.publish("homeassistant/busy", "ON")
    becomes("off")
    time.sleep(5)  # right after a connection a grant would be refused anyway
    # What is away does not say that the meeting is over.
    house.broker.publish("homeassistant/busy/availability", "offline")
    busy("unavailable")
    assert stays("off"), "it listens in the middle of a meeting"
    # Somebody may say otherwise, until the next one begins.
    house.core.service("switch.turn_on", entity_id=consent)
    becomes("on")
    assert stays("on"), "what a person said is undone"
    house.core.service("input_boolean.turn_on", entity_id="input_boolean.guests")
    becomes("off")
    house.core.service("input_boolean.turn_off", entity_id="input_boolean.guests")
    assert stays("off"), "one reason is left"
    house.broker.publish("homeassistant/busy/availability", "online")
    house.broker.publish("homeassistant/busy", "OFF")
    becomes("on")

    # Withdrawn at the machine while it was away: that is not undone, although Home Assistant still shows what was.
    house.living_room.stop()
    becomes("unavailable")
    house.living_room.consent("revoke", "listening")
    house.core.service("input_boolean.turn_on", entity_id="input_boolean.guests")
    house.living_room.start()
    becomes("off")
    time.sleep(3)
    house.core.service("input_boolean.turn_off", entity_id="input_boolean.guests")
    assert stays("off"), "what was withdrawn at the machine is granted"


def it_goes_when_it_is_told_to(house):
    house.kitchen.stop()
    house.kitchen.configure(discovery="false")
    house.kitchen.start()
    gone = lambda: not [e for e in house.core.states() if "undertone_kitchen" in e]  # noqa: E731
    house.core.wait("the kitchen to go", gone)
    assert house.broker.retained("homeassistant/device/undertone_kitchen/config") == ""
    house.discovered("living_room")


STEPS = [
    is_found_by_itself,
    shows_what_is_heard,
    two_rooms_do_not_clash,
    thresholds_act_and_survive,
    what_cannot_be_kept_is_shown,
    less_confident_emotions_are_not_shown,
    forget_takes_back_what_is_shown,
    the_configuration_is_read_again,
    restart_restarts,
    home_assistant_restarts,
    the_broker_restarts,
    the_transcription_switch_acts,
    the_blueprints_dim_and_notify,
    the_blueprint_pauses_listening,
    the_blueprint_listens_again_when_it_is_over,
    it_goes_when_it_is_told_to,
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--screenshots")
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="undertone-home-assistant-"))
    house = House(folder, pathlib.Path(arguments.program).resolve())
    begun = time.monotonic()
    try:
        house.core.start()
        house.core.connect(house.broker.port, "homeassistant", PASSWORDS["homeassistant"])
        print(f"ok   Home Assistant is up ({time.monotonic() - begun:.0f} s)", flush=True)
        if arguments.screenshots:
            import screenshots

            screenshots.take(house, pathlib.Path(arguments.screenshots))
            house.end()
            shutil.rmtree(folder)
            return
        steps = [step for step in STEPS if step.__name__ in arguments.only.split(",")] if arguments.only else STEPS
        for step in steps:
            at = time.monotonic()
            step(house)
            print(f"ok   {step.__name__.replace('_', ' ')} ({time.monotonic() - at:.0f} s)", flush=True)
        complaints = [line for line in house.core.log().splitlines() if "undertone" in line and ("ERROR" in line or "Erroneous" in line or "Invalid" in line)]
        assert not complaints, "\n".join(complaints)
        print(f"all of it works ({time.monotonic() - begun:.0f} s)")
        house.end()
        shutil.rmtree(folder)
    except BaseException:
        print(f"FAIL; logs are in {folder}", flush=True)
        house.end()
        raise


if __name__ == "__main__":
    sys.exit(main())
