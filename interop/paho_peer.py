"""paho-mqtt as a peer: `paho_peer.py pub|sub PORT VERSION QOS TOPIC COUNT`.

A subscriber prints `ready` when its subscription is granted, and then each payload on a line.
A publisher publishes 0, 1, ... and ends when the broker has taken all of them.
"""

import sys

import paho.mqtt.client as mqtt

role, port, version, qos, topic, count = sys.argv[1:7]
port, qos, count = int(port), int(qos), int(count)
protocol = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}[version]
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"paho-{role}", protocol=protocol)
received = 0


def on_connect(client, userdata, flags, reason, properties):
    if reason.is_failure:
        sys.exit(f"refused: {reason}")
    if role == "sub":
        client.subscribe(topic, qos)


def on_subscribe(client, userdata, mid, reasons, properties):
    if any(reason.is_failure for reason in reasons):
        sys.exit(f"not granted: {reasons}")
    print("ready", flush=True)


def on_message(client, userdata, message):
    global received
    print(message.payload.decode(), flush=True)
    received += 1
    if received == count:
        client.disconnect()


client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
client.connect("127.0.0.1", port)
if role == "sub":
    client.loop_forever()
else:
    client.loop_start()
    for number in range(count):
        client.publish(topic, str(number), qos).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()
