// One project: figures that stay current, the pace, import and export.
import { BarChart } from "./charts.js";
import { byId, wake } from "./dom.js";
import { dialogOf, fill, get, onSubmit, poll } from "./operator.js";
import { download, send } from "./net.js";

const overview = document.getElementById("overview");
const pace = new BarChart(document.getElementById("chart-hours"), { title: "Answers an hour", caption: "The last 48 hours, in this browser's time.", xName: "hour", yName: "answers", height: 210 });

function hours(starts) {
  return starts.map(([seconds, value]) => {
    const start = new Date(seconds * 1000), hour = start.getHours();
    const day = `${start.toLocaleDateString("en", { weekday: "short" })} ${start.getDate()}`;
    const label = hour === 0 ? day : hour % 6 === 0 ? `${hour}:00` : "";
    return { label, value, title: `${day}, ${hour}:00` };
  });
}

function show(view) {
  fill(overview, view);
  pace.update(hours(view.hours));
}

show(JSON.parse(overview.dataset.initial));
const refresh = poll(async () => show(await get(overview.dataset.live)), 5_000, document.getElementById("live-mark"));

const form = document.getElementById("import-form");
if (form) {
  const dialog = dialogOf(document.getElementById("import-dialog"), document.getElementById("import-items"));
  const error = document.getElementById("import-error"), file = document.getElementById("import-file"), text = document.getElementById("import-text");
  onSubmit(form, error, async () => {
    const lines = file.files.length ? await file.files[0].text() : text.value;
    if (!lines.trim()) { error.textContent = "Choose a file or paste lines."; return; }
    const told = await send("POST", `${location.pathname.replace("/projects", "/api/projects")}/items`, lines, { timeoutMs: 120_000 });
    dialog.close();
    form.reset();
    await refresh();
    document.getElementById("live-mark").textContent = `Imported ${told.added}; ${told.already_there} were already there.`;
  });
}
const menu = document.getElementById("export-menu");
document.addEventListener("pointerdown", (event) => { if (menu && !menu.contains(event.target)) menu.open = false; });
for (const link of document.querySelectorAll("[data-export]")) {
  link.addEventListener("click", async (event) => {
    event.preventDefault();
    menu.open = false;
    const error = document.getElementById("export-error");
    error.textContent = "";
    try {
      await download(link.href);
    } catch (problem) { error.textContent = `Nothing was exported. ${problem.message}`; }
  });
}
menu?.addEventListener("keydown", (event) => { if (event.key === "Escape") { menu.open = false; menu.querySelector("summary").focus(); } });

wake(byId("main"));
