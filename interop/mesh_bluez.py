#!/usr/bin/env python3
"""BlueZ's bluetooth-meshd and a node of ours on one air, each as the provisioner of the other.

    testdata/peers/meshd-unit.sh python3 interop/mesh_bluez.py TRELLIS [PCAP_FOLDER]

Each step checks what meshd's application was told, or what `trellis mesh-node` prints.
"""
import asyncio
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "testdata/peers"))

from dbus_next.aio import MessageBus  # noqa: E402
from dbus_next import Message, Variant  # noqa: E402
from meshd_unit_probe import MESH, ROOT, Agent, App, Element, Prov, event, iface  # noqa: E402

TRELLIS = sys.argv[1]
FOLDER = Path(sys.argv[2]) if len(sys.argv) > 2 else None
RETRY = "3s"                                    # meshd drops what it was about to say when it is asked again


def ok(text):
    print("ok   " + text, flush=True)


def uuid4():
    return os.urandom(6) + b"\x40\x00\x80" + os.urandom(7)


class Node:
    """`trellis mesh-node`, its commands and what it says."""

    @classmethod
    async def start(cls, name, *arguments):
        self = cls()
        arguments = list(arguments)
        if FOLDER:
            arguments += ["--pcap", str(FOLDER / (name + ".pcap"))]
        self.process = await asyncio.create_subprocess_exec(
            TRELLIS, "mesh-node", "--bearer", "unix:" + os.environ["MESHD_SOCK"], "--pb-adv-retry", RETRY,
            *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        self.said, self.new = [], asyncio.Condition()
        self.reader = asyncio.create_task(self._read())
        return self

    async def _read(self):
        async for line in self.process.stdout:
            async with self.new:
                self.said.append(json.loads(line))
                self.new.notify_all()

    def say(self, command):
        self.process.stdin.write(command.encode() + b"\n")

    async def hear(self, kind, want=lambda line: True, timeout=60):
        """The first line of this kind that was not asked for before."""
        async def get():
            while True:
                for number, line in enumerate(self.said):
                    if line["event"] == kind and want(line):
                        return self.said.pop(number)
                async with self.new:
                    await self.new.wait()
        try:
            return await asyncio.wait_for(get(), timeout)
        except asyncio.TimeoutError:
            raise RuntimeError("no %s; said: %s" % (kind, self.said[-12:])) from None

    async def ask(self, to, key, message, answer):
        """Sends until the answer begins as it should."""
        for _ in range(4):
            self.say("send %s %s %s" % (to, key, message))
            try:
                line = await self.hear("message", lambda x: x["payload"].startswith(answer), 5)
                return bytes.fromhex(line["payload"])
            except RuntimeError:
                pass
        raise RuntimeError("no answer %s to %s: %s" % (answer, message, self.said[-12:]))

    async def local(self, message, answer):
        self.say("local " + message)
        line = await self.hear("configured", timeout=5)
        assert line["payload"].startswith(answer), (message, line)

    async def end(self):
        self.say("quit")
        await self.process.wait()
        assert self.process.returncode == 0


async def meshd_provisions_us(bus, net):
    ev = asyncio.Queue()
    bus.export("/prov/app", App(ev))
    bus.export("/prov/app", Prov(ev, 0x0100))
    bus.export("/prov/agent", Agent())
    bus.export("/prov/ele0", Element(ev, [0x0001, 0x1001]))
    await net.call_create_network("/prov", uuid4())
    token, = await event(ev, "JoinComplete")
    path, _ = await net.call_attach("/prov", token)
    node, mgmt = await iface(bus, path, "Node1"), await iface(bus, path, "Management1")

    async def exported():
        keys = await bus.call(Message(destination=MESH, path=path, member="ExportKeys",
                                      interface=MESH + ".Management1"))
        return bytes(keys.body[0]["NetKeys"].value[0][1]).hex()

    net_key = await exported()

    uuid = uuid4()
    us = await Node.start("meshd-provisions", "--uuid", uuid.hex())
    await mgmt.call_unprovisioned_scan({"Seconds": Variant("q", 30)})
    while True:
        _, data = await event(ev, "ScanResult", 30)
        if data[:16] == uuid:
            break
    ok("our unprovisioned device beacon is reported to meshd's application")
    await mgmt.call_add_node(uuid, {})
    _, address, count = await event(ev, "AddNodeComplete")
    line = await us.hear("provisioned")
    assert (address, count) == (0x0100, 1) and line["net_key"] == net_key and line["address"] == "0100"
    ok("meshd provisions us as 0100")

    async def ask(message, answer, to=0x0100):
        for _ in range(4):
            await node.call_dev_key_send("/prov/ele0", to, True, 0, {}, bytes.fromhex(message))
            try:
                return await told(answer, 5)
            except asyncio.TimeoutError:
                pass
        raise RuntimeError("no answer %s to %s" % (answer, message))

    async def told(answer, timeout=15):
        answer = bytes.fromhex(answer)

        async def get():
            while True:
                e = await ev.get()
                if "MessageReceived" in e[0] and e[-1].startswith(answer):
                    return e[-1]
        return await asyncio.wait_for(get(), timeout)

    data = await ask("800800", "02")
    assert data[2:4] == b"\xff\xff"
    ok("our Composition Data, segmented: %s" % data.hex())
    await mgmt.call_create_app_key(0, 0)
    for to in (0x0100, 0x0001):
        await node.call_add_app_key("/prov/ele0", to, 0, 0, False)
        await told("800300000000")
    await ask("803d" "0100" "0000" "0110", "803e00", 0x0001)
    for message, answer, what in [
        ("803d" "0001" "0000" "0010", "803e00", "Model App Bind"),
        ("801b" "0001" "01c0" "0010", "801f00", "Model Subscription Add"),
        ("8020" "0001" "0011223344556677" "8899aabbccddeeff" "0010", "801f00",
         "Model Subscription Virtual Address Add"),
        ("8029" "0001" "0010", "802a00000100" "1001c0", "SIG Model Subscription Get"),
        ("03" "0001" "0100" "0000" "ff" "00" "00" "0010", "801900", "Model Publication Set"),
        ("800d05", "800e05", "Default TTL Set"),
        ("80270120", "80280120", "Relay Set"),
        ("802411", "802511", "Network Transmit Set"),
        ("8039" "0100" "02" "01" "05" "0000" "0000", "0600", "Heartbeat Publication Set"),
        ("803b" "0100" "0001" "05", "803c00", "Heartbeat Subscription Set"),
        ("800a01", "800b01", "Beacon Set"),
        ("80150000", "801700000000", "Key Refresh Phase Get"),
        ("804b" "0001" "0010", "804c00" "000100100000", "SIG Model App Get"),
    ]:
        data = await ask(message, answer)
        ok("%s: %s" % (what, data.hex()))
    await node.call_send("/prov/ele0", 0x0100, 0, {}, bytes.fromhex("82020101"))
    assert (await us.hear("changed"))["on"] is True
    ok("Generic OnOff Set from meshd turns our lamp on; meshd is told: %s" % (await told("820401")).hex())
    await node.call_send("/prov/ele0", 0xC001, 0, {}, bytes.fromhex("82030002"))
    assert (await us.hear("changed"))["on"] is False
    ok("and off, by a group; our publication says so: %s" % (await told("820400")).hex())

    # Key refresh, with meshd as the manager.
    await mgmt.call_update_subnet(0)
    for to in (0x0100, 0x0001):
        await node.call_add_net_key("/prov/ele0", to, 0, 0, True)
        await told("8044000000")
    await mgmt.call_update_app_key(0)
    for to in (0x0100, 0x0001):
        await node.call_add_app_key("/prov/ele0", to, 0, 0, True)
        await told("800300000000")
    await us.hear("key_refresh", lambda x: x["phase"] == 1)
    await mgmt.call_set_key_phase(0, 2)
    await ask("8016" "0000" "02", "801700000002", 0x0001)
    await us.hear("key_refresh", lambda x: x["phase"] == 2)
    ok("key refresh: we follow meshd's beacon to phase 2")
    await node.call_send("/prov/ele0", 0x0100, 0, {}, bytes.fromhex("82020103"))
    await told("820401")
    ok("messages pass under the new keys")
    await mgmt.call_set_key_phase(0, 3)
    await ask("8016" "0000" "03", "801700000000", 0x0001)
    await us.hear("key_refresh", lambda x: x["phase"] == 0)
    ok("key refresh: the old keys are revoked")
    await node.call_send("/prov/ele0", 0x0100, 0, {}, bytes.fromhex("82020004"))
    await told("820400")
    await ask("8049", "804a")
    await us.hear("reset")
    ok("Node Reset: answered, and carried out")
    await us.end()
    if FOLDER:
        keys = {"net_keys": [net_key, await exported()], "dev_key": line["dev_key"]}
        (FOLDER / "meshd-provisions.json").write_text(json.dumps(keys))


async def we_provision_meshd(bus, net):
    us = await Node.start("we-provision")
    net_key, app_key, oob, uuid = os.urandom(16).hex(), os.urandom(16).hex(), os.urandom(16), uuid4()
    us.say("create %s 0005" % net_key)
    await us.hear("provisioned")
    ev = asyncio.Queue()
    bus.export("/node/app", App(ev))
    bus.export("/node/agent", Agent(oob))
    bus.export("/node/ele0", Element(ev, [0x1000], [(0x05F1, 1)]))
    await net.call_join("/node", uuid)
    await us.hear("device", lambda x: x["uuid"] == uuid.hex())
    us.say("provision %s 0200 static %s" % (uuid.hex(), oob.hex()))
    line = await us.hear("added")
    token, = await event(ev, "JoinComplete")
    assert line["address"] == "0200" and line["authenticated"]
    path, _ = await net.call_attach("/node", token)
    node = await iface(bus, path, "Node1")
    ok("we provision meshd as 0200, with static OOB")

    data = await us.ask("0200", "dev", "800800", "02")
    ok("meshd's Composition Data, segmented: %s" % data.hex())
    await us.local("00" "000000" + app_key, "800300")
    await us.local("803d" "0500" "0000" "0110", "803e00")
    await us.local("803d" "0500" "0000" "ffff" "0100", "803e00")
    label = os.urandom(16).hex()
    for message, answer, what in [
        ("00" "000000" + app_key, "800300", "AppKey Add, segmented"),
        ("803d" "0002" "0000" "0010", "803e00", "Model App Bind"),
        ("803d" "0002" "0000" "f105" "0100", "803e00", "Model App Bind, vendor"),
        ("801b" "0002" "01c0" "0010", "801f00", "Model Subscription Add"),
        ("8020" "0002" + label + "0010", "801f00", "Model Subscription Virtual Address Add"),
        ("03" "0002" "0500" "0000" "07" "00" "00" "0010", "801900", "Model Publication Set"),
        ("800d06", "800e06", "Default TTL Set"),
        ("80270120", "8028", "Relay Set"),
        ("8039" "0500" "02" "01" "05" "0000" "0000", "0600", "Heartbeat Publication Set"),
    ]:
        data = await us.ask("0200", "dev", message, answer)
        ok("%s: %s" % (what, data.hex()))
    beat = await us.hear("heartbeat")
    ok("a heartbeat of meshd's: %s" % beat)

    async def told(data):
        data = bytes.fromhex(data)

        async def get():
            while True:
                e = await ev.get()
                if e[0] == "MessageReceived" and e[-1] == data:
                    return e
        return await asyncio.wait_for(get(), 15)

    us.say("send 0200 app:0 82020101")
    await told("82020101")
    us.say("send c001 app:0 82030002")
    await told("82030002")
    us.say("send label:%s app:0 82030103" % label)
    e = await told("82030103")
    assert bytes(e[3]).hex() == label
    ok("messages to meshd: to its element, to a group, to a virtual address")
    long = "c0f105" + os.urandom(300).hex()
    us.say("send 0200 app:0 " + long)
    await told(long)
    assert (await us.hear("sent", timeout=20))["error"] is None
    ok("303 octets to meshd, segmented and acknowledged")
    long = "c0ffff" + os.urandom(200).hex()
    await node.call_send("/node/ele0", 0x0005, 0, {}, bytes.fromhex(long))
    await us.hear("message", lambda x: x["payload"] == long)
    await node.call_publish("/node/ele0", 0x1000, {}, bytes.fromhex("820401"))
    await us.hear("message", lambda x: x["payload"] == "820401")
    ok("messages from meshd: segmented, and published")
    # meshd's application cannot name a label; its node publishes to one that we subscribe to.
    label = os.urandom(16).hex()
    await us.local("8020" "0500" + label + "0110", "801f00")
    await us.ask("0200", "dev", "801a" "0002" + label + "0000" "07" "00" "00" "0010", "801900")
    for payload in ("820400", "820401" "00" "41"):
        await node.call_publish("/node/ele0", 0x1000, {}, bytes.fromhex(payload))
        heard = await us.hear("message", lambda x: x["payload"] == payload)
        assert 0x8000 <= int(heard["destination"], 16) < 0xC000, heard
    ok("and to a virtual address, %s" % heard["destination"])

    # IV Update: meshd follows, and both hear each other in each state.
    us.say("iv test")
    us.say("iv start")
    assert (await us.hear("iv_index"))["in_progress"] is True
    await asyncio.sleep(3)
    await us.ask("0200", "dev", "800c", "800e06")
    us.say("iv finish")
    assert (await us.hear("iv_index"))["in_progress"] is False
    await us.ask("0200", "dev", "800c", "800e06")
    us.say("send 0200 app:0 82020105")
    await told("82020105")
    ok("IV Update: messages pass while it is in progress and after")

    # Key refresh, with us as the manager.
    new_net, new_app = os.urandom(16).hex(), os.urandom(16).hex()
    await us.local("8045" "0000" + new_net, "804400")
    await us.ask("0200", "dev", "8045" "0000" + new_net, "804400")
    await us.local("01" "000000" + new_app, "800300")
    await us.ask("0200", "dev", "01" "000000" + new_app, "800300")
    await us.local("8016" "0000" "02", "801700000002")
    data = await us.ask("0200", "dev", "8015" "0000", "8017000000")
    for _ in range(5):
        if data[-1] == 2:
            break
        await asyncio.sleep(5)
        data = await us.ask("0200", "dev", "8015" "0000", "8017000000")
    assert data[-1] == 2
    us.say("send 0200 app:0 82020106")
    await told("82020106")
    ok("key refresh: meshd follows our beacon to phase 2, and hears the new keys")
    await us.local("8016" "0000" "03", "801700000000")
    data = await us.ask("0200", "dev", "8016" "0000" "03", "8017000000")
    assert data[-1] == 0
    us.say("send 0200 app:0 82020107")
    await told("82020107")
    ok("key refresh: the old keys are revoked")
    us.say("send 0200 dev 8049")
    # This meshd removes the node before its answer has left.
    for _ in range(50):
        if not any(uuid.hex() in name for name in os.listdir(os.environ["MESHD_STORE"])):
            break
        await asyncio.sleep(0.2)
    else:
        raise RuntimeError("meshd still has the node")
    ok("Node Reset of meshd's node")
    await us.end()
    if FOLDER:
        keys = {"net_keys": [net_key, new_net], "app_keys": [app_key, new_app], "dev_key": line["dev_key"]}
        (FOLDER / "we-provision.json").write_text(json.dumps(keys))


async def on_bus(*stages):
    """Does one thing after the other with meshd, once it is there."""
    bus = await MessageBus(bus_address=os.environ["DBUS_SESSION_BUS_ADDRESS"]).connect()
    for _ in range(50):
        try:
            net = await iface(bus, ROOT, "Network1")
            break
        except Exception:
            await asyncio.sleep(0.1)
    for stage in stages:
        await stage(bus, net)
    bus.disconnect()


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(on_bus(meshd_provisions_us, we_provision_meshd), 420))
