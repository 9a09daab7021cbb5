// An item on the page: the prompt, the answers as cards, folding of long texts, differences, the cover over what may hurt.
import { byId, key, make, pressable } from "./dom.js";
import { marked } from "./diff.js";
import { markdown } from "./markdown.js";
import { hiddenCharacters, visible } from "./text.js";

const ROLE_WORDS = { system: "System", user: "Person", assistant: "Assistant", tool: "Tool" };
const FOLD_SLACK_PX = 120;

/** `text` as it is to be read: formatted, or exactly as written. */
export function said(text, { raw = false } = {}) {
  const made = make("div", { class: raw ? "said raw" : "said", dir: "auto" });
  if (text.trim() === "") made.append(make("p", { class: "nothing" }, text === "" ? "(no text)" : "(only blank space)"));
  else if (raw) made.append(...visible(text));
  else made.append(markdown(text));
  return made;
}

function hiddenBadge(text) {
  const found = hiddenCharacters(text);
  return found ? make("span", { class: "badge warn" }, `${found} hidden ${found === 1 ? "character" : "characters"}`) : null;
}

export class ItemView {
  /** `extras(slot)` gives the nodes a mode puts under an answer; `on` is called with an action's name and a slot. */
  constructor(presentation, { raw, covered, placing, extras, on }) {
    Object.assign(this, { presentation, raw, on, placing, against: null, folded: true });
    this.bodies = [];
    this.cards = [];
    this.folds = [];
    this.node = make("div", { class: "item", "data-count": presentation.shown.length, "data-mode": presentation.mode });
    this.content = make("div", { class: "content" }, this.prompt(), this.answers(extras));
    this.node.append(this.content);
    if (covered) this.cover();
  }

  prompt() {
    const messages = this.presentation.prompt;
    const single = messages.length === 1;
    return make("section", { class: single ? "prompt single" : "prompt", "aria-labelledby": "prompt-name" },
      make("h2", { class: "eyebrow", id: "prompt-name" }, single ? "Prompt" : "Conversation"),
      messages.map((message) => {
        const words = said(message.content, { raw: this.raw });
        this.bodies.push({ body: words, text: message.content });
        return make("div", { class: `turn ${message.role}` },
          single ? null : make("p", { class: "speaker" }, ROLE_WORDS[message.role] ?? message.role),
          this.foldable(words), hiddenBadge(message.content));
      }));
  }

  answers(extras) {
    const { shown } = this.presentation;
    if (!shown.length) return null;
    return make("section", { class: "answers", "aria-label": "Answers" },
      shown.map(({ text }, slot) => this.card(text, slot, extras)));
  }

  card(text, slot, extras) {
    const words = said(text, { raw: this.raw });
    this.bodies.push({ body: words, text, slot });
    const rank = make("span", { class: "rank", id: `rank-${slot}` });
    const name = `answer-${slot}`;
    const number = this.placing
      ? pressable({ class: "numeral", "aria-describedby": `rank-${slot}`, "aria-label": `Answer ${slot + 1}: place`, onclick: () => this.on("place", slot) }, String(slot + 1))
      : make("span", { class: "numeral" }, String(slot + 1));
    const edit = pressable({ class: "button quiet slim edit", "aria-label": `Edit answer ${slot + 1}`, onclick: () => this.on("edit", slot) }, "Edit");
    const card = make("article", { class: "answer", tabindex: "-1", "data-slot": slot, "aria-labelledby": name,
      onfocusin: () => this.on("focus", slot),
      onclick: (event) => { if (!event.target.closest("button, a, input, label, textarea, summary")) this.on("focus", slot); } },
      make("header", {}, make("h3", { id: name }, make("span", { class: "unseen" }, "Answer "), number), rank,
        hiddenBadge(text), make("span", { class: "note", id: `note-${slot}` }), edit),
      make("div", { class: "text" }, this.foldable(words)),
      make("div", { class: "extras" }, extras(slot)));
    this.cards.push({ card, rank, text: card.querySelector(".text"), note: card.querySelector(".note") });
    return card;
  }

  foldable(words) {
    const fold = make("div", { class: "fold" }, words);
    const more = pressable({ class: "button quiet slim more", hidden: true, "aria-expanded": "false", onclick: () => this.unfold(fold, fold.classList.contains("folded")) }, "Show all");
    this.folds.push({ fold, more });
    return [fold, more];
  }

  /** Measures what is too long; to be called once the view is in the page. */
  settle() {
    const tall = this.folds.map(({ fold }) => {
      fold.classList.add("folded");
      return fold.scrollHeight > fold.clientHeight + FOLD_SLACK_PX;
    });
    this.folds.forEach(({ fold, more }, i) => {
      fold.classList.toggle("folded", tall[i] && this.folded);
      more.hidden = !tall[i];
    });
    this.hasFolds = tall.some(Boolean);
  }

  unfold(fold, open) {
    const { more } = this.folds.find((one) => one.fold === fold);
    fold.classList.toggle("folded", !open);
    more.textContent = open ? "Show less" : "Show all";
    more.setAttribute("aria-expanded", String(open));
  }

  unfoldAll() {
    const open = this.folds.some(({ fold, more }) => !more.hidden && fold.classList.contains("folded"));
    this.folded = !open;
    for (const { fold, more } of this.folds) if (!more.hidden) this.unfold(fold, open);
    return open;
  }

  setRaw(raw) {
    this.raw = raw;
    this.rewrite();
  }

  /** Marks in each other answer what `slot` lacks; with two answers in both. null: no marks. */
  compare(slot) {
    this.against = slot;
    this.node.classList.toggle("comparing", slot !== null);
    this.rewrite();
  }

  rewrite() {
    const { shown } = this.presentation;
    for (const one of this.bodies) {
      let fresh = said(one.text, { raw: this.raw });
      if (this.against !== null && one.slot !== undefined) {
        const other = one.slot === this.against ? (shown.length === 2 ? 1 - one.slot : null) : this.against;
        fresh = make("div", { class: "said raw", dir: "auto" }, ...(other === null ? visible(one.text) : marked(one.text, shown[other].text)));
        this.cards[one.slot].note.textContent = other === null ? "the others are compared with this one" : `marked: not in ${other + 1}`;
      } else if (one.slot !== undefined) this.cards[one.slot].note.textContent = "";
      one.body.replaceWith(fresh);
      one.body = fresh;
    }
    this.settle();
  }

  get covered() { return this.content.inert; }

  cover() {
    const { topic } = this.presentation;
    this.content.inert = true;
    this.content.setAttribute("aria-hidden", "true");
    this.content.classList.add("blurred");
    this.lid = make("div", { class: "lid" },
      make("p", {}, "This item is marked as sensitive", topic ? make("span", {}, " (", make("bdi", {}, ...visible(topic)), ")") : null, ". It stays covered until you ask for it."),
      make("div", { class: "toolbar" },
        pressable({ class: "button", id: "reveal", onclick: () => this.on("reveal") }, "Show it", key("v")),
        pressable({ class: "button quiet", onclick: () => this.on("skip") }, "Skip it", key("s"))));
    this.node.prepend(this.lid);
  }

  reveal() {
    this.content.inert = false;
    this.content.removeAttribute("aria-hidden");
    this.content.classList.remove("blurred");
    this.lid?.remove();
  }

  /** Shows which answer is the current one; moves the keyboard's place there if asked. */
  focus(slot, { move = false } = {}) {
    this.cards.forEach(({ card }, i) => card.classList.toggle("current", i === slot));
    const card = this.cards[slot]?.card;
    if (!card || !move) return;
    card.focus({ preventScroll: true });
    card.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  }

  /** What stands beside an answer's number, and how far up it is: 1 the best, 0 not placed. */
  setRank(slot, words, rank) {
    const { card, rank: label } = this.cards[slot];
    label.textContent = words;
    card.dataset.rank = rank > 3 ? "3" : String(rank);
  }

  /** Puts an editor in the place of an answer's text, or the text back. */
  setEditor(slot, editor) {
    this.cards.forEach(({ card, text }, i) => {
      const here = i === slot && editor !== null;
      card.classList.toggle("editing", here);
      if (here && !text.contains(editor)) { text.classList.add("replaced"); text.append(editor); }
      if (!here) { text.classList.remove("replaced"); text.querySelector(".editor")?.remove(); }
    });
  }
}

/** Announces `words` to screen readers. */
export function say(words) { byId("say").textContent = words; }
