#!/usr/bin/env node
// Bull Board on a free port of 127.0.0.1, for the queues that the arguments name: REDIS_PORT=6379 node board.mjs PREFIX QUEUE...
// Prints its address as one line of JSON and ends with its stdin.
import express from 'express';
import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { ExpressAdapter } from '@bull-board/express';
import { Queue } from 'bullmq';

const [prefix, ...names] = process.argv.slice(2);
const connection = { host: '127.0.0.1', port: Number(process.env.REDIS_PORT), maxRetriesPerRequest: null };
const queues = names.map(name => new BullMQAdapter(new Queue(name, { connection, prefix })));

const serverAdapter = new ExpressAdapter();
serverAdapter.setBasePath('/');
createBullBoard({ queues, serverAdapter });
const app = express();
app.use('/', serverAdapter.getRouter());
console.warn = () => {}; // of Redis' eviction policy
const server = app.listen(0, '127.0.0.1', () => {
  process.stdout.write(JSON.stringify({ url: `http://127.0.0.1:${server.address().port}/` }) + '\n');
});
process.stdin.on('end', () => process.exit(0)).resume();
