"""gmqtt as a peer; called as paho_peer.py is."""

import asyncio
import sys

import gmqtt

role, port, version, qos, topic, count = sys.argv[1:7]
port, qos, count = int(port), int(qos), int(count)
protocol = {"3.1.1": gmqtt.constants.MQTTv311, "5": gmqtt.constants.MQTTv50}[version]


async def main():
    client = gmqtt.Client(f"gmqtt-{role}")
    done = asyncio.Event()
    received = 0

    def on_connect(client, flags, reason, properties):
        if role == "sub":
            client.subscribe(topic, qos)

    def on_subscribe(client, mid, granted, properties):
        print("ready", flush=True)

    def on_message(client, topic, payload, qos, properties):
        nonlocal received
        print(payload.decode(), flush=True)
        received += 1
        if received == count:
            done.set()
        return 0

    client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
    await client.connect("127.0.0.1", port, version=protocol)
    if role == "sub":
        await done.wait()
    else:
        for number in range(count):
            client.publish(topic, str(number), qos=qos)
        # gmqtt stores what is not acknowledged in tasks of their own; these run first.
        await asyncio.sleep(0)
        while not await client._persistent_storage.is_empty:
            await asyncio.sleep(0.01)
    await client.disconnect()


asyncio.run(main())
