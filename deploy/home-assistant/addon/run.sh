#!/bin/sh
# Options and Home Assistant's MQTT service in, undertone's configuration out; then undertone.
set -eu

options=${OPTIONS:-/data/options.json}
own=${OWN:-/config/undertone.toml}
out=${OUT:-/run/undertone}
option() { jq -r "if .$1 == null then \"\" else .$1 end" "$options"; }
# A TOML string; JSON's escapes are TOML's.
quoted() { printf '%s' "$1" | jq -Rs .; }
# A TOML float, of a number that jq makes of the options.
float() { jq -r "$1"' | tojson | if test("[.e]") then . else . + ".0" end' "$options"; }

export STATE_DIRECTORY=/data
mkdir -p "$out"
chmod 700 "$out"
config=$out/undertone.toml
password=$out/mqtt-password
UNDERTONE_LOG="$(option log_level),rumqttd=off,rumqttc=warn"
export UNDERTONE_LOG

broker=$(option broker)
user=$(option user)
secret=$(option password)
# An own configuration names its broker itself, whatever the option says; the service's password it cannot know.
if [ -f "$own" ]; then given=$secret; else given=$broker; fi
if [ -z "$given" ]; then
    # `data` is there only if an MQTT service is.
    service=$(curl -sf -m 10 -H "Authorization: Bearer ${SUPERVISOR_TOKEN:-}" \
        "${SUPERVISOR:-http://supervisor}/services/mqtt" || echo '{}')
    told() { printf '%s' "$service" | jq -r ".data.$1 // empty"; }
    if [ -z "$(told host)" ] && [ ! -f "$own" ]; then
        echo "undertone: Home Assistant has no MQTT service; install the Mosquitto add-on, or set broker, user and password" >&2
        exit 1
    fi
    scheme=mqtt
    [ "$(told ssl)" = true ] && scheme=mqtts
    broker=$scheme://$(told host):$(told port)
    user=$(told username)
    secret=$(told password)
fi
(umask 077 && printf '%s\n' "$secret" >"$password")

if [ -f "$own" ]; then
    config=$own
else
    cat >"$config" <<TOML
node = $(quoted "$(option node)")
[cascade]
stride_seconds = $(float .stride_seconds)
onset = $(float .onset)
# The program's own, but never above onset, where it would not start.
offset = $(float '[.onset, 0.35] | min')
[mqtt]
broker = $(quoted "$broker")
user = $(quoted "$user")
password_file = "$([ -z "$secret" ] || echo "$password")"
[consent]
listening = "$(option listening)"
transcription = "$(option transcription)"
remote_grant = $(option remote_grant)
TOML
fi
"${UNDERTONE:-undertone}" check --offline --config "$config"
exec "${UNDERTONE:-undertone}" run --config "$config"
