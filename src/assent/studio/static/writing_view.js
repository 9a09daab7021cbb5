// Writing: correcting an answer with the changes shown as one types, or writing the answer oneself.
import { key, make, pressable } from "./dom.js";
import { editSize, inlineDifference } from "./diff.js";
import { said } from "./item_view.js";

const DIFFERENCE_PAUSE_MS = 120;

/** The text as it can be kept: no NUL, no half of a character. */
export function storable(text) { return text.replaceAll("\0", "").toWellFormed(); }

function area(label, value, onInput) {
  return make("textarea", { "aria-label": label, dir: "auto", spellcheck: "true", maxlength: "200000", rows: "6", oninput: onInput }, value);
}

/** An editor over one answer. `ranks` words say what else the correction records. */
export class CorrectionEditor {
  constructor({ slot, original, text, best, canChooseBest, on }) {
    this.original = original;
    this.area = area(`Your correction of answer ${slot + 1}`, text, () => {
      on("edited", slot, this.area.value);
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.showDifference(), DIFFERENCE_PAUSE_MS);
    });
    this.area.value = text;
    this.changes = make("div", { class: "changes said raw", dir: "auto" });
    this.size = make("p", { class: "hint" });
    this.best = make("input", { type: "checkbox", onchange: () => on("edited_best", this.best.checked) });
    this.best.checked = best;
    this.records = make("p", { class: "hint" });
    this.node = make("div", { class: "editor" }, this.area, make("h4", { class: "eyebrow" }, "Changes"), this.changes, this.size,
      canChooseBest ? make("label", { class: "choice" }, this.best, make("span", {}, "Even unedited, this is the best of those shown")) : null,
      this.records,
      make("div", { class: "toolbar" },
        pressable({ class: "button primary", onclick: () => on("send") }, "Send correction", key("Ctrl"), key("↵")),
        pressable({ class: "button quiet", onclick: () => on("edited", slot, original, true) }, "Start over"),
        pressable({ class: "button quiet", onclick: () => on("close") }, "Leave", key("Esc"))));
    this.showDifference();
  }

  showDifference() {
    const changed = this.area.value !== this.original;
    this.changes.replaceChildren(...(changed ? inlineDifference(this.original, this.area.value) : [make("span", { class: "muted" }, "None yet.")]));
    const size = editSize(this.original, this.area.value);
    this.size.textContent = changed ? `${size.cut} ${size.cut === 1 ? "word" : "words"} cut, ${size.new} added` : "";
  }

  setText(text) {
    if (this.area.value === text) return;
    this.area.value = text;
    this.showDifference();
  }

  setRecords(words) { this.records.textContent = words; }
}

/** The answer written by hand, with a look at how it will read. */
export class OwnAnswer {
  constructor({ text, alone, on }) {
    this.area = area("Your answer", text, () => { on("own_text", this.area.value); this.count(); });
    this.area.value = text;
    this.words = make("p", { class: "hint" });
    this.preview = make("div", { class: "preview", hidden: true });
    const look = pressable({ class: "button quiet slim", "aria-pressed": "false", onclick: () => {
      const shown = this.preview.hidden;
      this.preview.replaceChildren(said(this.area.value));
      this.preview.hidden = !shown;
      this.area.hidden = shown;
      look.setAttribute("aria-pressed", String(shown));
    } }, "Preview");
    this.node = make("section", { class: "own", "aria-labelledby": "own-name" },
      make("header", {}, make("h2", { class: "eyebrow", id: "own-name" }, "Your answer"), look),
      this.area, this.preview, this.words,
      alone ? null : make("div", { class: "toolbar" },
        pressable({ class: "button primary", onclick: () => on("send") }, "Send your answer", key("Ctrl"), key("↵")),
        pressable({ class: "button quiet", onclick: () => on("close") }, "Leave", key("Esc"))));
    this.count();
  }

  count() {
    const words = this.area.value.split(/\s+/).filter(Boolean).length;
    this.words.textContent = words ? `${words.toLocaleString("en")} ${words === 1 ? "word" : "words"}` : "Markdown is understood.";
  }

  focus() {
    if (this.area.hidden) this.node.querySelector("[aria-pressed=true]").click();
    this.area.focus();
  }
}
