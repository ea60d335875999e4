// MQTT.js and what an exchange of messages does not show; called as paho_features.py is. With `ws` at the end the
// ports are those of a WebSocket and of a secure one.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import mqtt from "mqtt";

const [port, tlsPort, ca, version, carrier] = process.argv.slice(2);
const isWebSocket = carrier === "ws";
const base = `features/mqttjs${isWebSocket ? "-ws" : ""}-${version}`;
const numbers = Array.from({ length: 10 }, (_, number) => String(number));
setTimeout(() => {
  console.error("something that should come does not");
  process.exit(1);
}, 20000).unref();

async function connect(name, { clean = true, will, tls = false } = {}) {
  const scheme = isWebSocket ? (tls ? "wss" : "ws") : tls ? "mqtts" : "mqtt";
  const url = `${scheme}://${tls ? `localhost:${tlsPort}` : `127.0.0.1:${port}`}${isWebSocket ? "/mqtt" : ""}`;
  const client = mqtt.connect(url, {
    clientId: `${base.replace("/", "-")}-${name}`,
    protocolVersion: version === "5" ? 5 : 4,
    clean,
    properties: version === "5" ? { sessionExpiryInterval: clean ? 0 : 600 } : undefined,
    reconnectPeriod: 0,
    ca: tls ? readFileSync(ca) : undefined,
    will: will && { topic: will, payload: "gone", qos: 1, retain: false },
  });
  const received = [];
  const waiting = [];
  // What waits for a session may come with CONNACK.
  client.on("message", (_topic, payload, packet) => {
    received.push({ payload: payload.toString(), retain: packet.retain });
    waiting.shift()?.();
  });
  client.next = async () => {
    if (received.length === 0) await new Promise((resolve) => waiting.push(resolve));
    return received.shift();
  };
  client.payloads = async (count) => {
    const payloads = [];
    while (payloads.length < count) payloads.push((await client.next()).payload);
    return payloads;
  };
  const [connack] = await once(client, "connect");
  client.sessionPresent = connack.sessionPresent;
  return client;
}

const speaker = await connect("speaker");
const publish = (topic, payload, options = { qos: 1 }) => speaker.publishAsync(`${base}/${topic}`, payload, options);

await publish("retained", "kept", { qos: 1, retain: true });
const listener = await connect("listener");
await listener.subscribeAsync(`${base}/retained`, { qos: 1 });
assert.deepEqual(await listener.next(), { payload: "kept", retain: true });
await publish("retained", "", { qos: 1, retain: true });
await listener.endAsync();
console.log("retained ok");

const watcher = await connect("watcher");
await watcher.subscribeAsync(`${base}/will`, { qos: 1 });
const lost = await connect("lost", { will: `${base}/will` });
lost.on("error", () => {});
lost.stream.destroy();
assert.deepEqual(await watcher.payloads(1), ["gone"]);
await watcher.endAsync();
console.log("will ok");

let sleeper = await connect("sleeper", { clean: false });
assert.equal(sleeper.sessionPresent, false);
await sleeper.subscribeAsync(`${base}/session`, { qos: 1 });
await sleeper.endAsync();
for (const number of numbers) await publish("session", number);
sleeper = await connect("sleeper", { clean: false });
assert.equal(sleeper.sessionPresent, true);
assert.deepEqual(await sleeper.payloads(10), numbers);
await sleeper.endAsync();
console.log("session ok");

const members = [await connect("member-1"), await connect("member-2")];
for (const member of members) await member.subscribeAsync(`$share/group/${base}/shared`, { qos: 1 });
for (const number of numbers) await publish("shared", number);
const shares = [...(await members[0].payloads(5)), ...(await members[1].payloads(5))];
assert.deepEqual(shares.sort(), numbers);
for (const member of members) await member.endAsync();
console.log("shared ok");

const secure = await connect("secure", { tls: true });
await secure.subscribeAsync(`${base}/tls`, { qos: 2 });
await publish("tls", "secret", { qos: 2 });
assert.deepEqual(await secure.payloads(1), ["secret"]);
await secure.endAsync();
await speaker.endAsync();
console.log("tls ok");
process.exit(0);
