// MQTT.js over WebSocket, as browsers have it: `mqttjs_websocket.mjs URL [CA-FILE]`.
// Sends itself messages of many sizes and QoS, and ends with 1 when one is not as it was.
import { readFileSync } from "node:fs";
import mqtt from "mqtt";

const [url, ca] = process.argv.slice(2);
const fail = (error) => {
  console.error(String(error));
  process.exit(1);
};
const client = await mqtt
  .connectAsync(url, { protocolVersion: 5, clientId: "mqttjs-websocket", ca: ca && readFileSync(ca), username: "ann", password: "secret" })
  .catch(fail);
const sent = [0, 1, 125, 126, 65535, 65536, 300000].map((size, index) => ({ payload: "x".repeat(size), qos: index % 3 }));
const received = [];
const all = new Promise((resolve) => {
  client.on("message", (_topic, payload) => received.push(payload.toString()) === sent.length && resolve());
});
await client.subscribeAsync("websocket", { qos: 2 });
for (const { payload, qos } of sent) await client.publishAsync("websocket", payload, { qos });
setTimeout(() => fail("not all messages came back"), 20000).unref();
await all;
if (JSON.stringify(received) !== JSON.stringify(sent.map(({ payload }) => payload))) fail("messages differ");
await client.endAsync();
console.log(`${sent.length} messages`);
