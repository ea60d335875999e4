"""What a person does with the lamps of a mesh, and what comes back: `home.py PORT SUITE [ARGUMENT...]`.

Prints what came of it as JSON, and ends with an error if anything was not as it has to be. Commands are sent with
mosquitto_pub where a person would use that, and with paho-mqtt where the time counts.
"""

import json
import pathlib
import queue
import subprocess
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

ANSWERS = "home/answers"


class Home:
    """A client that sees everything below `mesh/`."""

    def __init__(self, port, name="home"):
        self.port = port
        self.retained = {}
        self.messages = queue.Queue()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
        self.client.on_message = self.on_message
        self.client.on_connect = lambda *_: self.client.subscribe([("mesh/#", 1), (ANSWERS, 1)])
        ready = queue.Queue()
        self.client.on_subscribe = lambda *_: ready.put(True)
        self.client.reconnect_delay_set(min_delay=1, max_delay=1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        ready.get(timeout=10)

    def on_message(self, client, userdata, message):
        payload = json.loads(message.payload) if message.payload else None
        if message.topic != ANSWERS:
            self.retained[message.topic] = payload
        self.messages.put((time.monotonic(), message.topic, payload))

    def wait(self, what, is_it, timeout=60):
        """The first message that satisfies, from now on."""
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            try:
                at, topic, payload = self.messages.get(timeout=left)
            except queue.Empty:
                break
            if is_it(topic, payload):
                return at, topic, payload
        sys.exit(f"{what} did not happen within {timeout} s")

    def until(self, what, is_it, timeout=120):
        """Waits for something to be true of all that was heard."""
        end = time.monotonic() + timeout
        while not is_it(self.retained):
            if time.monotonic() > end:
                sys.exit(f"{what} is not so after {timeout} s")
            try:
                self.messages.get(timeout=0.2)
            except queue.Empty:
                pass

    def forget(self):
        while not self.messages.empty():
            self.messages.get()

    def endpoints(self):
        """All elements that people see, by name, with what they expose."""
        devices = self.retained.get("mesh/bridge/devices") or []
        return {e["name"]: e["exposes"] for device in devices for e in device["endpoints"]}

    def lamps(self):
        return [name for name, exposes in self.endpoints().items() if any(x["type"] == "light" for x in exposes)]

    def known(self):
        """Waits until every node has said what it is, and every lamp how it is."""
        def is_known(retained):
            devices = retained.get("mesh/bridge/devices") or []
            return devices and all(x["interviewed"] for x in devices) and self.lamps() and all(
                (retained.get(f"mesh/{lamp}") or {}).get("state") and
                (retained[f"mesh/{lamp}"]).get("brightness") is not None for lamp in self.lamps())
        self.until("that all lamps are known", is_known, 180)

    def command(self, name, payload, timeout=30):
        """Publishes a command; its answer, and how long that took in seconds."""
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = ANSWERS
        number = str(time.monotonic_ns())
        properties.CorrelationData = number.encode()
        self.forget()
        started = time.monotonic()
        self.client.publish(f"mesh/{name}/set", json.dumps(payload), qos=1, properties=properties)
        at, _, answer = self.wait(f"an answer from {name}", lambda topic, _: topic == ANSWERS, timeout)
        return answer, at - started

    def request(self, path, payload):
        self.forget()
        self.client.publish(f"mesh/bridge/request/{path}", json.dumps(payload), qos=1)
        return self.wait(path, lambda topic, _: topic == f"mesh/bridge/response/{path}", 60)[2]

    def pub(self, topic, payload):
        """As a person does it."""
        subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(self.port), "-q", "1", "-t", topic,
                        "-m", payload if isinstance(payload, str) else json.dumps(payload)], check=True)

    def set_and_see(self, lamp, payload, is_it):
        """Sets something with mosquitto_pub until its state topic says so."""
        self.forget()
        self.pub(f"mesh/{lamp}/set", payload)
        self.wait(f"{payload} of {lamp}", lambda topic, state: topic == f"mesh/{lamp}" and is_it(state), 30)


def is_online(retained):
    return (retained.get("mesh/bridge/state") or {}).get("state") == "online"


def features(exposes):
    light = next(x for x in exposes if x["type"] == "light")
    return {x["name"]: x for x in light["features"]}


def lamps(home):
    """Everything that a lamp can be reads back equal."""
    counts = {"lamps": 0, "brightness": 0, "color_temp": 0, "color": 0}
    for lamp in home.lamps():
        has = features(home.endpoints()[lamp])
        counts["lamps"] += 1
        for brightness in (254, 1, 100):
            home.set_and_see(lamp, {"brightness": brightness}, lambda x: x["brightness"] == brightness)
            counts["brightness"] += 1
        if "color_temp" in has:
            low, high = has["color_temp"]["value_min"], has["color_temp"]["value_max"]
            for mireds in (low, (low + high) // 2, high):
                home.set_and_see(lamp, {"color_temp": mireds}, lambda x: x["color_temp"] == mireds)
                counts["color_temp"] += 1
        if "color_hs" in has:
            for hue, saturation in ((0, 100), (120, 50), (300, 99)):
                color = {"hue": hue, "saturation": saturation}
                home.set_and_see(lamp, {"color": color}, lambda x: (
                    x["color"]["hue"], x["color"]["saturation"]) == (hue, saturation))
                counts["color"] += 1
    return counts


def round_trips(home, count):
    """Commands to all lamps in turn, one after the other."""
    names, times, attempts, lost = home.lamps(), [], 0, 0
    for number in range(count):
        lamp = names[number % len(names)]
        wanted = 40 + number * 7 % 200
        answer, took = home.command(lamp, {"brightness": wanted, "transition": 0})
        attempts += answer["attempts"]
        if answer["status"] != "ok" or answer["data"]["brightness"] != wanted:
            lost += 1
        else:
            times.append(took * 1000)
    times.sort()
    at = lambda share: round(times[min(len(times) - 1, len(times) * share // 100)])
    result = {"round_trips": count, "lamps": len(names), "lost": lost, "retries": attempts - count,
              "median_ms": at(50), "p95_ms": at(95), "most_ms": at(100)}
    if lost or at(50) >= 400:
        sys.exit(f"not good enough: {result}")
    return result


def slider(home, lamp):
    """A slider that is dragged for ten seconds, 20 messages a second."""
    budget = home.retained["mesh/bridge/info"]["config"]["airtime"]
    before = home.request("health", {})["data"]["pdus"]
    started = time.monotonic()
    for step in range(200):
        home.client.publish(f"mesh/{lamp}/set/brightness", str(step + 30), qos=1)
        time.sleep(max(0, started + (step + 1) / 20 - time.monotonic()))
    home.until("the last value", lambda retained: retained[f"mesh/{lamp}"]["brightness"] == 229, 20)
    health = home.request("health", {})["data"]
    seconds = time.monotonic() - started
    allowed = budget["burst"] + budget["pdus_per_second"] * seconds
    result = {"messages": 200, "pdus": health["pdus"] - before, "allowed": round(allowed, 1), "seconds": round(seconds, 1)}
    if result["pdus"] > allowed:
        sys.exit(f"more than the budget: {result}")
    return result


def group(home, name):
    """A command to a group, confirmed by all its members."""
    members = next(x for x in home.retained["mesh/bridge/groups"] if x["friendly_name"] == name)
    answer, took = home.command(name, {"brightness": 77})
    if answer["status"] != "ok":
        sys.exit(f"{name}: {answer}")
    for member in members["members"]:
        home.until(f"{member} at 77", lambda retained: retained[f"mesh/{member}"]["brightness"] == 77, 5)
    return {"group": name, "address": members["address"], "members": len(members["members"]),
            "ms": round(took * 1000), "attempts": answer["attempts"]}


def cut(home, lamp):
    """A lamp behind a relay that is cut: an error in time, nothing pretended, offline."""
    before = home.retained[f"mesh/{lamp}"]
    wanted = 33 if before["brightness"] != 33 else 34
    answer, took = home.command(lamp, {"brightness": wanted}, 60)
    after = home.retained[f"mesh/{lamp}"]
    home.until(f"{lamp} offline", lambda retained: retained[f"mesh/{lamp}/availability"]["state"] == "offline", 10)
    result = {"lamp": lamp, "answer": answer["status"], "seconds": round(took, 1), "error": answer.get("error")}
    if answer["status"] != "error" or took > 12 or after != before:
        sys.exit(f"it should have failed: {result}, {before} -> {after}")
    return result


def mended(home, lamp):
    """The same lamp, with the relay back."""
    answer, took = home.command(lamp, {"brightness": 99})
    home.until(f"{lamp} online", lambda retained: retained[f"mesh/{lamp}/availability"]["state"] == "online", 30)
    if answer["status"] != "ok":
        sys.exit(f"{lamp}: {answer}")
    return {"lamp": lamp, "answer": answer["status"], "ms": round(took * 1000)}


def known(home):
    return {"lamps": len(home.lamps())}


def topics(home):
    """The retained topics, but those of single moments."""
    time.sleep(2)
    return sorted(topic for topic, payload in home.retained.items()
                  if payload is not None and "/response/" not in topic and not topic.endswith(("/logging", "/event")))


def rename(home, old, new):
    """A device with another name leaves nothing behind under its old one."""
    answer = home.request("device/rename", {"from": old, "to": new, "transaction": "t-1"})
    if (answer["status"], answer["transaction"]) != ("ok", "t-1"):
        sys.exit(f"{answer}")
    below = lambda retained, name: [t for t, x in retained.items() if x is not None and (
        t == f"mesh/{name}" or t.startswith(f"mesh/{name}/"))]
    home.until("the new name", lambda retained: len(below(retained, new)) == 2, 10)
    home.until("the end of the old name", lambda retained: not below(retained, old), 10)
    home.set_and_see(new, {"brightness": 55}, lambda x: x["brightness"] == 55)
    return {"from": old, "to": new}


def crash(home, file, seconds):
    """A round of a test that kills: what is published is what may be, every lamp obeys in time, and then commands
    until the connection is lost. `file` carries what each lamp may be from round to round."""
    started = time.monotonic()
    path = pathlib.Path(file)
    possible = json.loads(path.read_text()) if path.exists() else {}
    # In the first round nothing is known of any lamp.
    checked, seen = set(possible), set()

    def look(topic, state):
        lamp = topic.removeprefix("mesh/")
        brightness = (state or {}).get("brightness") if isinstance(state, dict) else None
        if lamp in checked and lamp not in seen and brightness is not None:
            seen.add(lamp)
            if brightness not in possible[lamp]:
                sys.exit(f"{lamp} is published as {brightness}, and can only be {possible[lamp]}")

    home.until("devices", lambda retained: home.lamps() and is_online(retained), 10)
    names = home.lamps()
    for topic, state in list(home.retained.items()):
        look(topic, state)
    wanted = {}
    for number, lamp in enumerate(names):
        wanted[lamp] = 20 + (number * 13 + int(started * 7)) % 200
        possible[lamp] = sorted({*possible.get(lamp, []), wanted[lamp]})
        home.client.publish(f"mesh/{lamp}/set", json.dumps({"brightness": wanted[lamp], "transition": 0}), qos=1)
    missing = set(names)
    while missing:
        left = started + seconds - time.monotonic()
        if left <= 0:
            sys.exit(f"not controllable within {seconds} s of the start: {sorted(missing)}")
        try:
            _, topic, state = home.messages.get(timeout=left)
        except queue.Empty:
            continue
        look(topic, state)
        lamp = topic.removeprefix("mesh/")
        if lamp in missing and isinstance(state, dict) and state.get("brightness") == wanted[lamp]:
            missing.remove(lamp)
            possible[lamp] = [wanted[lamp]]
    took = round(time.monotonic() - started, 2)
    print(json.dumps({"lamps": len(names), "seconds": took}), flush=True)
    number = 0
    # The gateway's will says when it was killed, where the broker lives on.
    while home.client.is_connected() and is_online(home.retained):
        lamp = names[number % len(names)]
        value = 20 + (number * 37 + int(started)) % 200
        possible[lamp] = sorted({*possible[lamp], value})
        home.client.publish(f"mesh/{lamp}/set", json.dumps({"brightness": value, "transition": 0}), qos=1)
        number += 1
        time.sleep(0.05)
    path.write_text(json.dumps(possible))
    return {"commands": number}


def main():
    port, suite, *arguments = sys.argv[1:]
    home = Home(int(port), f"home-{suite}")
    if suite != "crash":
        home.known()
    result = {"lamps": lamps, "round-trips": round_trips, "slider": slider, "group": group, "cut": cut,
              "mended": mended, "known": known, "topics": topics, "rename": rename,
              "crash": crash}[suite](
                  home, *(int(x) if x.isdigit() else x for x in arguments))
    home.client.disconnect()
    home.client.loop_stop()
    print(json.dumps(result))


main()
