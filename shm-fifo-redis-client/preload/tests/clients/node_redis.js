// node-redis: pings, a pipeline, a large value, pub/sub.
const assert = require("node:assert");
const { createClient } = require("redis");

async function main() {
  const client = createClient({ socket: { path: process.argv[2] } });
  await client.connect();
  for (let number = 0; number < 100; number++) {
    assert.equal(await client.ping(), "PONG");
    await client.set("key", number);
    assert.equal(await client.get("key"), String(number));
  }
  const list = JSON.stringify(await client.sendCommand(["SHM.LIST"]));
  assert.match(list, /hot|parked/, "the connection did not move");
  const replies = await Promise.all(Array.from({ length: 1000 }, () => client.incr("counter")));
  assert.equal(new Set(replies).size, 1000);
  const large = "y".repeat(5000000);
  await client.set("large", large);
  assert.equal(await client.get("large"), large);
  const subscriber = client.duplicate();
  await subscriber.connect();
  const message = new Promise((resolve) => subscriber.subscribe("channel", resolve));
  while ((await client.publish("channel", "hello")) === 0);
  assert.equal(await message, "hello");
  await subscriber.close();
  await client.close();
  console.log("passed");
}

main();
