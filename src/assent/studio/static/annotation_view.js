// The controls of each mode: the row of ranks, the scale between two answers, the cells under an answer. They show a
// state and tell of presses; what a press means is decided in annotation.js.
import { key, make, pressable } from "./dom.js";
import { HIGHEST, ranksOf, rating, STRONGEST, wordsFor } from "./annotation.js";

const ORDINALS = new Intl.PluralRules("en", { type: "ordinal" });
const ENDINGS = { one: "st", two: "nd", few: "rd", other: "th" };
const LEANING = ["a tie", "slightly better", "better", "much better"];
const SHORT = ["tie", "slightly", "better", "much"];
export const ordinal = (number) => `${number}${ENDINGS[ORDINALS.select(number)]}`;

/** What a strength says, as a sentence. */
export function strengthWords(value) {
  if (value === null) return "Not decided yet";
  if (value === 0) return "A tie";
  return `Answer ${value < 0 ? 1 : 2} is ${LEANING[Math.abs(value)]}`;
}

function group(name, ...children) { return make("div", { class: "annotation", role: "group", "aria-label": name }, ...children); }

export class RankingView {
  constructor(presentation, on) {
    this.presentation = presentation;
    this.on = on;
    this.node = group("Ranking, best first");
  }

  extras() { return null; }

  update({ annotation }, item) {
    const focused = this.node.contains(document.activeElement) ? document.activeElement.dataset.chip : null;
    const names = Object.keys(annotation.rows);
    this.node.replaceChildren(...names.map((name) => this.row(name, annotation, names.length > 1)));
    if (focused) (this.node.querySelector(`[data-chip="${focused}"]`) ?? this.node.querySelector("button"))?.focus();
    const ranks = ranksOf(annotation.rows[annotation.row], this.presentation.shown.length);
    ranks.forEach((rank, slot) => {
      const level = rank && ranks.filter((one) => one === rank).length > 1;
      item.setRank(slot, rank ? `${level ? "level " : ""}${ordinal(rank)}` : "", rank);
    });
  }

  row(name, annotation, several) {
    const groups = annotation.rows[name], current = name === annotation.row;
    const placed = groups.flat();
    const open = this.presentation.shown.map((_, slot) => slot).filter((slot) => !placed.includes(slot));
    const label = several
      ? pressable({ class: "row-name", "aria-current": current ? "true" : null, onclick: () => this.on("choose", name) }, wordsFor(name))
      : make("span", { class: "row-name" }, "Best first");
    return make("div", { class: current && several ? "row current" : "row", role: "group", "aria-label": several ? wordsFor(name) : null }, label,
      make("ol", { class: "groups", "aria-label": "Placed, best first" }, groups.map((slots, rank) => make("li", { "aria-label": ordinal(rank + 1) },
        slots.map((slot, i) => [i ? make("span", { class: "level", "aria-hidden": "true" }, "=") : null, this.chip(name, slot, true)]),
        annotation.tie && current && rank === groups.length - 1 ? make("span", { class: "level waiting" }, "= …") : null))),
      open.length ? make("div", { class: "unplaced", role: "group", "aria-label": "Not placed yet" }, open.map((slot) => this.chip(name, slot, false))) : null,
      pressable({ class: "button slim tie", "aria-pressed": String(current && annotation.tie), "aria-label": "Level: tie", onclick: () => this.on("tie", name) }, "=", make("span", { class: "wide" }, " tie")));
  }

  chip(name, slot, placed) {
    return pressable({
      class: placed ? "chip" : "chip open", "data-chip": `${name}-${slot}`,
      "aria-label": placed ? `Answer ${slot + 1}, take out. Arrow keys move it.` : `ExperimentContext answer ${slot + 1}`,
      onclick: () => this.on("place", slot, name),
      onkeydown: (event) => {
        const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (!by || !placed) return;
        event.preventDefault();
        event.stopPropagation();
        this.on("move", slot, by);
      },
    }, String(slot + 1));
  }
}

export class PairwiseView {
  constructor(presentation, on) {
    this.presentation = presentation;
    this.rows = new Map();
    const names = ["overall", ...presentation.criteria];
    this.node = group("Which is better", ...names.map((name) => this.row(name, on, names.length > 1)));
  }

  extras() { return null; }

  row(name, on, several) {
    const radios = [];
    for (let value = -STRONGEST; value <= STRONGEST; value += 1) {
      radios.push(make("label", { class: value === 0 ? "step even" : "step", title: strengthWords(value) },
        make("input", { type: "radio", name: `strength-${name}`, value, onchange: () => on("strength", value, name) }),
        make("span", {}, make("span", { class: "unseen" }, strengthWords(value)), make("span", { "aria-hidden": "true", class: "worded" }, SHORT[Math.abs(value)]), make("span", { "aria-hidden": "true", class: "dotted" }, value === 0 ? "=" : "•".repeat(Math.abs(value))))));
    }
    const readout = make("p", { class: "readout" });
    const node = make("fieldset", { class: "row scale" }, make("legend", { class: several ? "row-name" : "unseen" }, several ? wordsFor(name) : "Which is better?"),
      make("div", { class: "steps" }, make("span", { class: "end", "aria-hidden": "true" }, "1"), radios, make("span", { class: "end", "aria-hidden": "true" }, "2")), readout);
    this.rows.set(name, { node, readout, radios: radios.map((label) => label.querySelector("input")) });
    return node;
  }

  update({ annotation }, item) {
    for (const [name, { node, readout, radios }] of this.rows) {
      const value = annotation.rows[name];
      node.classList.toggle("current", this.rows.size > 1 && name === annotation.row);
      readout.textContent = strengthWords(value);
      readout.classList.toggle("muted", value === null);
      for (const radio of radios) radio.checked = value !== null && Number(radio.value) === value;
    }
    const value = annotation.rows[annotation.row];
    [0, 1].forEach((slot) => {
      const side = slot ? value : -value;
      item.setRank(slot, value === 0 ? "tie" : value !== null && side > 0 ? LEANING[side] : "", value !== null && side > 0 ? 1 : 0);
    });
  }
}

export class RatingView {
  constructor(presentation, on) {
    this.presentation = presentation;
    this.on = on;
    this.cells = new Map();
    this.node = group("Ratings", make("p", { class: "readout muted" }));
  }

  extras(slot) {
    return this.presentation.criteria.map((name) => {
      const radios = Array.from({ length: HIGHEST }, (_, i) => make("label", { class: "step" },
        make("input", { type: "radio", name: `rating-${slot}-${name}`, value: i + 1, onchange: () => this.on("rate", slot, name, i + 1), onfocus: () => this.on("aim", slot, name) }),
        make("span", {}, String(i + 1))));
      const node = make("fieldset", { class: "cell" }, make("legend", {}, wordsFor(name)), make("div", { class: "steps" }, radios));
      this.cells.set(`${slot}-${name}`, { node, radios: radios.map((label) => label.querySelector("input")) });
      return node;
    });
  }

  update({ annotation }) {
    const here = rating.at(annotation, this.presentation);
    for (const [id, { node, radios }] of this.cells) {
      const [slot, ...rest] = id.split("-");
      const value = annotation.rows[rest.join("-")][Number(slot)];
      node.classList.toggle("current", Number(slot) === here.slot && rest.join("-") === here.name);
      for (const radio of radios) radio.checked = Number(radio.value) === value;
    }
    this.node.firstChild.textContent = `Answer ${here.slot + 1} · ${wordsFor(here.name)}: 1 is poor, ${HIGHEST} is excellent`;
  }

  show({ annotation }) {
    const { slot, name } = rating.at(annotation, this.presentation);
    this.cells.get(`${slot}-${name}`).node.scrollIntoView({ block: "nearest" });
  }
}

export class GoodBadView {
  constructor(presentation, on) {
    this.on = on;
    this.cells = [];
    this.node = group("Good or bad");
    this.node.hidden = true;
  }

  extras(slot) {
    const choice = (value, words, letter) => make("label", { class: `step ${value === true ? "yes" : value === false ? "no" : "unsure"}` },
      make("input", { type: "radio", name: `good-${slot}`, onchange: () => this.on("annotate", slot, value) }), make("span", {}, words, key(letter)));
    const radios = [choice(true, "Good", "g"), choice(false, "Bad", "b"), choice(null, "Can’t say", "c")];
    const reason = make("textarea", { rows: "1", maxlength: "2000", "aria-label": `Reason for answer ${slot + 1}`, placeholder: "Reason (r)", dir: "auto", oninput: () => this.on("reason_text", slot, reason.value) });
    this.cells[slot] = { radios: radios.map((label) => label.querySelector("input")), reason };
    return [make("fieldset", { class: "cell" }, make("legend", { class: "unseen" }, `Answer ${slot + 1}: good or bad?`), make("div", { class: "steps words" }, radios)), reason];
  }

  update({ annotation }, item) {
    this.cells.forEach(({ radios, reason }, slot) => {
      const value = annotation.good[slot];
      [true, false, null].forEach((one, i) => { radios[i].checked = value === one; });
      if (reason.value !== annotation.reasons[slot]) reason.value = annotation.reasons[slot];
      item.setRank(slot, value === true ? "good" : value === false ? "bad" : value === null ? "can’t say" : "", value === true ? 1 : value === false ? -1 : 0);
    });
  }

  focusReason(slot) { this.cells[slot].reason.focus(); }
}

class WritingOnlyView {
  constructor() {
    this.node = group("Writing");
    this.node.hidden = true;
  }

  extras() { return null; }

  update() {}
}

export const VIEWS = { ranking: RankingView, pairwise: PairwiseView, rating: RatingView, good_bad: GoodBadView, demonstration: WritingOnlyView };
