// BullMQ for Node: the benchmark program. See benchmarks/protocol.py for what it reads and prints.
import { createRequire } from 'node:module';
import readline from 'node:readline';
import path from 'node:path';

const require = createRequire(path.join(path.resolve(process.env.BENCHMARK_NODE_MODULES), '_program_.js'));
const { Queue, Worker } = require('bullmq');

const task = JSON.parse(process.argv[2]);
const connection = { host: '127.0.0.1', port: task.port, maxRetriesPerRequest: null };
const data = { payload: 'x'.repeat(task.payload_bytes) };
const BULK = 1000;

const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function started() {
  console.log(JSON.stringify({ ready: true }));
  await lines.next();
}

async function measured(work) {
  await started();
  const cpu = process.cpuUsage();
  const from = process.hrtime.bigint();
  await work();
  const seconds = Number(process.hrtime.bigint() - from) / 1e9;
  const used = process.cpuUsage(cpu);
  console.log(JSON.stringify({ seconds, cpu_seconds: (used.user + used.system) / 1e6 }));
}

async function fill(queue, count) {
  for (let done = 0; done < count; done += BULK) {
    const size = Math.min(BULK, count - done);
    await queue.addBulk(Array.from({ length: size }, () => ({ name: 'job', data })));
  }
}

const WORKLOADS = {
  async process(queue) {
    await fill(queue, task.jobs);
    let worker;
    await measured(() => new Promise((resolve) => {
      let finished = 0;
      worker = new Worker('bench', async () => null, { connection, concurrency: task.concurrency });
      worker.on('completed', () => { finished += 1; if (finished === task.jobs) resolve(); });
    }));
    await worker.close();
  },
  async add_bulk(queue) {
    await measured(() => fill(queue, task.jobs));
  },
  async add_concurrent(queue) {
    await measured(async () => {
      let left = task.jobs;
      const one = async () => { while (left-- > 0) await queue.add('job', data); };
      await Promise.all(Array.from({ length: task.concurrency }, one));
    });
  },
  async add_sequential(queue) {
    await measured(async () => { for (let i = 0; i < task.jobs; i += 1) await queue.add('job', data); });
  },
};

const queue = new Queue('bench', { connection });
await queue.waitUntilReady();
await WORKLOADS[task.workload](queue);
await queue.close();
process.exit(0);
