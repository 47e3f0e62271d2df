// Prints the public names of the installed bullmq package as JSON, found by reflection at run time:
// {exports: [...], classes: {Name: {static: [...], members: [...], extends: "Name" | ""}}, enums: {Name: [...]}}
import { createRequire } from "node:module";

const bullmq = createRequire(process.argv[2] + "/")("bullmq");

const isClass = (value) => typeof value === "function" && /^class\b/.test(Function.prototype.toString.call(value));
const isPublic = (name) => typeof name === "string" && !name.startsWith("_") && name !== "constructor";
const HIDDEN = new Set(["length", "name", "prototype"]);

const classes = {};
const enums = {};
for (const [name, value] of Object.entries(bullmq)) {
  if (isClass(value)) {
    const parent = Object.getPrototypeOf(value);
    classes[name] = {
      extends: isClass(parent) ? parent.name : "",
      static: Object.getOwnPropertyNames(value).filter((member) => isPublic(member) && !HIDDEN.has(member)).sort(),
      members: Object.getOwnPropertyNames(value.prototype).filter(isPublic).sort(),
    };
  } else if (value && typeof value === "object") {
    enums[name] = Object.keys(value).sort();
  }
}
console.log(JSON.stringify({ exports: Object.keys(bullmq).sort(), classes, enums }, null, 1));
