"""aiomqtt as a peer; called as paho_peer.py is."""

import asyncio
import sys

import aiomqtt

role, port, version, qos, topic, count = sys.argv[1:7]
port, qos, count = int(port), int(qos), int(count)
protocol = {"3.1.1": aiomqtt.ProtocolVersion.V311, "5": aiomqtt.ProtocolVersion.V5}[version]


async def main():
    async with aiomqtt.Client("127.0.0.1", port, identifier=f"aiomqtt-{role}", protocol=protocol) as client:
        if role == "sub":
            await client.subscribe(topic, qos=qos)
            print("ready", flush=True)
            received = 0
            async for message in client.messages:
                print(message.payload.decode(), flush=True)
                received += 1
                if received == count:
                    return
        for number in range(count):
            await client.publish(topic, str(number), qos=qos)


asyncio.run(main())
