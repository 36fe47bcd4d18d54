// Node's cluster: two workers serve HTTP from one port, each by a connection of its own
// to Redis; they end gracefully.
//
// Usage: node_cluster.js ENDPOINT
const cluster = require("node:cluster");
const http = require("node:http");
const Redis = require("ioredis");
const endpoint = process.argv[2];

async function worker() {
  const address = /^\d+$/.test(endpoint) ? { host: "127.0.0.1", port: Number(endpoint) } : { path: endpoint };
  const client = new Redis(address);
  const server = http.createServer(async (request, response) => {
    let total = 0;
    for (let number = 0; number < 20; number++) total += (await client.incr(`${process.pid}`)) > 0;
    response.end(String(total));
  });
  server.listen(0, "127.0.0.1");
  process.on("message", async () => {
    // The test does what it is asked, and answers.
    const id = await client.client("ID");
    await client.rpush("asked", `check ${id} ${process.pid}`);
    const answer = (await client.blpop(`answer:${id}`, 0))[1];
    process.send({ answer, served: Number(await client.get(`${process.pid}`)) });
  });
  process.once("SIGTERM", () =>
    server.close(async () => {
      await client.quit();
      process.disconnect();
    }),
  );
}

const get = (port) =>
  new Promise((resolve, reject) => {
    const request = http.get({ host: "127.0.0.1", port, agent: false }, (response) => {
      let text = "";
      response.on("data", (data) => (text += data));
      response.on("end", () => resolve(text));
    });
    request.on("error", reject);
  });

async function primary() {
  const workers = [cluster.fork(), cluster.fork()];
  const ports = await Promise.all(
    workers.map((worker) => new Promise((resolve) => worker.on("listening", ({ port }) => resolve(port)))),
  );
  for (let round = 0; round < 20; round++) {
    const replies = await Promise.all([get(ports[0]), get(ports[1])]);
    if (replies.join() !== "20,20") throw new Error(`replied ${replies}`);
  }
  let served = 0;
  for (const worker of workers) {
    const answered = new Promise((resolve) => worker.once("message", resolve));
    worker.send("check");
    const message = await answered;
    served += message.served;
    console.log("asked", message.answer);
  }
  console.log("served", served);
  for (const worker of workers) {
    const ended = new Promise((resolve) => worker.on("exit", (code, by) => resolve([code, by])));
    worker.process.kill("SIGTERM");
    console.log("exit", await ended);
  }
}

cluster.isPrimary ? primary() : worker();
