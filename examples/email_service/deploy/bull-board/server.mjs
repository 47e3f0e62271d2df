// Bull Board over the queue that pyqueue fills and works: it reads the same keys, so nothing is exported to it.
//
//   REDIS_URL     redis://localhost:6379    where the queue lives
//   QUEUE_NAME    email                     and its prefix, as the instances of the service have them
//   QUEUE_PREFIX  bull
//   PORT          3000                      where the board listens, on HOST (127.0.0.1)
//   READ_ONLY     false                     true: look, but neither retry nor delete
//
// It has no login of its own: keep it on an internal network, or behind a proxy that asks who is there.

import { createBullBoard } from "@bull-board/api";
import { BullMQAdapter } from "@bull-board/api/bullMQAdapter";
import { ExpressAdapter } from "@bull-board/express";
import { Queue } from "bullmq";
import express from "express";
import { Redis } from "ioredis";

const { REDIS_URL = "redis://localhost:6379", QUEUE_NAME = "email", QUEUE_PREFIX = "bull" } = process.env;
const { HOST = "127.0.0.1", PORT = "3000", READ_ONLY = "false" } = process.env;

const connection = new Redis(REDIS_URL, { maxRetriesPerRequest: null });
connection.on("error", (error) => console.error(`redis: ${error.message}`));

const queue = new Queue(QUEUE_NAME, { connection, prefix: QUEUE_PREFIX });
const board = new ExpressAdapter();
board.setBasePath("/");
createBullBoard({
  queues: [new BullMQAdapter(queue, { readOnlyMode: READ_ONLY === "true" })],
  serverAdapter: board,
});

const app = express();
app.get("/livez", (_request, response) => response.send("ok\n"));
app.use("/", board.getRouter());
const server = app.listen(Number(PORT), HOST, () => console.log(`listening on http://${HOST}:${server.address().port}`));

// The process ends when the last connection is gone; browsers keep theirs open, so those are closed, too.
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, async () => {
    server.close();
    server.closeAllConnections();
    await queue.close();
    connection.disconnect();
  });
}
