#!/bin/sh
# mosquitto's clients and what an exchange of messages does not show; called as paho_features.py is.
set -eu
port=$1 tls_port=$2 ca=$3 version=$4
name="mosquitto-$version" base="features/mosquitto-$version"
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT
keep=
if [ "$version" = 5 ]; then V=mqttv5 keep="-x 600"; else V=mqttv311; fi
pub() { timeout 20 mosquitto_pub -V $V -h 127.0.0.1 -p "$port" "$@"; }
sub() { timeout 20 stdbuf -oL mosquitto_sub -V $V -h 127.0.0.1 -p "$port" "$@"; }
# Waits until a subscriber in the background has its subscription.
granted() { until grep -q '^Subscribed' "$1" 2>/dev/null; do sleep 0.05; done; }

pub -q 1 -r -t "$base/retained" -m kept
[ "$(sub -q 1 -t "$base/retained" -C 1 --retained-only)" = kept ]
pub -q 1 -r -t "$base/retained" -n
echo "retained ok"

sub -d -q 1 -t "$base/will" -C 1 > "$folder/watcher" & watcher=$!
granted "$folder/watcher"
# Not below `timeout`, so that it is the client that is killed.
stdbuf -oL mosquitto_sub -V $V -h 127.0.0.1 -p "$port" -d -t "$base/nothing" \
  --will-topic "$base/will" --will-payload gone --will-qos 1 > "$folder/lost" & lost=$!
granted "$folder/lost"
kill -9 $lost
wait $watcher
grep -q '^gone$' "$folder/watcher"
echo "will ok"

# -E leaves once the subscription is granted.
sub -c $keep -i "$name-sleeper" -q 1 -t "$base/session" -E
seq 0 9 | pub -q 1 -t "$base/session" -l
[ "$(sub -c $keep -i "$name-sleeper" -q 1 -t "$base/session" -C 10)" = "$(seq 0 9)" ]
echo "session ok"

for member in 1 2; do
  sub -d -q 1 -t "\$share/group/$base/shared" -C 5 > "$folder/$member" &
  eval "member$member=$!"
  granted "$folder/$member"
done
seq 0 9 | pub -q 1 -t "$base/shared" -l
wait "$member1"; wait "$member2"
[ "$(grep -hE '^[0-9]+$' "$folder/1" "$folder/2" | sort -n)" = "$(seq 0 9)" ]
echo "shared ok"

timeout 20 stdbuf -oL mosquitto_sub -V $V -h localhost -p "$tls_port" --cafile "$ca" -d -q 2 -t "$base/tls" -C 1 \
  > "$folder/tls" & secure=$!
granted "$folder/tls"
timeout 20 mosquitto_pub -V $V -h localhost -p "$tls_port" --cafile "$ca" -q 2 -t "$base/tls" -m secret
wait $secure
grep -q '^secret$' "$folder/tls"
echo "tls ok"
