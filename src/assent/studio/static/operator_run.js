// One training run: curves that grow, and what the model said at two steps side by side.
import { byId, make } from "./dom.js";
import { LineChart, number } from "./charts.js";
import { get, poll } from "./operator.js";
import { visible } from "./text.js";

const MOST_ROWS = 20_000;  // kept of one curve; then every second one goes
const CURVES = [
  { title: "Reward", caption: "Mean reward of the rollouts, as the reward model gives it.", names: { reward: "reward" } },
  { title: "Gold", caption: "Mean gold score of the same rollouts. Training never sees it.", names: { gold: "gold" } },
  { title: "KL to the reference", caption: "Nats a completion.", names: { kl: "KL" }, zero: true },
  { title: "Entropy", caption: "Nats a token. Near zero the policy always says the same.", names: { entropy: "entropy" }, zero: true },
  { title: "Length", caption: "Tokens a completion.", names: { length: "length" }, zero: true },
  { title: "Loss", caption: "Of training and, where it is measured, on held-out data.", names: { loss: "training", eval_loss: "held-out" } },
  { title: "Accuracy", caption: "Share of pairs put in the right order.", names: { accuracy: "training", eval_accuracy: "held-out" } },
  { title: "Labels saved by choosing the questions", caption: "Accuracy of a reward head by the number of labels it learned from, on answers asked at random that it did not see. Bands hold 95 %.", names: { accuracy_random: "at random", accuracy_chosen: "chosen" }, xName: "labels" },
  { title: "Unfinished", caption: "Share of completions cut at the token limit.", names: { truncated_fraction: "truncated" }, zero: true },
  { title: "Chosen and rejected", caption: "Implicit rewards of the two sides.", names: { chosen_reward: "chosen", rejected_reward: "rejected" } },
];
const TONES = ["one", "four", "two", "three"];
const SILENT = new Set(["step", "iteration", "epoch", "updates"]);

const page = byId("run"), asked = new URLSearchParams({ run: page.dataset.name });
let columns = new Map(), cursor = "", lastSamples = "";
const charts = new Map();

function take({ rows, fresh }) {
  if (fresh) columns = new Map();
  for (const row of rows) {
    for (const [name, value] of Object.entries(row)) {
      if (SILENT.has(name)) continue;
      let points = columns.get(name);
      if (!points) columns.set(name, points = []);
      points.push([row.step, value]);
      if (points.length > MOST_ROWS) columns.set(name, points.filter((_, i) => i % 2));
    }
  }
}

function chartFor(key, place, options) {
  if (!charts.has(key)) {
    const host = make("figure", { class: "chart" });
    place.append(host);
    charts.set(key, new LineChart(host, options));
  }
  return charts.get(key);
}

/** [x, low, high] where a curve comes with an interval at every point. */
function bandOf(name) {
  const low = columns.get(`${name}_low`), high = columns.get(`${name}_high`);
  return low && high && low.length === high.length ? low.map(([x, value], i) => [x, value, high[i][1]]) : [];
}

function draw() {
  byId("no-curves").hidden = columns.size > 0;
  const named = new Set();
  for (const { title, caption, names, zero, xName } of CURVES) {
    const series = Object.entries(names).filter(([name]) => columns.has(name)).map(([name, words], i) => ({ name: words, tone: TONES[i], points: columns.get(name), band: bandOf(name) }));
    Object.keys(names).forEach((name) => [name, `${name}_low`, `${name}_high`].forEach((one) => named.add(one)));
    if (series.length) chartFor(title, byId("curves"), { title, caption, zero, xName }).update(series);
  }
  const others = [...columns.keys()].filter((name) => !named.has(name)).sort();
  byId("more").hidden = !others.length;
  for (const name of others) {
    const title = name.replaceAll("_", " ");
    chartFor(`other ${name}`, byId("more-curves"), { title: title[0].toUpperCase() + title.slice(1), height: 150 }).update([{ name: title, tone: "five", points: columns.get(name) }]);
  }
}

async function numbers() {
  let more = true, changed = false;
  while (more) {
    const page = await get(`/api/operator/run/metrics?${new URLSearchParams({ run: asked.get("run"), cursor })}`);
    changed ||= page.rows.length > 0 || page.fresh;
    take(page);
    ({ cursor, more } = page);
  }
  if (changed) draw();
}

function sample(one) {
  return make("article", { class: "sample" },
    make("p", { class: "asked", dir: "auto" }, visible(one.prompt)),
    make("p", { class: "told", dir: "auto" }, one.completion ? visible(one.completion) : make("em", { class: "muted" }, "nothing")),
    make("p", { class: "tail" }, one.reward === null ? null : make("span", {}, `reward ${number(one.reward)}`), one.stop === "end" ? null : make("span", {}, one.stop === "length" ? "cut at the limit" : one.stop)));
}

const sides = [["left-step", "left-samples", "first"], ["right-step", "right-samples", "last"]].map(([select, place, start]) => ({ select: byId(select), place: byId(place), start, touched: false }));
let samples = [];

function showSide(side) {
  side.place.replaceChildren(...samples.filter((one) => String(one.step) === side.select.value).map(sample));
}

async function words() {
  const answer = await get(`/api/operator/run/samples?${asked}`);
  const now = JSON.stringify(answer.samples);
  if (now === lastSamples) return;
  lastSamples = now;
  ({ samples } = answer);
  byId("samples").hidden = !samples.length;
  const steps = [...new Set(samples.map((one) => one.step))];
  for (const side of sides) {
    const before = side.select.value;
    side.select.replaceChildren(...steps.map((step) => make("option", { value: step }, number(step))));
    side.select.value = side.touched && steps.includes(Number(before)) ? before : String(side.start === "first" ? steps[0] : steps.at(-1));
    showSide(side);
  }
}

for (const side of sides) side.select.addEventListener("change", () => { side.touched = true; showSide(side); });

async function status() {
  const run = await get(`/api/operator/run?${asked}`);
  byId("run-state").textContent = run.state;
  byId("run-state").className = `badge ${run.tone}`;
  byId("run-steps").textContent = run.steps;
  byId("run-updated").textContent = run.updated;
  byId("run-done").value = run.done;
  byId("run-words").textContent = run.words;
  return run.state;
}

const DONE = ["finished"];
poll(async () => {
  const state = await status();
  await numbers();
  await words();
  return !DONE.includes(state);  // a finished run does not change
}, 3_000, byId("live-mark"));
