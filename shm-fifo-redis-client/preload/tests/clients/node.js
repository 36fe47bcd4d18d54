// ioredis or node-redis, on any Node (and Bun).
//
// Usage: node.js ioredis|redis|bun ENDPOINT
const fs = require("node:fs");
const net = require("node:net");
const [library, endpoint] = process.argv.slice(2);
const LARGE = "0123456789abcdef".repeat(3 << 16); // 3 MiB
const address = /^\d+$/.test(endpoint) ? { host: "127.0.0.1", port: Number(endpoint) } : { path: endpoint };

// The same few calls of each library: a command, a pipeline, a subscription, the end.
const libraries = {
  async ioredis() {
    const Redis = require("ioredis");
    const client = new Redis({ ...address, retryStrategy: () => 20, maxRetriesPerRequest: null });
    client.on("error", () => {});
    return {
      command: (...words) => client.call(...words),
      pipeline: async (commands) => {
        const pipeline = client.pipeline();
        for (const words of commands) pipeline.call(...words);
        return (await pipeline.exec()).map(([error, reply]) => error ?? reply);
      },
      subscribe: (channel, listener) => {
        client.on("message", (_, message) => listener(message));
        return client.subscribe(channel);
      },
      close: async () => client.disconnect(),
    };
  },
  async redis() {
    const { createClient } = require("redis");
    const client = createClient({ socket: { ...address, reconnectStrategy: () => 20 } });
    client.on("error", () => {});
    await client.connect();
    return {
      command: (...words) => client.sendCommand(words.map(String)),
      pipeline: (commands) => Promise.all(commands.map((words) => client.sendCommand(words.map(String)))),
      subscribe: (channel, listener) => client.subscribe(channel, listener),
      close: async () => client.destroy(),
    };
  },
  async bun() {
    const url = address.path ? `redis+unix://${address.path}` : `redis://127.0.0.1:${address.port}`;
    const client = new Bun.RedisClient(url);
    await client.connect();
    return {
      command: (...words) => client.send(words[0], words.slice(1).map(String)),
      pipeline: (commands) => Promise.all(commands.map(([first, ...rest]) => client.send(first, rest.map(String)))),
      subscribe: (channel, listener) => client.subscribe(channel, listener),
      close: async () => client.close(),
    };
  },
};
const connect = libraries[library];

// The test does what it is asked, and answers.
async function ask(client, what) {
  const id = await client.command("CLIENT", "ID");
  await client.command("RPUSH", "asked", `${what} ${id} ${process.pid}`);
  return again(async () => (await client.command("BLPOP", `answer:${id}`, 0))[1]);
}

// Until the library has connected again.
async function again(attempt) {
  for (;;) {
    try {
      return await attempt();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

async function commands(client, count, key = "key") {
  let total = 0;
  for (let number = 0; number < count; number++) {
    await client.command("SET", key, number);
    if (Number(await client.command("GET", key)) !== number) throw new Error("another value");
    total += await client.command("INCR", "counter");
  }
  return total;
}

async function pipeline(client) {
  const many = Array.from({ length: 1000 }, (_, number) => ["INCRBY", "sum", number]);
  return (await client.pipeline(many)).at(-1);
}

async function large(client) {
  await client.command("SET", "large", LARGE);
  return (await client.command("GET", "large")) === LARGE;
}

// One of many at once.
async function task(_, number) {
  const client = await connect();
  await commands(client, 20, `key:${number}`);
  await ask(client, "check");
  const equal = await large(client);
  await client.close();
  return equal;
}

async function messages(client) {
  const other = await connect();
  await commands(other, 20);
  await ask(other, "check");
  const received = [];
  const all = new Promise((resolve) => {
    const listener = (message) => received.push(Number(message)) === 10 && resolve();
    other.subscribe("channel", listener).then(async () => {
      for (let number = 0; number < 10; number++) await client.command("PUBLISH", "channel", number);
    });
  });
  await all;
  await other.close();
  return received.join();
}

// What is written to a file goes there, also if its number was a connection's.
async function files(client) {
  for (let round = 0; round < 20; round++) {
    const socket = net.connect(address);
    await new Promise((resolve) => {
      let replies = 0;
      socket.on("connect", () => socket.write("PING\r\n"));
      socket.on("data", () => (++replies < 30 ? socket.write("PING\r\n") : resolve()));
    });
    socket.destroy();
    const file = fs.openSync("file.txt", "w+");
    fs.writeSync(file, `RPUSH leak ${round}\r\n`);
    fs.closeSync(file);
    if (fs.readFileSync("file.txt", "utf8") !== `RPUSH leak ${round}\r\n`) throw new Error("another text");
    await new Promise((resolve) => setImmediate(resolve));
  }
  return client.command("EXISTS", "leak");
}

async function main() {
  const client = await connect();
  console.log("commands", await commands(client, 100));
  console.log("pipeline", await pipeline(client));
  console.log("large", await large(client));
  console.log("asked", await ask(client, "check"));
  console.log("tasks", (await Promise.all(Array.from({ length: 8 }, task))).join());
  console.log("messages", await messages(client));
  console.log("killed", await ask(client, "kill"), await again(() => commands(client, 50)), await ask(client, "check"));
  console.log("restarted", await ask(client, "restart"), await commands(client, 50), await ask(client, "check"));
  console.log("file", await files(client));
  process.once("SIGTERM", async () => {
    await client.close();
    console.log("stopped");
    process.exit(0);
  });
  await ask(client, "terminate");
}

main();
