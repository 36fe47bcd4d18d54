// ioredis: pings, a pipeline, a large value.
const assert = require("node:assert");
const Redis = require("ioredis");

async function main() {
  const client = new Redis({ path: process.argv[2] });
  for (let number = 0; number < 100; number++) {
    assert.equal(await client.ping(), "PONG");
    await client.set("key", number);
    assert.equal(await client.get("key"), String(number));
  }
  const list = JSON.stringify(await client.call("SHM.LIST"));
  assert.match(list, /hot|parked/, "the connection did not move");
  const pipeline = client.pipeline();
  for (let number = 0; number < 1000; number++) pipeline.incr("counter");
  assert.equal(new Set((await pipeline.exec()).map((reply) => reply[1])).size, 1000);
  const large = "y".repeat(5000000);
  await client.set("large", large);
  assert.equal(await client.get("large"), large);
  await client.quit();
  console.log("passed");
}

main();
