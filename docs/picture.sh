#!/usr/bin/env bash
# Makes docs/src/images/demo.png: the status page of the running demo, in Chromium.
# Needs: chromium, mosquitto-clients. Usage: docs/picture.sh
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --package trellis
folder=$(mktemp -d)
trap 'kill -INT "$demo" 2>/dev/null; rm -rf "$folder"' EXIT
target/release/trellis demo --still --data-dir "$folder/data" --mqtt-port 18840 --http-port 18841 >"$folder/log" &
demo=$!
state_is() { mosquitto_sub -p 18840 -t "mesh/$1" -C 1 -W 1 2>/dev/null | grep -q "\"state\":\"$2\""; }
lamps=(ground/kitchen/worktop ground/living/ceiling upper/bedroom/ceiling upper/bedroom/bedside)
for lamp in "${lamps[@]}"; do
    until state_is "$lamp" OFF; do :; done
    mosquitto_pub -p 18840 -t "mesh/$lamp/set" -m ON
    until state_is "$lamp" ON; do :; done
done
mkdir -p docs/src/images
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$folder/chromium" \
    --disable-background-networking --disable-component-update --disable-sync --no-first-run --window-size=1040,900 \
    --virtual-time-budget=1500 --screenshot=docs/src/images/demo.png http://127.0.0.1:18841/
