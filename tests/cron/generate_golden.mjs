// Makes golden.json.gz: chains of firings by the npm package cron-parser, which BullMQ's schedulers use.
//
//   make cron-golden
//
// Every firing is asked for with a new parser that begins at the firing before it, as BullMQ does; for a third of the
// cases at a later moment, as after a late run. Output: {version, tzdata, cases: [[pattern, zone, start in s, steps]]};
// steps: seconds from the moment asked about to the firing, each `[lateness, step]` where the moment was moved; text
// instead of steps = refused. The random numbers are fixed, so the file only changes with its inputs.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { CronExpressionParser } from "cron-parser";

const require = createRequire(import.meta.url);
const version = JSON.parse(readFileSync(require.resolve("cron-parser").replace(/(.*cron-parser).*/, "$1/package.json"))).version;

let state = 20260101;
function random(n) {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * n);
}
const pick = (list) => list[random(list.length)];

// Zones and, for those that change their clocks, the moments of changes (UTC).
const ZONES = {
  "UTC": [], "Asia/Kolkata": [], "Asia/Tokyo": [], "America/Argentina/Buenos_Aires": [], "Asia/Kathmandu": [],
  "Pacific/Kiritimati": [], "Africa/Lagos": [], "America/Caracas": [],
  "Europe/Berlin": ["2024-03-31T01:00", "2025-10-26T01:00", "2026-03-29T01:00", "2026-10-25T01:00"],
  "Europe/London": ["2025-03-30T01:00", "2025-10-26T01:00"],
  "Europe/Dublin": ["2026-03-29T01:00", "2026-10-25T01:00"],
  "America/New_York": ["2025-03-09T07:00", "2025-11-02T06:00", "2026-03-08T07:00", "2026-11-01T06:00"],
  "America/Los_Angeles": ["2026-03-08T10:00", "2026-11-01T09:00"],
  "America/St_Johns": ["2026-03-08T05:30", "2026-11-01T04:30"],
  "Australia/Sydney": ["2026-04-04T16:00", "2026-10-03T16:00"],
  "Australia/Adelaide": ["2026-04-04T16:30", "2026-10-03T16:30"],
  "Pacific/Auckland": ["2026-04-04T14:00", "2026-09-26T14:00"],
  "Africa/Casablanca": ["2026-02-15T02:00", "2026-03-22T02:00"],
  "Africa/Cairo": ["2026-04-23T22:00", "2026-10-29T21:00"],
  "Asia/Beirut": ["2026-03-28T22:00", "2026-10-24T21:00"],
  "America/Havana": ["2026-03-08T05:00", "2026-11-01T05:00"],
  "America/Santiago": ["2026-04-05T03:00", "2026-09-06T04:00"],
  "Atlantic/Azores": ["2026-03-29T01:00", "2026-10-25T01:00"],
  "Antarctica/Troll": ["2026-03-29T01:00", "2026-10-25T01:00"],
  "Australia/Lord_Howe": ["2026-04-04T15:00", "2026-10-03T15:30"],
  "Pacific/Chatham": ["2026-04-04T14:00", "2026-09-26T14:00"],
  "America/Nuuk": ["2026-03-29T01:00", "2026-10-25T01:00"],
  "Pacific/Apia": ["2011-12-30T10:00"],
};

const FIXED = [
  "* * * * *", "*/5 * * * *", "0 * * * *", "30 * * * *", "*/15 * * * *", "0 0 * * *", "30 0 * * *", "15 1 * * *",
  "30 1 * * *", "0 2 * * *", "30 2 * * *", "0 3 * * *", "30 3 * * *", "*/20 2 * * *", "*/20 2,3 * * *", "15 0-3 * * *",
  "15 */2 * * *", "15 */3 * * *", "30 0,2 * * *", "30 23 * * *", "30 23,0 * * *", "40 22-23 * * *", "45 0-22 * * *",
  "20 10 2 * * *", "*/30 10 */4 * * *", "0 0 1 * *", "0 0 L * *", "0 12 L 2 *", "0 0 29 2 *", "0 6 31 * *", "0 9 * * 1-5",
  "0 9 * * MON-FRI", "0 9 * * 5L", "0 9 * * 1#2", "0 9 * * 1#5", "0 9 13 * 5", "0 9 */10 * 2", "0 9 1,15 * *", "0 9 L,15 * 5L",
  "0 0 ? * 1", "0 0 1 ? *", "0 0 * JAN,jul *", "5/15 8-10 * * *", "10-50/20 * * * *", "* * * * * *", "*/10 * * * * *",
  "15,45 30 2 * * *", "0 0 * * 7", "0 0 * * 0-7", "0 0 1 * 1-7", "0 0 1-31 * 1", "0 0 */2 * 1", "0 0 * * */2", "0 0 * * 1/2",
  "@yearly", "@annually", "@monthly", "@weekly", "@daily", "@hourly", "@minutely", "@secondly", "@weekdays", "@weekends",
  "30 2 29 * *", "30 2 * * 0", "0 0 1 1 *", "59 59 23 31 12 *", "0 0 31 2 1#5", "30 */1 * * *", "30 0-23 * * *",
];
const REFUSED = [
  "* * * * * * *", "0 0 l * *", "0 0 L-2 * *", "0 0 15W * *", "0 0 * * L", "0 0 * * 1#6", "0 0 * * 1#0", "0 0 * * 1#2,3#1",
  "0 0 * * 1#2,3", "0 0 * * 6-1", "0 0 * * TUE-SUN", "0 22-2 * * *", "0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6 *", "*/0 * * * *",
  "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 0 *", "* * * 13 *", "* * * * 8", "-1 * * * *", "1- * * * *",
  "1,,2 * * * *", "a * * * *", "1.5 * * * *", "*,5 * * * *", "1/ * * * *", "/5 * * * *", "*/5/2 * * * *", "@midnight", "@reboot",
  "@Daily", "0 0 * * monday", "0 0 * january *", "0 0 * * L5", "1,1 * * * *", "0 0 * * ?,1", "0 0 * * 0,7", "0 0 * * 1-5#2",
  "jan * * * *", "0 0 * sun *", "0 0 * * 5L,5L", "0 0 L,L * *", "+5 * * * *", "0 0 * * 1#2#3",
];

function item(low, high) {
  const a = low + random(high - low + 1), b = a + random(high - a + 1);
  return pick([() => `${a}`, () => `${a}`, () => `${a}-${b}`, () => `*/${1 + random(high)}`, () => `${a}/${1 + random(high)}`,
    () => `${a}-${b}/${1 + random(6)}`, () => `${a},${low + random(high - low + 1)}`])();
}
function made() {
  const second = random(4) ? [] : [pick(["*", "*/20", "0", "30", item(0, 59)])];
  const minute = pick(["0", "30", "*/15", "*", item(0, 59)]);
  const hour = pick(["*", "*/2", "0", "1", "2", "3", item(0, 23), item(0, 23)]);
  const day = pick(["*", "*", "*", "?", "L", "1", item(1, 31), item(1, 31)]);
  const month = pick(["*", "*", "*", "*", "*/3", "FEB", item(1, 12)]);
  const weekday = pick(["*", "*", "*", "?", `${random(8)}L`, `${random(8)}#${1 + random(5)}`, "sat", "Mon-Fri", item(0, 7)]);
  return [...second, minute, hour, day, month, weekday].join(" ");
}

function chain(pattern, zone, start, late) {
  const steps = [];
  for (let moment = start, i = 0; i < 6; i++) {
    let lateness = 0;
    if (late && i > 0) lateness = pick([0, 1, 60, 1200, 3600, 5400]);
    moment += lateness;
    let next;
    try {
      next = CronExpressionParser.parse(pattern, { currentDate: new Date(moment * 1000), tz: zone }).next().getTime() / 1000;
    } catch (error) {
      steps.push(`${error.message}`.slice(0, 40));
      return i ? steps : steps[0];
    }
    steps.push(lateness ? [lateness, next - moment] : next - moment);
    moment = next;
  }
  return steps;
}

const cases = [];
const add = (pattern, zone, start, late) => cases.push([pattern, zone, start, chain(pattern, zone, start, late)]);
for (const [zone, changes] of Object.entries(ZONES)) {
  const moments = changes.length ? changes.map((at) => Date.parse(at + "Z") / 1000) : [Date.UTC(2026, 1, 27) / 1000];
  for (const pattern of FIXED) {
    const near = pick(moments) - pick([26 * 3600, 7200, 3600, 3599, 1800, 1, 0, -1, -1500, -3600]);
    add(pattern, zone, near, random(3) === 0);
  }
  for (let i = 0; i < 75; i++) {
    const start = random(2) ? pick(moments) - 93600 + random(108000) : Date.UTC(2023, 0, 1) / 1000 + random(5 * 365 * 86400);
    add(made(), zone, start, random(3) === 0);
  }
}
for (const pattern of REFUSED) add(pattern, "UTC", 1767225600, false);
process.stdout.write(JSON.stringify({ version, tzdata: process.versions.tz, cases }));
