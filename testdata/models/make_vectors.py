#!/usr/bin/env python3
"""Writes vectors.json: messages of the models, and what two independent programs read in them.

    make_vectors.py [OUT]                  README.md says what it needs

Octets are drawn here, from a fixed seed, so that they are valid messages; what they say comes from the package
`bluetooth-mesh-messages` and from tshark's dissector, and from nobody else. Where both know a message and read
different numbers, both are kept, and the test says who is right.
"""
import datetime
import enum
import importlib.metadata
import json
import pathlib
import random
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "peers"))
import btmesh_pcap  # noqa: E402
import meshlite  # noqa: E402

from bluetooth_mesh.messages import AccessMessage  # noqa: E402
from bluetooth_mesh.messages.properties import PropertyDict  # noqa: E402

NET_KEY, APP_KEY, IV = bytes(range(16)), bytes(range(16, 32)), 1
ROUNDS = 4
rnd = random.Random(20)

# What octets may be: one that is 0 or 1, one of three values, a transition time that is known, and any.
BOOL, THIRD, TIME, ANY = [0, 1], [0, 1, 2], [r << 6 | s for r in range(4) for s in range(63)], range(256)
N8, N16, N32 = [ANY], [ANY] * 2, [ANY] * 4
TRANSITION = [TIME, ANY]
LEFT = [ANY]
# A Property ID, which is not 0.
ID = [range(1, 256), ANY]


def set_of(*fields):
    """A Set message: its fields and a TID, and a transition or none."""
    whole = sum(fields, []) + N8
    return [whole, whole + TRANSITION]


def status_of(*fields, target=None):
    """A Status message: its fields, and a target with the remaining time or none."""
    whole = sum(fields, [])
    return [whole, whole + sum(fields if target is None else target, []) + LEFT]


# Opcodes with the lists of octets that their parameters may be.
MESSAGES = {
    "8201": [[]], "8202": set_of([BOOL]), "8203": set_of([BOOL]), "8204": status_of([BOOL]),
    "8205": [[]], "8206": set_of(N16), "8207": set_of(N16), "8208": status_of(N16),
    "8209": set_of(N32), "820a": set_of(N32), "820b": set_of(N16), "820c": set_of(N16),
    "820d": [[]], "820e": [[TIME]], "820f": [[TIME]], "8210": [[TIME]],
    "8211": [[]], "8212": [[THIRD]], "8213": [[THIRD]], "8214": [[THIRD]],
    "8223": [[]], "8224": [[range(101)] + N8 * 7],
    "824b": [[]], "824c": set_of(N16), "824d": set_of(N16), "824e": status_of(N16),
    "824f": [[]], "8250": set_of(N16), "8251": set_of(N16), "8252": status_of(N16),
    "8253": [[]], "8254": [N16], "8255": [[]], "8256": [N16], "8257": [[]], "8258": [[THIRD] + N16 * 2],
    "8259": [N16], "825a": [N16], "825b": [N16 * 2], "825c": [N16 * 2],
    "825d": [[]], "825e": set_of(N16 * 3), "825f": set_of(N16 * 3), "8260": status_of(N16 * 2),
    "8261": [[]], "8262": [[]], "8263": [[THIRD] + N16 * 2],
    "8264": set_of(N16 * 2), "8265": set_of(N16 * 2), "8266": status_of(N16 * 2),
    "8267": [[]], "8268": [N16 * 3], "8269": [N16 * 3], "826a": [N16 * 3], "826b": [N16 * 2], "826c": [N16 * 2],
    "826d": [[]], "826e": [[]], "826f": set_of(N16), "8270": set_of(N16), "8271": status_of(N16),
    "8272": [[]], "8273": set_of(N16), "8274": set_of(N16), "8275": status_of(N16),
    "8276": set_of(N16 * 3), "8277": set_of(N16 * 3), "8278": [N16 * 3, N16 * 3 + LEFT],
    "8279": [[]], "827a": [N16 * 3, N16 * 3 + LEFT], "827b": [[]], "827c": [N16 * 3],
    "827d": [[]], "827e": [[THIRD] + N16 * 4], "827f": [N16 * 3], "8280": [N16 * 3],
    "8281": [N16 * 4], "8282": [N16 * 4],
    "8230": [[], ID], "8231": [[], ID], "8234": [ID], "8235": [ID], "8236": [ID * 2],
    "51": [ID, ID + N8 * 3 + [range(8)] + N8 * 2], "58": [ID, ID * 2, ID * 4],
    # Of Motion Sensed, whose values have one octet, so that an unsegmented message holds it. The divisor is below 16,
    # the interval below 27.
    **{opcode: [
        [[0x42], [0], range(16)] + N8 * 2 + [range(27)] + N8 * 2,
        [[0x42], [0], range(0x80, 0x90)] + N16 * 2 + [range(27)] + N8 * 2,
    ] for opcode in ("55", "56", "57")},
    "5b": [ID * 2],
}


def draw(shape):
    return bytes(rnd.choice(list(octets)) for octets in shape)


def number(value):
    """A leaf of the package's parse as JSON."""
    if isinstance(value, (bool, enum.IntEnum)):
        return int(value)
    if isinstance(value, datetime.date):
        return (value - datetime.date(1970, 1, 1)).days
    if isinstance(value, float) and value == sys.float_info.max:
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, (int, float, str)):
        return value
    raise TypeError(f"{value!r} is nothing that a message holds")


def leaves(value):
    if isinstance(value, dict):
        return [leaf for key, member in value.items() if not key.startswith("_") for leaf in leaves(member)]
    if isinstance(value, (list, tuple)):
        return [leaf for member in value for leaf in leaves(member)]
    return [number(value)]


def by_package(payload):
    """What the package reads, if it can, and writes again as it was."""
    try:
        parsed = AccessMessage.parse(payload)
        if bytes(AccessMessage.build(parsed)) != payload:
            return None
    except Exception:  # of many kinds, for messages that it does not know
        return None
    opcode = parsed.pop("opcode")
    if "params" in parsed and isinstance(parsed["params"], bytes):
        return None
    assert opcode is not None
    return leaves(parsed)


def field(name, shown):
    """A leaf of tshark's as JSON: times in seconds, octets in hex."""
    if name.endswith((".transition_time", ".remaining_time")):
        octet = int(shown, 0)
        steps, resolution = octet & 0x3F, [0.1, 1, 10, 600][octet >> 6]
        return None if steps == 0x3F else round(steps * resolution, 1)
    if name.endswith(".delay"):
        return int(shown, 0) * 5 / 1000
    if ":" in shown or name.endswith(("_raw", "_low", "_high", "_down", "_up")):
        return shown.replace(":", "")
    return int(shown, 0)


def by_tshark(payloads):
    """What tshark reads in each of the messages."""
    log = []
    for seq, payload in enumerate(payloads, 1):
        upper = meshlite.upper_encrypt(APP_KEY, False, seq, 1, 2, IV, payload)
        transport = bytes([0x40 | meshlite.k4(APP_KEY)]) + upper
        pdu = meshlite.net_encrypt(NET_KEY, IV, 0, 4, seq, 1, 2, transport)
        log.append((seq / 10, b"\x2a" + pdu))
    with tempfile.NamedTemporaryFile(suffix=".pcap") as pcap:
        btmesh_pcap.write(pcap.name, log)
        keys = f'uat:btmesh_nw_keys:"0x{NET_KEY.hex()}","0x{APP_KEY.hex()}","0x{IV:08x}"'
        command = ["tshark", "-2", "-r", pcap.name, "-o", keys, "-T", "json", "--no-duplicate-keys"]
        output = subprocess.run(command, capture_output=True, check=True).stdout
    packets = json.loads(output)
    assert len(packets) == len(payloads)
    return [read_packet(packet) for packet in packets]


def read_packet(packet):
    found = []

    def walk(name, value):
        # The children of a time are its two halves; those of a bit field are read as themselves.
        if name.endswith((".resolution", ".steps")):
            return
        if isinstance(value, dict):
            for key, member in value.items():
                walk(key, member)
        elif isinstance(value, list):
            for member in value:
                walk(name, member)
        elif name.startswith("btmesh.model.") and name != "btmesh.model.opcode":
            found.append(field(name, value))

    walk("", packet["_source"]["layers"])
    return found


def measurements():
    """A Sensor Status for each property that the package knows, with values of several sizes."""
    for property_id, form in sorted(PropertyDict.items()):
        size = form.sizeof()
        raws = [bytes(size), b"\xff" * size, b"\x01" * size, b"\x40" * size]
        raws += [rnd.randbytes(size) for _ in range(ROUNDS)]
        # Text of few letters, which is filled up.
        raws.append((b"Tr\xc3\xa9llis" + bytes(size))[:size] if size >= 8 else b"\x12" * size)
        for raw in raws:
            if size <= 16:
                head = (property_id << 5 | (size - 1) << 1).to_bytes(2, "little")
            else:
                head = bytes([(size - 1) << 1 | 1]) + property_id.to_bytes(2, "little")
            payload = b"\x52" + head + raw
            try:
                [parsed] = AccessMessage.parse(payload)["sensor_status"]
                value = leaves({k: v for k, v in parsed.items() if k not in ("format", "length", "sensor_setting_property_id")})
            except Exception:  # a value that the package refuses
                continue
            yield {"payload": payload.hex(), "property": int(property_id), "values": value}


def main():
    payloads = [
        bytes.fromhex(opcode) + draw(shape)
        for opcode, shapes in MESSAGES.items()
        for shape in shapes
        for _ in range(ROUNDS if shape else 1)
    ]
    messages = []
    for payload, shark in zip(payloads, by_tshark(payloads)):
        message = {"payload": payload.hex(), "tshark": shark}
        package = by_package(payload)
        if package is not None:
            message["package"] = package
        messages.append(message)
    version = subprocess.run(["tshark", "--version"], capture_output=True, check=True, text=True).stdout.split()[2]
    vectors = {
        "tshark": version,
        "bluetooth-mesh-messages": importlib.metadata.version("bluetooth-mesh-messages"),
        "messages": messages,
        "measurements": list(measurements()),
    }
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "vectors.json"
    # A line for each vector.
    lines = [json.dumps(k) + ": " + (json.dumps(v) if isinstance(v, str) else
             "[\n" + ",\n".join(json.dumps(x, ensure_ascii=False) for x in v) + "\n]") for k, v in vectors.items()]
    out.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
