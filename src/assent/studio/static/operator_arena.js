// Ratings as dots with whiskers; new answers reload the page's numbers.
import { DotChart } from "./charts.js";
import { get, poll } from "./operator.js";

const arena = document.getElementById("arena");
const first = JSON.parse(arena.dataset.initial);
const before = JSON.stringify(first);

for (const host of arena.querySelectorAll("[data-island]")) {
  const chart = new DotChart(host, { title: "Ratings", caption: "Dots are the most likely ratings, whiskers hold 95 % of the resamples; an arrow means that no bound is known.", valueName: "rating" });
  chart.update(first.islands[Number(host.dataset.island)].dots);
}

poll(async () => {
  const now = JSON.stringify(await get(arena.dataset.live));
  if (now !== before && !arena.contains(document.activeElement)) location.reload();
}, 15_000);
