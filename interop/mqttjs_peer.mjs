// MQTT.js as a peer; called as paho_peer.py is. With `ws` at the end it speaks over WebSocket.
import mqtt from "mqtt";

const [role, port, version, qos, topic, count, carrier] = process.argv.slice(2);
const client = mqtt.connect(carrier === "ws" ? `ws://127.0.0.1:${port}/mqtt` : `mqtt://127.0.0.1:${port}`, {
  clientId: `mqttjs-${role}`,
  protocolVersion: version === "5" ? 5 : 4,
  reconnectPeriod: 0,
});
const fail = (error) => {
  console.error(String(error));
  process.exit(1);
};
let received = 0;
// It ends with its last message, and answers PUBREL after its DISCONNECT, which the broker need not take.
client.on("error", (error) => (role === "sub" && received === Number(count) ? process.exit(0) : fail(error)));
client.on("message", (_topic, payload) => {
  console.log(payload.toString());
  received += 1;
  if (received === Number(count)) client.end();
});
client.on("connect", async () => {
  try {
    if (role === "sub") {
      await client.subscribeAsync(topic, { qos: Number(qos) });
      console.log("ready");
    } else {
      for (let number = 0; number < Number(count); number += 1) {
        await client.publishAsync(topic, String(number), { qos: Number(qos) });
      }
      await client.endAsync();
    }
  } catch (error) {
    fail(error);
  }
});
