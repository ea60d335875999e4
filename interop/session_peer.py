"""What exchanges of messages do not show, with paho-mqtt: `session_peer.py PORT VERSION`.

A session that outlives its connection keeps what comes meanwhile, in order; a client that vanishes leaves its will, and
one that says goodbye does not. Ends with 1 and a sentence when something is not so.
"""

import queue
import socket
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

port, version = int(sys.argv[1]), sys.argv[2]
is_5 = version == "5"
protocol = mqtt.MQTTv5 if is_5 else mqtt.MQTTv311


def connect(name, clean=True, will=None):
    extra = {} if is_5 else {"clean_session": clean}
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"{name}-{version}", protocol=protocol, **extra)
    client.connected, client.granted, client.received = queue.Queue(), queue.Queue(), queue.Queue()
    client.on_connect = lambda c, u, flags, reason, p: c.connected.put((reason.is_failure, flags.session_present))
    client.on_subscribe = lambda c, u, mid, reasons, p: c.granted.put(reasons)
    client.on_message = lambda c, u, message: c.received.put((message.topic, message.payload.decode(), message.qos))
    if will:
        client.will_set(will, "gone", qos=1)
    if is_5:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 0 if clean else 600
        client.connect("127.0.0.1", port, clean_start=clean, properties=properties)
    else:
        client.connect("127.0.0.1", port)
    client.loop_start()
    failed, present = client.connected.get(timeout=10)
    assert not failed
    return client, present


def end(client):
    client.disconnect()
    client.loop_stop()


sleeper, present = connect("sleeper", clean=False)
assert not present, "a session that nobody made"
sleeper.subscribe(f"sleep/{version}", qos=2)
sleeper.granted.get(timeout=10)
end(sleeper)
speaker, _ = connect("speaker")
for number in range(20):
    speaker.publish(f"sleep/{version}", str(number), qos=1 + number % 2).wait_for_publish(10)
sleeper, present = connect("sleeper", clean=False)
assert present, "the session is gone"
received = [sleeper.received.get(timeout=10) for _ in range(20)]
for qos in (1, 2):
    # paho hands out a message of QoS 2 when it is released, so only those of one QoS keep their order.
    payloads = [payload for _, payload, its_qos in received if its_qos == qos]
    assert payloads == [str(number) for number in range(qos - 1, 20, 2)], (qos, payloads)
end(sleeper)

watcher, _ = connect("watcher")
watcher.subscribe(f"wills/{version}/#", qos=1)
watcher.granted.get(timeout=10)
polite, _ = connect("polite", will=f"wills/{version}/polite")
end(polite)
lost, _ = connect("lost", will=f"wills/{version}/lost")
lost.loop_stop()
lost.socket().shutdown(socket.SHUT_RDWR)
assert watcher.received.get(timeout=10) == (f"wills/{version}/lost", "gone", 1)
assert watcher.received.empty()
end(watcher)
end(speaker)
