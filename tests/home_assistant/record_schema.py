"""Records what Home Assistant's MQTT integration accepts, from its own schemas, into schema.json, which
tests/home_assistant.rs holds the announcement against where there is no Home Assistant to ask.

    $(tests/home_assistant/setup.sh)/bin/python tests/home_assistant/record_schema.py
"""

import importlib
import json
import pathlib

import voluptuous as vol
from homeassistant.components.binary_sensor import BinarySensorDeviceClass
from homeassistant.components.button import ButtonDeviceClass
from homeassistant.components.mqtt import abbreviations, schemas
from homeassistant.components.sensor import DEVICE_CLASS_STATE_CLASSES, DEVICE_CLASS_UNITS, SensorDeviceClass, SensorStateClass
from homeassistant.const import EntityCategory, __version__

PLATFORMS = ["binary_sensor", "button", "event", "number", "sensor", "switch"]


def keys(schema):
    """Every key of a schema and whether it is required, through validators that wrap it."""
    if isinstance(schema, vol.Schema):
        schema = schema.schema
    if isinstance(schema, vol.All):
        for part in schema.validators:
            if found := keys(part):
                return found
        return {}
    if isinstance(schema, dict):
        return {str(key): isinstance(key, vol.Required) for key in schema}
    return {}


def recorded():
    components = {}
    for platform in PLATFORMS:
        module = importlib.import_module(f"homeassistant.components.mqtt.{platform}")
        # The schema before validation removes what it does not know.
        components[platform] = keys(module.DISCOVERY_SCHEMA)
    device_classes = {
        "binary_sensor": [str(c) for c in BinarySensorDeviceClass],
        "button": [str(c) for c in ButtonDeviceClass],
        "sensor": [str(c) for c in SensorDeviceClass],
    }
    return {
        "version": __version__,
        "root": keys(schemas.DEVICE_DISCOVERY_SCHEMA),
        "device": keys(schemas.MQTT_ENTITY_DEVICE_INFO_SCHEMA),
        "origin": keys(schemas.MQTT_ORIGIN_INFO_SCHEMA),
        "components": components,
        "abbreviations": abbreviations.ABBREVIATIONS,
        "device_abbreviations": abbreviations.DEVICE_ABBREVIATIONS,
        "origin_abbreviations": abbreviations.ORIGIN_ABBREVIATIONS,
        "device_classes": device_classes,
        "state_classes": [str(c) for c in SensorStateClass],
        "entity_categories": [str(c) for c in EntityCategory],
        "units": {str(k): sorted(str(u) for u in v) for k, v in DEVICE_CLASS_UNITS.items()},
        "state_classes_of": {str(k): sorted(str(c) for c in v) for k, v in DEVICE_CLASS_STATE_CLASSES.items()},
    }


if __name__ == "__main__":
    path = pathlib.Path(__file__).parent / "schema.json"
    path.write_text(json.dumps(recorded(), indent=1, sort_keys=True) + "\n")
    print(path, path.stat().st_size)
