"""aiomqtt and what an exchange of messages does not show; called as paho_features.py is."""

import asyncio
import socket
import ssl
import sys

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

port, tls_port, ca, version = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
is_5 = version == "5"
base = f"features/aiomqtt-{version}"


def client(name, clean=True, will=None, tls=False):
    settings = {"identifier": f"aiomqtt-{name}-{version}"}
    if is_5:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 0 if clean else 600
        settings |= {"protocol": aiomqtt.ProtocolVersion.V5, "clean_start": clean, "properties": properties}
    else:
        settings |= {"protocol": aiomqtt.ProtocolVersion.V311, "clean_session": clean}
    if will:
        settings["will"] = aiomqtt.Will(will, "gone", qos=1)
    if tls:
        return aiomqtt.Client("localhost", tls_port, tls_context=ssl.create_default_context(cafile=ca), **settings)
    return aiomqtt.Client("127.0.0.1", port, **settings)


async def receive(its_client, count):
    async with asyncio.timeout(10):
        return [await anext(its_client.messages) for _ in range(count)]


def payloads(messages):
    return [message.payload.decode() for message in messages]


async def main():
    numbers = [str(number) for number in range(10)]
    async with client("speaker") as speaker:
        await speaker.publish(f"{base}/retained", "kept", qos=1, retain=True)
        async with client("listener") as listener:
            await listener.subscribe(f"{base}/retained", qos=1)
            [message] = await receive(listener, 1)
            assert message.payload == b"kept" and message.retain
        await speaker.publish(f"{base}/retained", "", qos=1, retain=True)
        print("retained ok", flush=True)

        async with client("watcher") as watcher:
            await watcher.subscribe(f"{base}/will", qos=1)
            try:
                async with client("lost", will=f"{base}/will") as lost:
                    # There is no way to vanish but below the library.
                    lost._client.socket().shutdown(socket.SHUT_RDWR)
                    assert payloads(await receive(watcher, 1)) == ["gone"]
            except aiomqtt.MqttError:
                pass  # It says that its connection was lost.
        print("will ok", flush=True)

        async with client("sleeper", clean=False) as sleeper:
            await sleeper.subscribe(f"{base}/session", qos=1)
        for number in numbers:
            await speaker.publish(f"{base}/session", number, qos=1)
        async with client("sleeper", clean=False) as sleeper:
            assert payloads(await receive(sleeper, 10)) == numbers
        print("session ok", flush=True)

        async with client("member-1") as one, client("member-2") as two:
            for member in (one, two):
                await member.subscribe(f"$share/group/{base}/shared", qos=1)
            for number in numbers:
                await speaker.publish(f"{base}/shared", number, qos=1)
            shares = payloads(await receive(one, 5)) + payloads(await receive(two, 5))
            assert sorted(shares) == numbers, shares
        print("shared ok", flush=True)

        async with client("secure", tls=True) as secure:
            await secure.subscribe(f"{base}/tls", qos=2)
            await speaker.publish(f"{base}/tls", "secret", qos=2)
            assert payloads(await receive(secure, 1)) == ["secret"]
        print("tls ok", flush=True)


asyncio.run(main())
