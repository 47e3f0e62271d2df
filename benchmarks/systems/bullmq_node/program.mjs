// BullMQ for Node: the benchmark program. See benchmarks/task.py for what it reads and prints.
// The same workloads and the same measuring as benchmarks/systems/harness.py.
import { createRequire } from 'node:module';
import readline from 'node:readline';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const require = createRequire(path.join(path.resolve(process.env.BENCHMARK_NODE_MODULES), '_program_.js'));
const { Queue, Worker } = require('bullmq');

const task = JSON.parse(process.argv[2]);
const connection = { host: '127.0.0.1', port: task.port, maxRetriesPerRequest: null };
const payload = { payload: 'x'.repeat(task.payload_bytes) };
const BULK = 1000;
const DELAYED_BULK = 20;
const TICK_MS = 50;

const input = readline.createInterface({ input: process.stdin });
const lines = input[Symbol.asyncIterator]();

/** Seconds of the machine's monotonic clock, as Python's time.monotonic(). */
const monotonic = () => Number(process.hrtime.bigint()) / 1e9;
const say = (line) => console.log(JSON.stringify(line));

async function go() {
  say({ ready: true });
  await lines.next();
  return process.cpuUsage();
}

function cpuSeconds(since) {
  const used = process.cpuUsage(since);
  return (used.user + used.system) / 1e6;
}

async function addMany(queue, items) {
  for (let first = 0; first < items.length; first += BULK) {
    await queue.addBulk(items.slice(first, first + BULK));
  }
}

/** A few delayed jobs at a time; see due_items in harness.py. */
async function addDelayed(queue) {
  const start = monotonic() + task.lead_s;
  for (let from = 0; from < task.jobs; from += DELAYED_BULK) {
    const now = monotonic();
    const items = [];
    for (let i = from; i < Math.min(from + DELAYED_BULK, task.jobs); i += 1) {
      const delay = Math.max(1, Math.round((start + (task.span_s * i) / task.jobs - now) * 1000));
      items.push({ name: 'job', data: { ...payload, at: now + delay / 1000 }, opts: { delay } });
    }
    await queue.addBulk(items);
  }
}

const MODES = {
  async bulk(queue, jobs) {
    await addMany(queue, Array.from({ length: jobs }, () => ({ name: 'job', data: payload })));
  },
  async sequential(queue, jobs) {
    for (let i = 0; i < jobs; i += 1) await queue.add('job', payload);
  },
  async concurrent(queue, jobs) {
    let left = jobs;
    const one = async () => { while (left-- > 0) await queue.add('job', payload); };
    await Promise.all(Array.from({ length: task.in_flight }, one));
  },
  async paced(queue, jobs) {
    const start = monotonic();
    const adds = [];
    for (let i = 0; i < jobs; i += 1) {
      const pause = start + i / task.rate - monotonic();
      if (pause > 0) await sleep(pause * 1000);
      adds.push(queue.add('job', { ...payload, at: monotonic() }));
    }
    await Promise.all(adds);
  },
  async delayed(queue, jobs) {
    if (jobs) await addDelayed(queue);
  },
};

async function produce() {
  const queue = new Queue('bench', { connection });
  await queue.waitUntilReady();
  await MODES[task.mode](queue, task.skip);
  const cpu = await go();
  const first = monotonic();
  await MODES[task.mode](queue, task.jobs);
  say({ count: task.jobs, first, last: monotonic(), cpu_s: cpuSeconds(cpu), offsets: [], end: true });
  await queue.close();
}

async function work() {
  const record = { count: 0, first: 0, last: 0, offsets: [] };
  let stop;
  const stopped = new Promise((resolve) => { stop = resolve; });
  const cpu = await go();
  let said = 0;
  const ticker = setInterval(() => {
    if (record.count !== said) say({ count: (said = record.count) });
  }, TICK_MS);
  (async () => {
    for (;;) {
      const { value, done } = await lines.next();
      if (value === 'mark') say({ mark: cpuSeconds(cpu) });
      else { stop(); if (done) return; }
    }
  })();
  const processor = async (job) => {
    const now = monotonic();
    record.count += 1;
    if (record.count === task.skip + 1) record.first = now;
    if (task.timings && record.count > task.skip) record.offsets.push(now - job.data.at);
    record.last = now;
    if (record.count === task.jobs) stop();
  };
  const removal = task.keep_results ? {} : { removeOnComplete: { count: 0 } };
  const worker = new Worker('bench', processor, { connection, concurrency: task.concurrency, ...removal });
  await stopped;
  await worker.close();
  clearInterval(ticker);
  say({ ...record, cpu_s: cpuSeconds(cpu), end: true });
}

await (task.role === 'produce' ? produce() : work());
process.stdout.write('', () => process.exit(0)); // after all lines: a pipe takes 64 KiB at a time
