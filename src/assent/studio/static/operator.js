// What the operator's pages share: values kept up to date while somebody looks, and forms that say what went wrong.
import { make } from "./dom.js";
import { get } from "./net.js";

const SLOWEST_MS = 60_000;

/** Asks `task` at once and then every `everyMs`, only while the page is visible; slower while the server is away. */
export function poll(task, everyMs, mark) {
  let timer = 0, wait = everyMs, running = false, over = false;

  async function turn() {
    if (running || over || document.visibilityState !== "visible") return;
    running = true;
    clearTimeout(timer);
    try {
      over = (await task()) === false;
      wait = everyMs;
      say(over ? "" : "live", over ? "" : "Live");
    } catch (problem) {
      if ([401, 403, 404].includes(problem.status)) over = true;
      wait = Math.min(SLOWEST_MS, wait * 2);
      say("lost", problem.message);
    } finally {
      running = false;
    }
    if (!over) timer = setTimeout(turn, wait);
  }

  function say(kind, words) {
    if (!mark) return;
    if (mark.textContent !== words) mark.textContent = words;
    mark.className = `live-mark ${kind}`;
  }

  document.addEventListener("visibilitychange", () => { if (document.visibilityState === "visible") turn(); });
  turn();
  return turn;
}

/** Puts the texts, values, rows and facts of a view into the elements that name them. */
export function fill(root, view) {
  for (const [key, words] of Object.entries(view.text ?? {})) {
    for (const place of root.querySelectorAll(`[data-text="${CSS.escape(key)}"]`)) if (place.textContent !== words) place.textContent = words;
  }
  for (const [key, value] of Object.entries(view.value ?? {})) {
    for (const place of root.querySelectorAll(`[data-value="${CSS.escape(key)}"]`)) place.value = value;
  }
  for (const [key, rows] of Object.entries(view.rows ?? {})) {
    for (const place of root.querySelectorAll(`[data-rows="${CSS.escape(key)}"]`)) replaceIfChanged(place, rows, bodyRow);
  }
  for (const [key, facts] of Object.entries(view.facts ?? {})) {
    for (const place of root.querySelectorAll(`[data-facts="${CSS.escape(key)}"]`)) {
      replaceIfChanged(place, facts, ([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)));
    }
  }
}

const shown = new WeakMap();

function replaceIfChanged(place, rows, built) {
  const now = JSON.stringify(rows);
  if (shown.get(place) === now) return;
  if (shown.has(place) || place.dataset.filled !== "true") place.replaceChildren(...rows.map(built));
  shown.set(place, now);
}

function bodyRow(cells) {
  return make("tr", {}, cells.map((words, i) => (i ? make("td", { class: "number" }, words) : make("th", { scope: "row" }, make("bdi", {}, words)))));
}

/** Runs `work` on submit with the button held; an error's words go to `error`. */
export function onSubmit(form, error, work) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!form.checkValidity()) { form.reportValidity(); return; }
    await held(form.querySelector("button[type=submit], button:not([type])"), error, work);
  });
}

/** Runs `work` with `button` held, and shows what went wrong. */
export async function held(button, error, work) {
  button.disabled = true;
  error.textContent = "";
  try {
    await work();
  } catch (problem) {
    error.textContent = problem.where ? `${problem.where}: ${problem.message}` : problem.message;
  } finally {
    button.disabled = false;
  }
}

/** The settings of a project as its form has them. */
export function projectSettings(form) {
  const data = new FormData(form);
  const numeric = (name) => Number.parseFloat(data.get(name) ?? "0");
  const within = (name) => Math.round(numeric(name) * 1e6) / 1e8;
  return {
    mode: data.get("mode"),
    criteria: String(data.get("criteria") ?? "").split(",").map((one) => one.trim()).filter(Boolean),
    criteria_share: within("criteria_share"),
    overlap: numeric("overlap"),
    lease_s: numeric("lease_minutes") * 60,
    control_share: within("control_share"),
    repeat_share: within("repeat_share"),
    instructions: data.get("instructions"),
    endpoints: data.getAll("endpoints"),
    cost_per_hour: numeric("cost_per_hour"),
    adaptive_overlap: numeric("adaptive_overlap"),
  };
}

/** Shows the fields of the chosen mode only. */
export function followMode(form) {
  const show = () => {
    const mode = new FormData(form).get("mode");
    for (const part of form.querySelectorAll("[data-modes]")) part.hidden = !part.dataset.modes.split(" ").includes(mode);
  };
  form.addEventListener("change", show);
  show();
}

/** Opens a dialog by a button; Cancel, Escape and a click beside it close it. */
export function dialogOf(dialog, opener) {
  opener?.addEventListener("click", () => dialog.showModal());
  dialog.addEventListener("pointerdown", (event) => { if (event.target === dialog) dialog.close(); });
  for (const button of dialog.querySelectorAll("[data-close], button[value=cancel], [id$=-cancel]")) button.addEventListener("click", () => dialog.close());
  return dialog;
}

export { get };
