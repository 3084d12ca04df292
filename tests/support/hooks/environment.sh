#!/bin/sh
# Prints what undertone adds to the environment, what it passes on, and what it must not.
cat >/dev/null
echo "$UNDERTONE_SEGMENT_ID $UNDERTONE_NODE ${HOME:+home} ${UNDERTONE_MQTT_PASSWORD:-no password}"
