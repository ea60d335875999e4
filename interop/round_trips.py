"""Switches a lamp on and off: `round_trips.py PORT LAMP COUNT`, and prints what came of it as JSON.

The time runs from just before the PUBLISH is written to when the retained state that matches has come back, which
is a little longer than what the broker sees.
"""

import json
import queue
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

port, lamp, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
states, answers, ready = queue.Queue(), queue.Queue(), queue.Queue()
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="round-trips", protocol=mqtt.MQTTv5)


def on_message(client, userdata, message):
    if message.topic == "round-trips/answers":
        answers.put(json.loads(message.payload))
    else:
        states.put((time.monotonic(), json.loads(message.payload)["state"]))


client.on_message = on_message
client.on_subscribe = lambda *_: ready.put(True)
client.connect("127.0.0.1", port)
client.loop_start()
client.subscribe([(f"mesh/{lamp}", 1), ("round-trips/answers", 1)])
ready.get(timeout=10)

first = None
while first is None:
    # The state is null until the gateway has read it.
    first = states.get(timeout=120)[1]
properties = Properties(PacketTypes.PUBLISH)
properties.ResponseTopic = "round-trips/answers"
times, attempts, lost = [], [], 0
wanted = "OFF" if first == "ON" else "ON"
for _ in range(count):
    while not states.empty():
        states.get()
    command = json.dumps({"state": wanted, "transition": 0})
    started = time.monotonic()
    client.publish(f"mesh/{lamp}/set", command, qos=1, properties=properties)
    answer = answers.get(timeout=30)
    attempts.append(answer["attempts"])
    if answer["status"] != "ok":
        lost += 1
        continue
    while True:
        at, state = states.get(timeout=30)
        if state == wanted:
            times.append((at - started) * 1000)
            break
    wanted = "OFF" if wanted == "ON" else "ON"
client.disconnect()
client.loop_stop()
times.sort()
print(json.dumps({
    "confirmed": len(times),
    "lost": lost,
    "retries": sum(attempts) - len(attempts),
    "median_ms": round(times[len(times) // 2]),
    "p95_ms": round(times[len(times) * 95 // 100]),
    "most_ms": round(times[-1]),
}))
