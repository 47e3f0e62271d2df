#!/usr/bin/env node
// Differential-testing oracle: runs a list of queue operations on the real
// BullMQ package and prints a normalised JSON dump of the resulting keyspace.
//
//   BULLMQ_NODE_MODULES=<dir with bullmq + ioredis>  node oracle.mjs < ops.json
//   ...                                              node oracle.mjs --stream     one scenario per line in, one report per line out
//
// See README.md for the operation vocabulary and the normalisation rules.
import { createRequire } from 'node:module';
import path from 'node:path';
import readline from 'node:readline';

process.env.TZ = 'UTC';
const modDir =
  process.env.BULLMQ_NODE_MODULES || (process.env.NODE_PATH || '').split(path.delimiter)[0];
if (!modDir) {
  console.error('Set BULLMQ_NODE_MODULES to a node_modules directory holding bullmq and ioredis');
  process.exit(2);
}
const require = createRequire(path.join(path.resolve(modDir), '_oracle_.js'));

// ---------------------------------------------------------------- virtual clock
const RealDate = Date;
const EPOCH = 1700000000000;
let virtualNow = EPOCH;
class VirtualDate extends RealDate {
  constructor(...args) {
    if (args.length === 0) super(virtualNow);
    else super(...args);
  }
  static now() {
    return virtualNow;
  }
}
globalThis.Date = VirtualDate;

const bullmq = require('bullmq');
const IORedis = require('ioredis');
const {
  Queue, Worker, FlowProducer, Job, QueueEventsProducer, UnrecoverableError,
  DelayedError, RateLimitError, WaitingChildrenError, WaitingError,
} = bullmq;

console.warn = () => {};

// ------------------------------------------------------------------- input
let spec; // the scenario being run
let PREFIX;
let DEFAULT_QUEUE;
const PORT = Number(process.env.REDIS_PORT || 6379);
const HOST = process.env.REDIS_HOST || '127.0.0.1';
const connection = { host: HOST, port: PORT, maxRetriesPerRequest: null };
const admin = new IORedis({ host: HOST, port: PORT });

async function scanKeys() {
  const found = new Set();
  let cursor = '0';
  do {
    const [next, keys] = await admin.scan(cursor, 'MATCH', `${PREFIX}:*`, 'COUNT', 500);
    cursor = next;
    keys.forEach(k => found.add(k));
  } while (cursor !== '0');
  return [...found].sort();
}

// --------------------------------------------------------------- registries, of one scenario
const queues = new Map();
const workers = new Map();
const workerOpts = new Map();
const held = new Map(); // `${queue}/${jobId}` -> Job instance as fetched by a worker
let flowProducer;
let nextOutcome; // scripted behaviour of the processor used by the "process" op

const qn = op => op.queue || DEFAULT_QUEUE;

async function getQueue(name) {
  if (!queues.has(name)) {
    const opts = (spec.queueOpts && spec.queueOpts[name]) || {};
    const q = new Queue(name, { ...opts, connection, prefix: PREFIX });
    q.on('error', () => {});
    await q.waitUntilReady();
    await q.getVersion();
    queues.set(name, q);
  }
  return queues.get(name);
}

async function processor(job, token) {
  const o = nextOutcome || { type: 'complete', returnvalue: null };
  switch (o.type) {
    case 'complete':
      return o.returnvalue;
    case 'fail':
      throw makeError(o);
    case 'rateLimit':
      await workers.get(job.queueName).rateLimit(o.ms);
      throw new RateLimitError();
    case 'delay':
      await job.moveToDelayed(virtualNow + o.ms, token);
      throw new DelayedError();
    case 'wait':
      await job.moveToWait(token);
      throw new WaitingError();
    case 'waitChildren':
      if (await job.moveToWaitingChildren(token)) throw new WaitingChildrenError();
      return o.returnvalue;
    default:
      throw new Error(`unknown outcome ${o.type}`);
  }
}

async function getWorker(name) {
  if (!workers.has(name)) {
    const w = new Worker(name, processor, {
      connection, prefix: PREFIX, autorun: false, skipStalledCheck: true,
      skipLockRenewal: true, ...(workerOpts.get(name) || {}),
    });
    w.on('error', e => log.push({ workerError: e.message }));
    await w.waitUntilReady();
    workers.set(name, w);
  }
  const w = workers.get(name);
  w.limitUntil = 0; // never short-circuit client side: always ask the server
  w.blockUntil = 0;
  return w;
}

function makeError(op) {
  const E = op.unrecoverable ? UnrecoverableError : Error;
  const e = new E(op.message ?? 'boom');
  e.stack = op.stack ?? `${op.unrecoverable ? 'UnrecoverableError' : 'Error'}: ${e.message}\n    at oracle`;
  return e;
}

function jobView(job) {
  if (!job) return null;
  const v = {
    id: job.id, name: job.name, data: job.data, opts: clean(job.opts), progress: job.progress,
    delay: job.delay, priority: job.priority, timestamp: job.timestamp,
    attemptsMade: job.attemptsMade, attemptsStarted: job.attemptsStarted,
    stalledCounter: job.stalledCounter, failedReason: job.failedReason,
    stacktrace: (job.stacktrace || []).map(stripFrames), returnvalue: job.returnvalue, finishedOn: job.finishedOn,
    processedOn: job.processedOn, parentKey: job.parentKey, parent: job.parent,
    repeatJobKey: job.repeatJobKey, deduplicationId: job.deduplicationId,
    deferredFailure: job.deferredFailure, processedBy: job.processedBy,
  };
  return clean(v);
}
function clean(o) {
  return JSON.parse(JSON.stringify(o, (k, v) => (v === undefined ? undefined : v)));
}

function hold(name, job) {
  if (job) held.set(`${name}/${job.id}`, job);
  return job;
}

async function getHeld(name, op) {
  const key = `${name}/${op.id}`;
  if (held.has(key)) return held.get(key);
  const q = await getQueue(name);
  const w = await getWorker(name);
  const fetched = await q.getJob(op.id);
  if (!fetched) throw new Error(`oracle: no job ${op.id}`);
  const job = await Job.fromId(w, op.id);
  return job;
}

async function jobOf(name, id) {
  const q = await getQueue(name);
  const job = await q.getJob(id);
  if (!job) throw new Error(`oracle: no job ${id}`);
  return job;
}

async function chained(name, w, result, token) {
  // result of moveToCompleted / moveToFailed with fetchNext
  if (!Array.isArray(result)) return null;
  const [data, id, limitDelay, delayUntil] = result;
  if (!data) return { limitDelay: limitDelay ? '<ttl>' : 0, delayUntil: delayUntil || 0 };
  const next = await w.nextJobFromJobData(data, id, token);
  hold(name, next);
  return { next: next ? next.id : null };
}

const flowView = node => ({
  id: node.job.id,
  ...(node.children ? { children: node.children.map(flowView) } : {}),
});

// --------------------------------------------------------------- operations
const log = [];
const OPS = {
  // clock / plumbing
  advance: async op => { virtualNow += op.ms; },
  worker: async op => { workerOpts.set(qn(op), op.opts || {}); await getWorker(qn(op)); },
  del: async op => admin.del(...op.keys.map(k => `${PREFIX}:${k}`)),
  redis: async op => admin.call(...op.args.map(a => String(a).replace('{p}', PREFIX))),
  dump: async () => dump(),

  // producers
  add: async op => (await (await getQueue(qn(op))).add(op.name, op.data, op.opts)).id,
  addBulk: async op => (await (await getQueue(qn(op))).addBulk(op.jobs)).map(j => j.id),
  flow: async op => {
    flowProducer = flowProducer || new FlowProducer({ connection, prefix: PREFIX });
    return flowView(await flowProducer.add(op.flow, op.flowOpts));
  },
  flowBulk: async op => {
    flowProducer = flowProducer || new FlowProducer({ connection, prefix: PREFIX });
    return (await flowProducer.addBulk(op.flows)).map(flowView);
  },
  getFlow: async op => {
    flowProducer = flowProducer || new FlowProducer({ connection, prefix: PREFIX });
    const t = await flowProducer.getFlow({ queueName: qn(op), id: op.id, prefix: PREFIX });
    const sorted = n => ({
      id: n.job.id,
      ...(n.children ? { children: n.children.map(sorted).sort((a, b) => (a.id < b.id ? -1 : 1)) } : {}),
    });
    return t ? sorted(t) : null;
  },
  upsertJobScheduler: async op => {
    const j = await (await getQueue(qn(op))).upsertJobScheduler(op.id, op.repeat, op.template);
    return j ? j.id : null;
  },
  removeJobScheduler: async op => (await getQueue(qn(op))).removeJobScheduler(op.id),
  getJobScheduler: async op => clean((await (await getQueue(qn(op))).getJobScheduler(op.id)) ?? null),
  getJobSchedulers: async op =>
    clean(await (await getQueue(qn(op))).getJobSchedulers(op.start, op.end, op.asc)),
  publishEvent: async op => {
    const p = new QueueEventsProducer(qn(op), { connection, prefix: PREFIX });
    await p.publishEvent(op.event, op.maxEvents);
    await p.close();
  },

  // consumer side
  take: async op => {
    const name = qn(op);
    const w = await getWorker(name);
    const job = await w.getNextJob(op.token ?? 't', { block: false });
    hold(name, job);
    if (job) return jobView(job);
    return { none: true, limited: w.limitUntil > 0, delayUntil: w.blockUntil || 0 };
  },
  complete: async op => {
    const name = qn(op);
    const w = await getWorker(name);
    const job = await getHeld(name, op);
    const r = await job.moveToCompleted(op.returnvalue, op.token ?? 't', !!op.fetchNext);
    held.delete(`${name}/${op.id}`);
    return chained(name, w, r, op.token ?? 't');
  },
  fail: async op => {
    const name = qn(op);
    const w = await getWorker(name);
    const job = await getHeld(name, op);
    const r = await job.moveToFailed(makeError(op), op.token ?? 't', !!op.fetchNext);
    held.delete(`${name}/${op.id}`);
    return chained(name, w, r, op.token ?? 't');
  },
  process: async op => {
    // full worker path: fetch, run scripted processor, settle
    const name = qn(op);
    const w = await getWorker(name);
    const token = op.token ?? 't';
    const job = op.id ? await getHeld(name, op) : await w.getNextJob(token, { block: false });
    if (!job) return { none: true };
    nextOutcome = op.outcome;
    let event;
    const onC = () => { event = 'completed'; };
    const onF = (j, e) => { event = `failed: ${e.message}`; };
    w.once('completed', onC);
    w.once('failed', onF);
    const next = await w.processJob(job, token, () => !!op.fetchNext);
    w.off('completed', onC);
    w.off('failed', onF);
    held.delete(`${name}/${job.id}`);
    hold(name, next && next.id ? next : undefined);
    return { id: job.id, event: event || null, next: next && next.id ? next.id : null };
  },
  moveToDelayed: async op => (await getHeld(qn(op), op)).moveToDelayed(op.timestamp ?? virtualNow + op.ms, op.token ?? 't'),
  moveToWait: async op => { const r = await (await getHeld(qn(op), op)).moveToWait(op.token ?? 't'); return r > 0 ? '<ttl>' : r; },
  moveToWaitingChildren: async op =>
    (await getHeld(qn(op), op)).moveToWaitingChildren(op.token ?? 't', op.opts),
  extendLock: async op => (await getHeld(qn(op), op)).extendLock(op.token ?? 't', op.duration),
  extendLocks: async op => (await getWorker(qn(op))).extendJobLocks(op.ids, op.tokens, op.duration),
  stalledCheck: async op => {
    const w = await getWorker(qn(op));
    if (op.resetCheck) await admin.del(`${PREFIX}:${qn(op)}:stalled-check`);
    return (await w.getBackend().moveStalledJobsToWait()).sort();
  },

  // job level
  promote: async op => (await jobOf(qn(op), op.id)).promote(),
  changePriority: async op => (await jobOf(qn(op), op.id)).changePriority(op.opts),
  changeDelay: async op => (await jobOf(qn(op), op.id)).changeDelay(op.delay),
  updateData: async op => (await jobOf(qn(op), op.id)).updateData(op.data),
  updateProgress: async op => (await getQueue(qn(op))).updateJobProgress(op.id, op.progress),
  log: async op => (await getQueue(qn(op))).addJobLog(op.id, op.row, op.keepLogs),
  clearLogs: async op => (await jobOf(qn(op), op.id)).clearLogs(op.keepLogs),
  getLogs: async op => (await getQueue(qn(op))).getJobLogs(op.id, op.start, op.end, op.asc),
  retry: async op => (await jobOf(qn(op), op.id)).retry(op.state, op.opts),
  remove: async op => (await getQueue(qn(op))).remove(op.id, { removeChildren: op.removeChildren ?? true }),
  removeJob: async op => (await jobOf(qn(op), op.id)).remove({ removeChildren: op.removeChildren ?? true }),
  removeUnprocessedChildren: async op => (await jobOf(qn(op), op.id)).removeUnprocessedChildren(),
  removeChildDependency: async op => (await jobOf(qn(op), op.id)).removeChildDependency(),
  removeJobDeduplicationKey: async op => (await jobOf(qn(op), op.id)).removeDeduplicationKey(),

  // queue level
  pause: async op => (await getQueue(qn(op))).pause(),
  resume: async op => (await getQueue(qn(op))).resume(),
  drain: async op => (await getQueue(qn(op))).drain(!!op.delayed).then(() => null),
  clean: async op => (await getQueue(qn(op))).clean(op.grace, op.limit, op.type),
  obliterate: async op => (await getQueue(qn(op))).obliterate(op.opts),
  retryJobs: async op => (await getQueue(qn(op))).retryJobs({ timestamp: virtualNow, ...op.opts }),
  promoteJobs: async op => (await getQueue(qn(op))).promoteJobs(op.opts),
  trimEvents: async op => { await (await getQueue(qn(op))).trimEvents(op.maxLength); },
  setGlobalConcurrency: async op => { await (await getQueue(qn(op))).setGlobalConcurrency(op.concurrency); },
  removeGlobalConcurrency: async op => { await (await getQueue(qn(op))).removeGlobalConcurrency(); },
  setGlobalRateLimit: async op => { await (await getQueue(qn(op))).setGlobalRateLimit(op.max, op.duration); },
  removeGlobalRateLimit: async op => { await (await getQueue(qn(op))).removeGlobalRateLimit(); },
  rateLimit: async op => (await getQueue(qn(op))).rateLimit(op.ms),
  removeRateLimitKey: async op => (await getQueue(qn(op))).removeRateLimitKey(),
  getRateLimitTtl: async op => { const t = await (await getQueue(qn(op))).getRateLimitTtl(op.maxJobs); return t > 0 ? '<ttl>' : t; },
  removeDeduplicationKey: async op => (await getQueue(qn(op))).removeDeduplicationKey(op.id),
  getDeduplicationJobId: async op => (await getQueue(qn(op))).getDeduplicationJobId(op.id),
  removeOrphanedJobs: async op => (await getQueue(qn(op))).removeOrphanedJobs(),

  // getters
  getJob: async op => jobView(await (await getQueue(qn(op))).getJob(op.id)),
  getState: async op => (await getQueue(qn(op))).getJobState(op.id),
  getCounts: async op => (await getQueue(qn(op))).getJobCounts(...(op.types || [])),
  getDelayedCount: async op => (await getQueue(qn(op))).getDelayedCount(op.timestamp),
  getCountsPerPriority: async op => (await getQueue(qn(op))).getCountsPerPriority(op.priorities),
  getRanges: async op => (await getQueue(qn(op))).getRanges(op.types, op.start, op.end, op.asc),
  getJobs: async op => (await (await getQueue(qn(op))).getJobs(op.types, op.start, op.end, op.asc)).map(j => j.id),
  getMeta: async op => { const m = await (await getQueue(qn(op))).getMeta(); m.version = '<version>'; return m; },
  isPaused: async op => (await getQueue(qn(op))).isPaused(),
  isMaxed: async op => (await getQueue(qn(op))).isMaxed(),
  isFinished: async op => (await getQueue(qn(op))).getBackend().isFinished(op.id, !!op.value),
  getMetrics: async op => (await getQueue(qn(op))).getMetrics(op.type, op.start, op.end),
  getDependencies: async op => {
    const d = await (await jobOf(qn(op), op.id)).getDependencies(op.opts);
    if (d.unprocessed) d.unprocessed.sort();
    return clean(d);
  },
  getDependenciesCount: async op => (await jobOf(qn(op), op.id)).getDependenciesCount(op.opts),
  getChildrenValues: async op => (await jobOf(qn(op), op.id)).getChildrenValues(),
  getIgnoredChildrenFailures: async op => (await jobOf(qn(op), op.id)).getIgnoredChildrenFailures(),
};

// ------------------------------------------------------------ normalised dump
// Stack traces made by the library itself carry file names and line numbers:
// keep the first line and mark the frames. Scripted errors ("at oracle") stay.
function stripFrames(trace) {
  if (typeof trace !== 'string' || /\n    at oracle$/.test(trace)) return trace;
  const at = trace.indexOf('\n    at ');
  return at < 0 ? trace : trace.slice(0, at) + '\n    at <frames>';
}
const JSON_FIELDS = new Set(['data', 'opts', 'parent', 'returnvalue', 'stacktrace', 'progress', 'pd']);

function sortDeep(v) {
  if (Array.isArray(v)) return v.map(sortDeep);
  if (v && typeof v === 'object')
    return Object.fromEntries(Object.keys(v).sort().map(k => [k, sortDeep(v[k])]));
  return v;
}
function field(key, name, value) {
  if (key.endsWith(':meta') && name === 'version') return '<version>';
  if (JSON_FIELDS.has(name)) {
    try {
      const parsed = sortDeep(JSON.parse(value));
      return { $json: name === 'stacktrace' && Array.isArray(parsed) ? parsed.map(stripFrames) : parsed };
    } catch {
      return value;
    }
  }
  return value;
}
async function ttlOf(key) {
  const t = await admin.pttl(key);
  // PTTL uses the server clock; round up to the next second so that a few ms of
  // execution time do not show.
  return t > 0 ? Math.ceil(t / 1000) * 1000 : undefined;
}
async function dump() {
  const out = {};
  for (const key of await scanKeys()) {
    const type = await admin.type(key);
    const e = { type };
    const ttl = await ttlOf(key);
    if (ttl !== undefined) e.ttl = ttl;
    if (type === 'string') e.value = await admin.get(key);
    else if (type === 'list') e.value = await admin.lrange(key, 0, -1);
    else if (type === 'set') e.value = (await admin.smembers(key)).sort();
    else if (type === 'zset') {
      const flat = await admin.zrange(key, 0, -1, 'WITHSCORES');
      e.value = [];
      for (let i = 0; i < flat.length; i += 2) e.value.push([flat[i], flat[i + 1]]);
    } else if (type === 'hash') {
      const h = await admin.hgetall(key);
      e.value = Object.fromEntries(Object.keys(h).sort().map(f => [f, field(key, f, h[f])]));
    } else if (type === 'stream') {
      e.value = (await admin.xrange(key, '-', '+')).map(([, kv]) => {
        const pairs = [];
        for (let i = 0; i < kv.length; i += 2) pairs.push([kv[i], kv[i + 1]]);
        return pairs;
      });
    } else continue;
    out[key] = e;
  }
  return out;
}

// One line per result / hash field / list element / stream entry: diff friendly.
function pretty(r) {
  const j = v => JSON.stringify(v);
  const lines = ['{', `"now":${r.now},`, '"results":['];
  r.results.forEach((x, i) => lines.push(` ${j(sortDeep(x))}${i < r.results.length - 1 ? ',' : ''}`));
  lines.push('],', `"workerErrors":${j(r.workerErrors)},`, '"keys":{');
  const names = Object.keys(r.keys);
  names.forEach((k, i) => {
    const e = r.keys[k];
    const head = ` ${j(k)}:{"type":${j(e.type)},${e.ttl !== undefined ? `"ttl":${e.ttl},` : ''}"value":`;
    const end = i < names.length - 1 ? '},' : '}';
    if (e.type === 'string') lines.push(`${head}${j(e.value)}${end}`);
    else if (Array.isArray(e.value)) {
      lines.push(`${head}[`);
      e.value.forEach((v, n) => lines.push(`  ${j(v)}${n < e.value.length - 1 ? ',' : ''}`));
      lines.push(` ]${end}`);
    } else {
      lines.push(`${head}{`);
      const fs = Object.keys(e.value);
      fs.forEach((f, n) => lines.push(`  ${j(f)}:${j(e.value[f])}${n < fs.length - 1 ? ',' : ''}`));
      lines.push(` }${end}`);
    }
  });
  lines.push('}', '}');
  return lines.join('\n');
}

// ------------------------------------------------------------------- run
async function run(input) {
  spec = Array.isArray(input) ? { ops: input } : input;
  PREFIX = spec.prefix || 'orc';
  DEFAULT_QUEUE = spec.queue || 'q';
  virtualNow = EPOCH;
  for (const k of await scanKeys()) await admin.del(k);
  const results = [];
  for (const op of spec.ops) {
    virtualNow += 1; // every operation happens 1 ms after the previous one
    const fn = OPS[op.op];
    if (!fn) {
      console.error(`unknown op ${op.op}`);
      process.exit(2);
    }
    try {
      const r = await fn(op);
      results.push({ op: op.op, result: r === undefined ? null : r });
    } catch (e) {
      results.push({ op: op.op, error: { message: e.message, code: e.code ?? null } });
    }
  }
  const report = { now: virtualNow, results, workerErrors: log, keys: await dump() };

  // UUIDs (auto ids of flow nodes) are numbered by order of appearance.
  const uuids = new Map();
  const text = pretty(report).replace(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, u => {
    if (!uuids.has(u)) uuids.set(u, `<uuid-${uuids.size + 1}>`);
    return uuids.get(u);
  });
  await forget();
  return text;
}

async function forget() {
  for (const w of workers.values()) await w.close(true).catch(() => {});
  for (const q of queues.values()) await q.close().catch(() => {});
  if (flowProducer) await flowProducer.close().catch(() => {});
  [workers, queues, workerOpts, held].forEach(m => m.clear());
  flowProducer = undefined;
  nextOutcome = undefined;
  log.length = 0;
  for (const k of await scanKeys()) await admin.del(k);
}

if (process.argv.includes('--stream')) {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    process.stdout.write(JSON.stringify(JSON.parse(await run(JSON.parse(line)))) + '\n');
  }
} else {
  const chunks = [];
  for await (const c of process.stdin) chunks.push(c);
  process.stdout.write((await run(JSON.parse(Buffer.concat(chunks).toString('utf8')))) + '\n');
}
admin.disconnect();
process.exit(0);
