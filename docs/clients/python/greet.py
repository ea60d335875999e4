"""pip install paho-mqtt; python greet.py HOST PORT CA-FILE USERNAME PASSWORD"""

import sys

import paho.mqtt.client as mqtt

host, port, ca, username, password = sys.argv[1:6]


def on_connect(client, userdata, flags, reason, properties):
    if reason.is_failure:
        sys.exit(f"refused: {reason}")
    client.subscribe("clients/python/#", qos=1)


def on_subscribe(client, userdata, mid, reasons, properties):
    client.publish("clients/python/greeting", "hello from Python", qos=1)


def on_message(client, userdata, message):
    print(message.topic, message.payload.decode(), flush=True)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="greet-python", protocol=mqtt.MQTTv5)
client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
client.tls_set(ca_certs=ca)
client.username_pw_set(username, password)
client.will_set("clients/python/gone", "gone", qos=1)
client.connect(host, int(port))
client.loop_forever()
