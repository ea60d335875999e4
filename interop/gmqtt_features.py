"""gmqtt and what an exchange of messages does not show; called as paho_features.py is."""

import asyncio
import ssl
import sys

import gmqtt

port, tls_port, ca, version = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
is_5 = version == "5"
protocol = gmqtt.constants.MQTTv50 if is_5 else gmqtt.constants.MQTTv311
base = f"features/gmqtt-{version}"


async def connect(name, clean=True, will=None, tls=False):
    keep = {"session_expiry_interval": 0 if clean else 600} if is_5 else {}
    message = gmqtt.Message(will, "gone", qos=1) if will else None
    client = gmqtt.Client(f"gmqtt-{name}-{version}", clean_session=clean, will_message=message, **keep)
    client.set_config({"reconnect_retries": 0})
    client.received, client.granted = asyncio.Queue(), asyncio.Queue()

    def on_message(client, topic, payload, qos, properties):
        client.received.put_nowait((payload.decode(), properties["retain"]))
        return 0

    client.on_message = on_message
    client.on_subscribe = lambda client, mid, granted, properties: client.granted.put_nowait(granted)
    if tls:
        await client.connect("localhost", tls_port, ssl=ssl.create_default_context(cafile=ca), version=protocol)
    else:
        await client.connect("127.0.0.1", port, version=protocol)
    return client


async def subscribe(client, topic, qos=1):
    client.subscribe(topic, qos)
    await asyncio.wait_for(client.granted.get(), 10)


async def receive(client, count):
    return [(await asyncio.wait_for(client.received.get(), 10))[0] for _ in range(count)]


async def main():
    numbers = [str(number) for number in range(10)]
    speaker = await connect("speaker")

    async def publish(topic, payload, qos=1, retain=False):
        speaker.publish(f"{base}/{topic}", payload, qos=qos, retain=retain)
        # gmqtt stores what is not acknowledged in tasks of their own; these run first.
        await asyncio.sleep(0)
        while not await speaker._persistent_storage.is_empty:
            await asyncio.sleep(0.01)

    await publish("retained", "kept", retain=True)
    listener = await connect("listener")
    await subscribe(listener, f"{base}/retained")
    payload, retain = await asyncio.wait_for(listener.received.get(), 10)
    assert payload == "kept" and retain
    await publish("retained", "", retain=True)
    await listener.disconnect()
    print("retained ok", flush=True)

    watcher = await connect("watcher")
    await subscribe(watcher, f"{base}/will")
    lost = await connect("lost", will=f"{base}/will")
    # There is no way to vanish but below the library.
    lost._connection._transport.abort()
    assert await receive(watcher, 1) == ["gone"]
    await watcher.disconnect()
    print("will ok", flush=True)

    sleeper = await connect("sleeper", clean=False)
    await subscribe(sleeper, f"{base}/session")
    await sleeper.disconnect()
    for number in numbers:
        await publish("session", number)
    sleeper = await connect("sleeper", clean=False)
    assert await receive(sleeper, 10) == numbers
    await sleeper.disconnect()
    print("session ok", flush=True)

    members = [await connect(f"member-{number}") for number in range(2)]
    for member in members:
        await subscribe(member, f"$share/group/{base}/shared")
    for number in numbers:
        await publish("shared", number)
    shares = await receive(members[0], 5) + await receive(members[1], 5)
    assert sorted(shares) == numbers, shares
    for member in members:
        await member.disconnect()
    print("shared ok", flush=True)

    secure = await connect("secure", tls=True)
    await subscribe(secure, f"{base}/tls", 2)
    await publish("tls", "secret", qos=2)
    assert await receive(secure, 1) == ["secret"]
    await secure.disconnect()
    await speaker.disconnect()
    print("tls ok", flush=True)


asyncio.run(main())
