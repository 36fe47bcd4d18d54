// How long a PING takes with ioredis or node-redis, unmodified.
//
// Usage: ping_loop.js ioredis|redis SOCKET COUNT. Prints a line of JSON.
const [library, path, count] = process.argv.slice(2);

async function connect() {
  if (library === "ioredis") return new (require("ioredis"))({ path });
  const client = require("redis").createClient({ socket: { path } });
  await client.connect();
  return client;
}

async function main() {
  const client = await connect();
  const times = [];
  for (let number = 0; number < Number(count); number++) {
    const start = process.hrtime.bigint();
    await client.ping();
    times.push(Number(process.hrtime.bigint() - start));
  }
  times.sort((one, other) => one - other);
  const at = (permille) => times[Math.floor((times.length * permille) / 1000)];
  console.log(JSON.stringify({ client: library, requests: times.length, p50_ns: at(500), p99_ns: at(990) }));
  process.exit(0);
}

main();
