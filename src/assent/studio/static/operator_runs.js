// The list of runs, kept current.
import { make } from "./dom.js";
import { get, poll } from "./operator.js";

const table = document.getElementById("runs"), body = table?.querySelector("tbody"), nothing = document.getElementById("no-runs");
let shown = "";

function row(run) {
  const bar = make("progress", { max: 1000, "aria-label": `Steps done of ${run.name}` });
  bar.value = run.done;
  return make("tr", {},
    make("th", { scope: "row" }, make("a", { href: run.address }, make("bdi", {}, run.name))),
    make("td", {}, run.kind), make("td", {}, make("span", { class: `badge ${run.tone}` }, run.state)),
    make("td", {}, make("div", { class: "bar" }, bar, make("span", {}, run.steps))), make("td", { class: "muted" }, run.updated));
}

if (body) {
  poll(async () => {
    const { runs } = await get(body.dataset.live);
    const now = JSON.stringify(runs);
    if (now === shown) return;
    shown = now;
    table.hidden = !runs.length;
    nothing.hidden = Boolean(runs.length);
    if (!body.contains(document.activeElement)) body.replaceChildren(...runs.map(row));
  }, 5_000);
}
