#!/usr/bin/env node
// node run.mjs            compare every scenario with its golden
// node run.mjs --update   (re)write the goldens
// node run.mjs --cmd "python driver.py"   run pyqueue instead: its deliberate differences (ruled/) are applied to the goldens
// Extra arguments select scenarios by substring.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const args = process.argv.slice(2);
const update = args.includes('--update');
const ci = args.indexOf('--cmd');
const cmd = ci >= 0 ? args[ci + 1].split(' ') : [process.execPath, path.join(here, 'oracle.mjs')];
const filters = args.filter((a, i) => !a.startsWith('--') && (ci < 0 || i !== ci + 1));
fs.mkdirSync(path.join(here, 'goldens'), { recursive: true });
function change(report, changes) {
  for (const { path: steps, remove, value } of changes) {
    const last = steps[steps.length - 1];
    const place = steps.slice(0, -1).reduce((at, step) => at[step], report);
    if (!remove) place[last] = value;
    else if (Array.isArray(place)) place.splice(last, 1);
    else delete place[last];
  }
}

let bad = 0;
for (const f of fs.readdirSync(path.join(here, 'scenarios')).sort()) {
  if (filters.length && !filters.some(x => f.includes(x))) continue;
  const input = fs.readFileSync(path.join(here, 'scenarios', f));
  const r = spawnSync(cmd[0], cmd.slice(1), { input, encoding: 'utf8', timeout: 60000, maxBuffer: 1 << 26 });
  const golden = path.join(here, 'goldens', f);
  if (r.status !== 0) {
    bad++;
    console.log(`ERROR ${f}: status ${r.status} ${r.stderr.slice(0, 500)}`);
  } else if (update) {
    fs.writeFileSync(golden, r.stdout);
    console.log(`wrote ${f}`);
  } else {
    const want = JSON.parse(fs.readFileSync(golden, 'utf8'));
    const ruling = path.join(here, 'ruled', f);
    if (ci >= 0 && fs.existsSync(ruling)) change(want, JSON.parse(fs.readFileSync(ruling, 'utf8')).changes);
    const got = JSON.parse(r.stdout);
    const diffs = [];
    const cmp = (a, b, p) => {
      if (p.endsWith('/error/message')) return; // wording is each implementation's own
      if (p === '/workerErrors') { a = a?.length ?? 0; b = b?.length ?? 0; }
      if (a && b && typeof a === 'object' && typeof b === 'object') {
        for (const k of new Set([...Object.keys(a), ...Object.keys(b)])) cmp(a[k], b[k], `${p}/${k}`);
      } else if (a !== b) diffs.push(`${p}: want ${JSON.stringify(a)} got ${JSON.stringify(b)}`);
    };
    cmp(want, got, '');
    if (diffs.length) bad++;
    console.log(`${diffs.length ? 'DIFF ' : 'ok   '} ${f}`);
    diffs.slice(0, 20).forEach(d => console.log(`      ${d}`));
  }
}
process.exit(bad ? 1 : 0);
