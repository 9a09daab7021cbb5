// The small questions between two answers: why to skip, what to flag, which key does what.
import { byId, key, make } from "./dom.js";
import { keyTable } from "./label_keys.js";

const FLAGS = [
  ["harmful", "Harmful", "dangerous, hateful or abusive"], ["private_data", "Private data", "names, addresses, numbers of real people"],
  ["broken", "Broken", "cut off, garbled, not a real task"], ["not_answerable", "Cannot be answered", "needs what nobody can know from here"],
  ["out_of_my_depth", "Out of my depth", "somebody with other knowledge should annotate this"],
];
const REASONS = [
  ["unclear", "Unclear", "I do not understand what is asked"], ["too_long", "Too long", "too much to read with care"],
  ["wrong_language", "Language", "not one that I read well"], ["no_opinion", "No opinion", "I cannot tell them apart"], ["other", "Something else", ""],
];

/** Asks for one of `choices` by digit or pointer; resolves with {choice, note, slot} or null. */
function ask({ title, intro, choices, confirm, places = [] }) {
  const dialog = byId("ask");
  return new Promise((resolve) => {
    const radios = choices.map(([value, words, more], i) => {
      const input = make("input", { type: "radio", name: "choice", value, required: true });
      return { input, label: make("label", { class: "choice" }, input, make("span", {}, make("strong", {}, words), more ? make("span", { class: "hint" }, ` ${more}`) : null), key(String(i + 1))) };
    });
    const note = make("textarea", { rows: "2", maxlength: "2000", id: "ask-note", dir: "auto" });
    const place = places.length ? make("select", { id: "ask-place" }, make("option", { value: "" }, "The whole item"), places.map((slot) => make("option", { value: slot.value, selected: slot.chosen }, slot.words))) : null;
    const form = make("form", { method: "dialog", class: "ask" }, make("h2", { id: "ask-title" }, title), intro ? make("p", { class: "hint" }, intro) : null,
      make("fieldset", {}, make("legend", { class: "unseen" }, title), radios.map(({ label }) => label)),
      place ? make("div", { class: "field" }, make("label", { for: "ask-place" }, "Where"), place) : null,
      make("div", { class: "field" }, make("label", { for: "ask-note" }, "Note ", make("span", { class: "hint" }, "(optional)")), note),
      make("div", { class: "dialog-end" }, make("button", { type: "button", class: "button quiet", onclick: () => dialog.close() }, "Cancel", key("Esc")),
        make("button", { type: "submit", class: "button primary" }, confirm, key("↵"))));
    let result = null;
    const accept = () => {
      const chosen = radios.find(({ input }) => input.checked);
      if (!chosen) { radios[0].input.focus(); return; }
      result = { choice: chosen.input.value, note: note.value, slot: place?.value ? Number(place.value) : null };
      dialog.close();
    };
    form.addEventListener("submit", (event) => { event.preventDefault(); accept(); });
    form.addEventListener("keydown", (event) => {
      const typing = event.target === note || event.target === place;
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey || (!typing && event.target.type === "radio"))) {
        event.preventDefault();
        event.stopPropagation();  // the dialog is gone before the key reaches the page, which would send as well
        accept();
        return;
      }
      const at = Number(event.key) - 1;
      if (typing || !(at in radios) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      radios[at].input.checked = true;
      radios[at].input.focus();
    });
    dialog.replaceChildren(form);
    dialog.addEventListener("close", () => resolve(result), { once: true });
    dialog.showModal();
    radios[0].input.focus();
  });
}

export function askFlag(presentation, focus) {
  const places = presentation.shown.map((_, slot) => ({ value: slot, words: `Answer ${slot + 1}`, chosen: slot === focus }));
  return ask({ title: "Flag this item", intro: "It goes to the people who run the project, and counts as your answer.", choices: FLAGS, confirm: "Flag and go on", places });
}

export function askSkip() {
  return ask({ title: "Skip this item", intro: "You will not be asked about it again.", choices: REASONS, confirm: "Skip" });
}

/** The help for a mode. */
export function showHelp(mode) {
  const dialog = byId("help");
  byId("keys").replaceChildren(...keyTable(mode).map(([keys, words]) =>
    make("div", {}, make("dt", {}, keys.map((one) => (one === "–" ? "–" : make("kbd", {}, one)))), make("dd", {}, words))));
  dialog.showModal();
  byId("help-title").focus();
}

/** Every dialog closes with Esc (the browser's own), its close buttons and a press beside it. */
export function closable() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => {
      if (event.target.closest("[data-close]")) dialog.close();
      else if (event.target === dialog) {
        const box = dialog.getBoundingClientRect();
        if (event.clientX < box.left || event.clientX > box.right || event.clientY < box.top || event.clientY > box.bottom) dialog.close();
      }
    });
  }
}
