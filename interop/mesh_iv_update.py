#!/usr/bin/env python3
"""An IV Update that BlueZ's bluetooth-meshd begins and ends, and our node follows.

    python3 interop/mesh_iv_update.py TRELLIS FOLDER

meshd begins one when it has used half of its sequence numbers. So it makes a network, is stopped, its stored sequence
number is set to a few below that, and it is started again. Its 96 hours in progress are made 40 seconds by
mesh_hours.c, and our node is in the IV Update test mode, which lifts the same limit (MshPRT 3.11.5.1).
"""
import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from mesh_bluez import FOLDER, Node, ok, on_bus, uuid4
from dbus_next import Message, Variant
from meshd_unit_probe import MESH, ROOT, Agent, App, Element, Prov, event, iface

HERE = Path(__file__).resolve().parent
MESHD = "/usr/libexec/bluetooth/bluetooth-meshd"
HALF = 0x800000
BEFORE = 60                                     # sequence numbers left until meshd begins
STORE, TOKEN = FOLDER / "store", FOLDER / "token"


def start(stage):
    """Runs a stage of this script with a meshd that keeps what it stores."""
    environment = {**os.environ, "MESHD": str(FOLDER / "meshd"), "MESHD_ARGS": "--storage %s" % STORE}
    command = ["bash", HERE.parent / "testdata/peers/meshd-unit.sh", sys.executable, __file__, *sys.argv[1:3], stage]
    subprocess.run(command, env=environment, check=True)


def run():
    STORE.mkdir(parents=True)
    shim = FOLDER / "hours.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", shim, HERE / "mesh_hours.c", "-ldl"], check=True)
    wrapper = FOLDER / "meshd"
    wrapper.write_text('#!/bin/sh\nLD_PRELOAD="$LD_PRELOAD %s" exec %s "$@"\n' % (shim, MESHD))
    wrapper.chmod(0o755)
    start("create")
    stored, = STORE.glob("*/node.json")
    node = json.loads(stored.read_text())
    node["sequenceNumber"] = HALF - BEFORE
    stored.write_text(json.dumps(node))
    stored.with_suffix(".json.bak").unlink(missing_ok=True)
    start("update")


def export(bus):
    ev = asyncio.Queue()
    bus.export("/prov/app", App(ev))
    bus.export("/prov/app", Prov(ev, 0x0100))
    bus.export("/prov/agent", Agent())
    bus.export("/prov/ele0", Element(ev, [0x0001, 0x1001]))
    return ev


async def create(bus, net):
    ev = export(bus)
    await net.call_create_network("/prov", uuid4())
    token, = await event(ev, "JoinComplete")
    TOKEN.write_text(str(token))


async def update(bus, net):
    ev = export(bus)
    path, _ = await net.call_attach("/prov", int(TOKEN.read_text()))
    node, mgmt = await iface(bus, path, "Node1"), await iface(bus, path, "Management1")
    body = (await bus.call(Message(destination=MESH, path=path, member="ExportKeys",
                                   interface=MESH + ".Management1"))).body
    net_key = bytes(body[0]["NetKeys"].value[0][1]).hex()

    async def state():
        return await node.get_iv_index(), await node.get_iv_update(), await node.get_sequence_number()

    async def told(answer, timeout=5):
        async def get():
            while True:
                e = await ev.get()
                if "MessageReceived" in e[0] and e[-1].hex().startswith(answer):
                    return
        await asyncio.wait_for(get(), timeout)

    async def ask(send, answer):
        for _ in range(4):
            await send()
            try:
                return await told(answer)
            except asyncio.TimeoutError:
                pass
        raise RuntimeError("no answer %s" % answer)

    async def config(to, message, answer):
        await ask(lambda: node.call_dev_key_send("/prov/ele0", to, True, 0, {}, bytes.fromhex(message)), answer)

    transaction = 0

    async def switch():
        """The lamp is switched by meshd, and meshd is told what it is now."""
        nonlocal transaction
        transaction += 1
        message = bytes([0x82, 0x02, transaction & 1, transaction & 0xFF])
        await ask(lambda: node.call_send("/prov/ele0", 0x0100, 0, {}, message), "8204%02x" % (transaction & 1))

    uuid = uuid4()
    us = await Node.start("meshd-updates", "--uuid", uuid.hex())
    await mgmt.call_unprovisioned_scan({"Seconds": Variant("q", 30)})
    while (await event(ev, "ScanResult", 30))[1][:16] != uuid:
        pass
    await mgmt.call_add_node(uuid, {})
    await event(ev, "AddNodeComplete")
    line = await us.hear("provisioned")
    await mgmt.call_create_app_key(0, 0)
    for to in (0x0100, 0x0001):
        await ask(lambda: node.call_add_app_key("/prov/ele0", to, 0, 0, False), "800300000000")
    await config(0x0100, "803d" "0001" "0000" "0010", "803e00")
    await config(0x0001, "803d" "0100" "0000" "0110", "803e00")
    await switch()
    index, in_progress, seq = await state()
    assert (index, in_progress) == (0, False) and seq <= HALF, (index, in_progress, seq)
    ok("before: messages pass at IV Index 0, meshd's sequence number is %06x" % seq)

    # meshd ends the update 40 s after it begins it, and says that it has by a beacon each 10 to 20 s.
    while not (await state())[1]:
        await switch()
    index, _, seq = await state()
    ok("meshd begins an IV Update at %06x, for IV Index %d" % (seq, index))
    told_us = await us.hear("iv_index", timeout=35)
    assert (told_us["index"], told_us["in_progress"]) == (1, True), told_us
    await switch()
    await config(0x0100, "800c", "800e")
    assert (await state())[1] is True
    ok("in progress: we follow meshd's beacon to IV Index 1, and messages pass both ways")

    us.say("iv test")
    told_us = await us.hear("iv_index", timeout=80)
    assert (told_us["index"], told_us["in_progress"]) == (1, False), told_us
    index, in_progress, seq = await state()
    assert (index, in_progress) == (1, False) and seq < 0x1000, (index, in_progress, seq)
    await switch()
    await config(0x0100, "800c", "800e")
    ok("after: meshd ends it and begins again at sequence number %06x; we follow, and messages pass both ways" % seq)
    await us.end()
    keys = {"net_keys": [net_key], "dev_key": line["dev_key"]}
    (FOLDER / "meshd-updates.json").write_text(json.dumps(keys))


if __name__ == "__main__":
    if len(sys.argv) > 3:
        asyncio.run(asyncio.wait_for(on_bus({"create": create, "update": update}[sys.argv[3]]), 240))
    else:
        run()
