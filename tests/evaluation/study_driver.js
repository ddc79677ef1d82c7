// Plays a participant on the study's page, on a document that knows only what the script asks of it.
// node study_driver.js STUDY.js DATA.json PARTICIPANT KEYS [KEPT.json [?QUERY [BROKEN]]] -> JSON of what was saved and shown
// BROKEN: the name of a picture that does not come
// "-" for PARTICIPANT: nobody says a name; for KEYS: none is pressed
"use strict";
const fs = require("node:fs");
const [script, data, participant, keys, drawer, search = "", broken = "-"] = process.argv.slice(2);
const kept = drawer ? JSON.parse(fs.readFileSync(drawer)) : {};

class Element {
  constructor() {
    Object.assign(this, { children: [], style: {}, hidden: true, clientWidth: 1000, textContent: "", value: "", marks: {} });
  }
  setAttribute(name, value) { this.marks[name] = value; }
  append(...more) { this.children.push(...more); }
  replaceChildren(...more) { this.children = more; }
  focus() { document.focused = this; }
  click() { saved.push(this.download); }
  decode() { return this.src === `pictures/${broken}.png` ? Promise.reject(new Error()) : Promise.resolve(); }
}
const elements = {};
const saved = [];
let listener = null;
let text = "";
let clock = 0;
globalThis.document = {
  getElementById: (id) => (elements[id] ??= new Element()),
  createElement: () => new Element(),
  addEventListener: (_, function_) => (listener = function_),
};
globalThis.window = { devicePixelRatio: 2, innerHeight: 800 };
globalThis.location = { search };
globalThis.localStorage = {
  getItem: (name) => kept[name] ?? null,
  setItem: (name, value) => (kept[name] = value),
};
globalThis.Blob = class { constructor(parts) { text = parts.join(""); } };
globalThis.URL.createObjectURL = () => "blob:";
globalThis.URL.revokeObjectURL = () => {};
performance.now = () => (clock += 1500);
document.getElementById("study").textContent = fs.readFileSync(data, "utf8");
require(require("node:path").resolve(script));

async function play() {
  const resumed = elements.question.hidden === false;
  if (participant !== "-") {
    elements.name.value = participant;
    elements.who.onsubmit({ preventDefault() {} });
  }
  const alts = [];
  const troubles = [];
  for (const key of keys === "-" ? [] : keys.split(" ")) {
    await new Promise(setImmediate);
    if (elements.trouble.textContent) troubles.push(elements.trouble.textContent);
    alts.push(...elements.options.children.map((one) => one.children[0].alt));
    listener({ key, preventDefault() {} });
  }
  await new Promise(setImmediate);
  const note = elements.note?.textContent ?? "";
  const widths = (elements.options?.children ?? []).map((one) => one.children[0].style.width);
  const fault = elements.fault?.textContent ?? "";
  if (fault === "" && elements.start.hidden) elements.save.onclick();
  const count = elements.count?.textContent;
  const out = { file: text && JSON.parse(text), kept, count, alts, widths, fault, resumed, saved, name: elements.name?.value, note, troubles };
  const summary = elements.summary?.textContent;
  console.log(JSON.stringify({ ...out, summary, told: elements.note?.textContent, ended: elements.end.hidden === false }));
  process.exit(0);
}
play();
