#!/usr/bin/env node
// BullMQ for Node under remote control: one JSON request per line on stdin, answers and events as JSON lines on stdout.
//
//   REDIS_PORT=6379 node driver.mjs
//   > {"id": 1, "op": "queue", "prefix": "t", "queue": "q", "method": "add", "args": ["greet", {"to": "a"}]}
//   < {"id": 1, "result": {"id": "1", "name": "greet", ...}}
//   < {"id": 2, "error": {"name": "Error", "message": "...", "code": -1}}
//   < {"event": "completed", "source": "events t q", "args": [{"jobId": "1", "returnvalue": 3}, "1700000000000-0"]}
//
// Operations are at the end. It ends with its stdin. What it opens lives until "reset".
import readline from 'node:readline';
import { FlowProducer, Job, Queue, QueueEvents, QueueEventsProducer, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { run } from './processors.mjs';

const connection = { host: '127.0.0.1', port: Number(process.env.REDIS_PORT), maxRetriesPerRequest: null };
const redis = new Redis(connection);

const say = message => process.stdout.write(JSON.stringify(message) + '\n');
const opened = new Map(); // what is open, by kind, prefix and queue

async function open(kind, prefix, name, make) {
  const key = `${kind} ${prefix} ${name}`;
  if (!opened.has(key)) {
    const made = make({ connection, prefix });
    made.on('error', error => say({ event: 'error', source: key, args: [error.message] }));
    opened.set(key, made);
  }
  await opened.get(key).waitUntilReady?.();
  return opened.get(key);
}

const queueOf = r => open('queue', r.prefix, r.queue, shared => new Queue(r.queue, { ...shared, ...r.options }));
const producerOf = r => open('flow', r.prefix, '', shared => new FlowProducer(shared));

const QUEUE_EVENTS = [
  'added', 'waiting', 'active', 'completed', 'failed', 'delayed', 'progress', 'stalled', 'removed', 'drained',
  'paused', 'resumed', 'waiting-children', 'retries-exhausted', 'deduplicated', 'duplicated', 'cleaned',
];

// A QueueEvents is "ready" before its first read, which begins at the stream's end: it may miss what happens between.
// The end is therefore looked up here.
async function listen(r) {
  const [last] = await redis.xrevrange(`${r.prefix}:${r.queue}:events`, '+', '-', 'COUNT', 1);
  return open('events', r.prefix, r.queue, shared => {
    const events = new QueueEvents(r.queue, { ...shared, lastEventId: last ? last[0] : '0-0' });
    const source = `events ${r.prefix} ${r.queue}`;
    for (const name of [...QUEUE_EVENTS, ...(r.also ?? [])]) {
      events.on(name, (...args) => say({ event: name, source, args }));
    }
    return events;
  });
}

const workerOf = r =>
  open('worker', r.prefix, r.queue, shared => {
    const backoffs = { settings: { backoffStrategy: attempts => attempts * 10 } };
    return new Worker(r.queue, run, { ...shared, ...backoffs, ...r.options });
  });

async function jobOf(r) {
  const job = await Job.fromId(await queueOf(r), r.job);
  if (!job) throw new Error(`no job ${r.job}`);
  return job;
}

const OPERATIONS = {
  // Any method of a queue, a job or a flow producer.
  queue: async r => (await queueOf(r))[r.method](...(r.args ?? [])),
  job: async r => (await jobOf(r))[r.method](...(r.args ?? [])),
  flow: async r => (await producerOf(r))[r.method](...(r.args ?? [])),
  work: async r => { await workerOf(r); },
  idle: async r => {
    const key = `worker ${r.prefix} ${r.queue}`;
    const worker = opened.get(key);
    opened.delete(key);
    await worker.close();
  },
  tree: async r => {
    const shape = async node => [node.job.id, await node.job.getState(), (await Promise.all((node.children ?? []).map(shape))).sort()];
    const tree = await (await producerOf(r)).getFlow({ queueName: r.queue, id: r.job, prefix: r.prefix });
    return tree && shape(tree);
  },
  listen: async r => { await listen(r); },
  look: async r => {
    const job = await Job.fromId(await queueOf(r), r.job);
    return job && { ...job.toJSON(), state: await job.getState(), logs: (await (await queueOf(r)).getJobLogs(r.job)).logs };
  },
  publish: async r => {
    const producer = new QueueEventsProducer(r.queue, { connection, prefix: r.prefix });
    await producer.publishEvent({ eventName: r.event, ...r.fields });
    await producer.close();
  },
  result: async r => (await jobOf(r)).waitUntilFinished(await listen(r), r.ttl),
  reset: async () => {
    const all = [...opened.values()];
    opened.clear();
    await Promise.all(all.map(one => (one instanceof Worker ? one.close(true) : one.close())));
  },
};

async function answer(request) {
  try {
    const result = await OPERATIONS[request.op](request);
    say({ id: request.id, result: result ?? null });
  } catch (error) {
    say({ id: request.id, error: { name: error.name, message: error.message, code: error.code ?? null } });
  }
}

console.warn = () => {}; // of Redis' eviction policy
readline.createInterface({ input: process.stdin }).on('line', line => answer(JSON.parse(line))).on('close', () => process.exit(0));
