// What jobs do, by their names. Each has a twin in processors.py that does the same.
import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { DelayedError, Queue, UnrecoverableError, WaitingChildrenError } from 'bullmq';

// One line per step of a job, written whole: it outlives `kill -9`. Read by tests.chaos.ledger.
function note(kind, job) {
  const seconds = Number(process.hrtime.bigint()) / 1e9;
  fs.appendFileSync(process.env.LEDGER, JSON.stringify([seconds, kind, process.pid, job.id, 'node']) + '\n');
}

const PROCESSORS = {
  echo: async job => job.data,
  fail: async job => { throw new Error(job.data.reason); },
  give_up: async job => { throw new UnrecoverableError(job.data.reason); },
  flaky: async job => {
    if (job.attemptsMade < job.data.failures) throw new Error(`attempt ${job.attemptsMade} broke`);
    return job.attemptsMade;
  },
  report: async job => {
    await job.updateProgress(50);
    await job.log('one');
    await job.log('two');
    await job.updateProgress({ step: 2 });
    return 'reported';
  },
  later: async (job, token) => {
    if (job.attemptsStarted > 1) return job.attemptsStarted;
    await job.moveToDelayed(Date.now() + job.data, token);
    throw new DelayedError();
  },
  // Adds children to another queue, and runs again when they are done. data: { port, prefix, queue }
  split: async (job, token) => {
    if (job.attemptsStarted === 1) {
      const { port, prefix } = job.data;
      const queue = new Queue(job.data.queue, { connection: { port }, prefix });
      const parent = { id: job.id, queue: `${prefix}:${job.queueName}` };
      for (const n of [1, 2]) await queue.add('echo', n, { parent, jobId: `child-${n}` });
      await queue.close();
    }
    if (await job.moveToWaitingChildren(token)) throw new WaitingChildrenError();
    return PROCESSORS.gather(job);
  },
  only_in_node: async () => 'node',
  sleep: async job => { await sleep(job.data); return 'slept'; },
  go_on: async job => {
    await job.removeUnprocessedChildren();
    return PROCESSORS.gather(job);
  },
  gather: async job => ({ values: await job.getChildrenValues(), ignored: await job.getIgnoredChildrenFailures() }),
  note: async job => {
    note('started', job);
    await sleep(job.data);
    note('finished', job);
    return 'node';
  },
};

export const run = (job, token) => PROCESSORS[job.name](job, token);
