"""paho-mqtt and what an exchange of messages does not show: `paho_features.py PORT TLS_PORT CA-FILE VERSION`.

Prints `retained ok`, `will ok`, `session ok`, `shared ok` and `tls ok` as each is seen, or `NAME unsupported: WHY`;
ends with 1 when something is not as it should be.
"""

import queue
import socket
import ssl
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

port, tls_port, ca, version = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
is_5 = version == "5"
protocol = mqtt.MQTTv5 if is_5 else mqtt.MQTTv311
base = f"features/paho-{version}"


def connect(name, clean=True, will=None, tls=False):
    extra = {} if is_5 else {"clean_session": clean}
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2, client_id=f"paho-{name}-{version}", protocol=protocol, **extra
    )
    client.connected, client.granted, client.received = queue.Queue(), queue.Queue(), queue.Queue()
    client.on_connect = lambda c, u, flags, reason, p: c.connected.put((reason.is_failure, flags.session_present))
    client.on_subscribe = lambda c, u, mid, reasons, p: c.granted.put(reasons)
    client.on_message = lambda c, u, message: c.received.put((message.payload.decode(), message.qos, message.retain))
    if will:
        client.will_set(will, "gone", qos=1)
    if tls:
        client.tls_set_context(ssl.create_default_context(cafile=ca))
    host, its_port = ("localhost", tls_port) if tls else ("127.0.0.1", port)
    if is_5:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 0 if clean else 600
        client.connect(host, its_port, clean_start=clean, properties=properties)
    else:
        client.connect(host, its_port)
    client.loop_start()
    failed, client.session_present = client.connected.get(timeout=10)
    assert not failed
    return client


def subscribe(client, topic, qos=1):
    client.subscribe(topic, qos)
    assert not any(reason.is_failure for reason in client.granted.get(timeout=10))


def end(client):
    client.disconnect()
    client.loop_stop()


speaker = connect("speaker")


def publish(topic, payload, qos=1, retain=False):
    speaker.publish(f"{base}/{topic}", payload, qos, retain).wait_for_publish(10)


publish("retained", "kept", retain=True)
listener = connect("listener")
subscribe(listener, f"{base}/retained")
assert listener.received.get(timeout=10) == ("kept", 1, True)
publish("retained", "", retain=True)
end(listener)
print("retained ok", flush=True)

watcher = connect("watcher")
subscribe(watcher, f"{base}/will/#")
end(connect("polite", will=f"{base}/will/polite"))
lost = connect("lost", will=f"{base}/will/lost")
lost.loop_stop()
lost.socket().shutdown(socket.SHUT_RDWR)
assert watcher.received.get(timeout=10) == ("gone", 1, False)
assert watcher.received.empty(), "a client that said goodbye left its will"
end(watcher)
print("will ok", flush=True)

sleeper = connect("sleeper", clean=False)
assert not sleeper.session_present, "a session that nobody made"
subscribe(sleeper, f"{base}/session", 2)
end(sleeper)
for number in range(20):
    publish("session", str(number), qos=1 + number % 2)
sleeper = connect("sleeper", clean=False)
assert sleeper.session_present, "the session is gone"
received = [sleeper.received.get(timeout=10) for _ in range(20)]
for qos in (1, 2):
    # paho hands out a message of QoS 2 when it is released, so only those of one QoS keep their order.
    payloads = [payload for payload, its_qos, _ in received if its_qos == qos]
    assert payloads == [str(number) for number in range(qos - 1, 20, 2)], (qos, payloads)
end(sleeper)
end(connect("sleeper"))
print("session ok", flush=True)

members = [connect(f"member-{number}") for number in range(2)]
for member in members:
    subscribe(member, f"$share/group/{base}/shared")
for number in range(10):
    publish("shared", str(number))
shares = [[member.received.get(timeout=10)[0] for _ in range(5)] for member in members]
assert sorted(shares[0] + shares[1]) == [str(number) for number in range(10)], shares
assert all(member.received.empty() for member in members)
for member in members:
    end(member)
print("shared ok", flush=True)

secure = connect("secure", tls=True)
subscribe(secure, f"{base}/tls", 2)
publish("tls", "secret", qos=2)
assert secure.received.get(timeout=10)[0] == "secret"
end(secure)
end(speaker)
print("tls ok", flush=True)
