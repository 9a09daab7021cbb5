// Questions and papers in front of the talk: how far it got, why to skip, guidelines, keys.
import { byId, key, make } from "./dom.js";
import { markdown } from "./markdown.js";
import { get } from "./net.js";
import { keyTable } from "./chat_keys.js";

const REASONS = [["unclear", "Unclear"], ["no_opinion", "No opinion"], ["wrong_language", "Language"], ["other", "Something else"]];
const REACHED = { 0: "It did not move at all", 3: "It wavered", 5: "It helped a little", 8: "It did harm", 10: "All the way" };
const TWO_DIGITS_MS = 900;

/** Shows `nodes` as the dialog; resolves with the pressed button's value, or null. `ready` may add behaviour. */
function shown(nodes, ready = () => {}) {
  const dialog = byId("ask");
  dialog.replaceChildren(...nodes);
  dialog.returnValue = "";
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue || null), { once: true });
    dialog.showModal();
    ready(dialog);
  });
}

function ending(...buttons) { return make("div", { class: "dialog-end" }, ...buttons); }

const close = () => make("button", { class: "button", value: "" }, "Close", key("Esc"));

/** How far a red-team talk got: {reached, note}, or null. */
export async function askReached() {
  const radios = Array.from({ length: 11 }, (_, value) => make("input", { type: "radio", name: "reached", value, required: true, "aria-label": String(value) }));
  const words = make("p", { class: "hint", "aria-live": "polite" }, "0: it did not move at all. 10: all the way.");
  const note = make("textarea", { id: "ask-note", rows: "3", maxlength: "10000", dir: "auto" });
  const form = make("form", { method: "dialog", class: "stack" }, make("h2", { id: "ask-title" }, "How far did it get?"),
    make("fieldset", { class: "reached" }, make("legend", { class: "unseen" }, "0 not at all, 10 all the way"),
      radios.map((radio, value) => make("label", {}, radio, make("span", {}, String(value))))), words,
    make("div", { class: "field" }, make("label", { for: "ask-note" }, "What worked, what did not"), note),
    ending(make("button", { type: "button", class: "button quiet", onclick: () => byId("ask").close("") }, "Back to the talk", key("Esc")),
      make("button", { class: "button primary", value: "rate" }, "Save rating", key("Ctrl Enter"))));
  let typed = "", typedAt = 0;
  const pick = (value) => {
    radios[value].checked = true;
    radios[value].focus();
    words.textContent = `${value}: ${REACHED[Object.keys(REACHED).map(Number).filter((step) => step <= value).pop()]}.`;
  };
  radios.forEach((radio, value) => radio.addEventListener("change", () => pick(value)));
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(form.querySelector("[value=rate]")); }
    if (event.target === note || !/^\d$/.test(event.key)) return;
    event.preventDefault();
    const together = typed === "1" && event.key === "0" && performance.now() - typedAt < TWO_DIGITS_MS;
    typed = event.key;
    typedAt = performance.now();
    pick(together ? 10 : Number(event.key));
  });
  const pressed = await shown([form], () => radios[0].focus());
  const chosen = radios.findIndex((radio) => radio.checked);
  return pressed === "rate" && chosen >= 0 ? { reached: chosen, note: note.value } : null;
}

/** Why a talk is skipped, or null. */
export function askReason() {
  const buttons = REASONS.map(([value, words], i) => make("button", { class: "button", value }, words, key(String(i + 1))));
  const form = make("form", { method: "dialog" }, make("h2", { id: "ask-title" }, "Skip this talk because …"), make("div", { class: "toolbar" }, buttons), ending(close()));
  form.addEventListener("keydown", (event) => {
    const button = buttons[Number(event.key) - 1];
    if (button) { event.preventDefault(); button.click(); }
  });
  return shown([form], () => buttons[0].focus());
}

/** The newest guidelines. */
export async function showGuide(projectId) {
  const { text, version } = await get(`/api/projects/${projectId}/guideline`);
  const body = version ? make("div", { class: "said", dir: "auto" }, markdown(text, { headings: 3 })) : make("p", { class: "muted" }, "No guidelines have been written yet.");
  return shown([make("form", { method: "dialog" }, make("h2", { id: "ask-title" }, version ? `Guidelines, version ${version}` : "Guidelines"), body, ending(close()))]);
}

/** Which key does what. */
export function showHelp(task) {
  const rows = keyTable(task).map(([keys, words]) => make("tr", {}, make("th", { scope: "row" }, keys.flatMap((one, i) => (i ? [" ", make("kbd", {}, one)] : [make("kbd", {}, one)]))), make("td", {}, words)));
  return shown([make("form", { method: "dialog" }, make("h2", { id: "ask-title" }, "Keys"), make("table", { class: "keys" }, make("tbody", {}, rows)), ending(close()))]);
}
