// npm install mqtt; node greet.mjs HOST PORT CA-FILE USERNAME PASSWORD
import { readFileSync } from "node:fs";
import mqtt from "mqtt";

const [host, port, ca, username, password] = process.argv.slice(2);
const client = mqtt.connect(`mqtts://${host}:${port}`, {
  protocolVersion: 5,
  clientId: "greet-node",
  ca: readFileSync(ca),
  username,
  password,
  will: { topic: "clients/node/gone", payload: "gone", qos: 1, retain: false },
});
client.on("error", (error) => {
  console.error(String(error));
  process.exit(1);
});
client.on("message", (topic, payload) => console.log(topic, payload.toString()));
client.on("connect", async () => {
  await client.subscribeAsync("clients/node/#", { qos: 1 });
  await client.publishAsync("clients/node/greeting", "hello from Node", { qos: 1 });
});
