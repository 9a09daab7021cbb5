// Ratings as dots with whiskers; new answers reload the page's numbers.
import { DotChart } from "./charts.js";
import { get, poll } from "./operator.js";

const arena = document.getElementById("arena");
const first = JSON.parse(arena.dataset.initial);

for (const host of arena.querySelectorAll("[data-island]")) {
  const chart = new DotChart(host, { title: "Ratings", caption: "Dots are the most likely ratings, whiskers hold 95 % of the resamples; an arrow means that no bound is known.", valueName: "rating" });
  chart.update(first.islands[Number(host.dataset.island)].dots);
}

poll(async () => {
  const { version } = await get(arena.dataset.live);
  if (version !== first.version && !arena.contains(document.activeElement)) location.reload();
}, 15_000);

const choice = document.getElementById("arena-project");
choice.addEventListener("change", () => choice.form.requestSubmit());
