// The desk: the item on the screen, what is decided about it so far, and sending it. What keys and buttons do to it
// stands in actions.js.
import { Actions } from "./actions.js";
import { byId, count, freshKey, key as keyCap, make } from "./dom.js";
import { ItemView, say } from "./item_view.js";
import { VIEWS } from "./annotation_view.js";
import { MODES, ranksForCorrection } from "./annotation.js";
import { CorrectionEditor, OwnAnswer, storable } from "./writing_view.js";

const DRAFT_PAUSE_MS = 150, LONGEST_TIME_MS = 86_400_000, LOOK_AGAIN_MS = 20_000;
const TASKS = {
  ranking: (n) => `Put ${n} answers in order, best first`, pairwise: () => "Which of the two answers is better?",
  rating: (n) => `Rate ${n} answers from 1 to 7`, good_bad: (n) => (n === 1 ? "Good or bad?" : `Good or bad: ${n} answers`),
  demonstration: () => "Write the answer",
};

export class Desk {
  constructor({ project, outbox, queue, sent, drafts, settings, guide }) {
    Object.assign(this, { project, outbox, queue, sent, drafts, settings, guide });
    this.modeName = project.mode;
    this.mode = MODES[project.mode];
    this.item = null;
    this.sheets = new Map();
    this.history = [];
    this.actions = new Actions(this);
    document.addEventListener("visibilitychange", () => this.tick(document.hidden));
  }

  // ---- the item on the screen

  sheet(item) {
    const kept = this.sheets.get(item.id);
    if (kept) return kept;
    const controls = new VIEWS[this.modeName](item, (name, ...rest) => this.actions.act(name, ...rest));
    const view = new ItemView(item, {
      raw: this.settings.raw, covered: item.sensitive && this.settings.blur, placing: ["ranking", "pairwise"].includes(this.modeName),
      extras: (slot) => controls.extras(slot), on: (name, ...rest) => this.actions.act(name, ...rest),
    });
    const made = { controls, view };
    this.sheets.set(item.id, made);
    return made;
  }

  /** Builds the next item's nodes while the annotator reads this one. */
  prepare() {
    const { next } = this.queue;
    const idle = window.requestIdleCallback ?? ((work) => setTimeout(work, 50));
    if (next && !this.sheets.has(next.id)) idle(() => this.sheet(next));
  }

  /** Puts `item` on the screen, with `working` (what was decided before), its draft, or nothing decided. */
  show(item, working = null) {
    if (this.item) this.sheets.delete(this.item.id);
    this.item = item;
    this.history = [];
    const kept = working ?? this.drafts.read(item.id);
    const fresh = { annotation: this.mode.start(item), focus: -1, edits: {}, own: "", open: null, best: false, spentMs: 0 };
    this.working = { ...fresh, ...kept };
    if (this.modeName === "demonstration") this.working.open = { what: "write" };
    const { controls, view } = this.sheet(item);
    this.controls = controls;
    this.view = view;
    this.correction = this.own = null;
    byId("own").replaceChildren();
    byId("item").replaceChildren(view.node);
    byId("annotation").replaceChildren(controls.node);
    byId("bar").hidden = false;
    byId("heading").textContent = TASKS[this.modeName](item.shown.length);
    byId("left").textContent = this.queue.left === null ? "" : `${count(this.queue.left, "answer")} still needed from everybody`;
    view.settle();
    scrollTo({ top: 0, behavior: "instant" });
    this.since = document.hidden ? null : performance.now();
    this.update();
    if (!(this.working.open && this.modeName !== "demonstration")) byId("heading").focus({ preventScroll: true });
    if (this.modeName === "demonstration" && !view.covered) this.own.focus();
    this.guide.show(item.guideline_version, this.project.instructions).catch(() => null);
  }

  tick(hidden) {
    if (!this.item) return;
    if (this.since !== null) this.working.spentMs += performance.now() - this.since;
    this.since = hidden ? null : performance.now();
  }

  /** Takes up a changed state. `remember`: undo comes back to the one before. */
  set(changes, { remember = false } = {}) {
    if (remember) this.history.push(this.working.annotation);
    this.working = { ...this.working, ...changes };
    this.update();
    clearTimeout(this.draftTimer);
    this.draftTimer = setTimeout(() => this.keepDraft(), DRAFT_PAUSE_MS);
  }

  keepDraft() {
    if (!this.item || this.queue.done.has(this.item.id)) return;
    this.tick(document.hidden);
    this.drafts.write(this.item.id, this.working);
  }

  decide(annotation, focus = this.working.focus) {
    if (annotation === this.working.annotation) return;
    this.set({ annotation, focus }, { remember: true });
  }

  update() {
    const { working, view, item } = this;
    this.controls.update(working, view);
    view.focus(working.focus);
    this.updateWriting();
    const missing = this.submission().missing ?? "";
    byId("missing").textContent = missing;
    const send = byId("send");
    const goesOn = this.canGoOn(), typing = this.working.open !== null;
    send.setAttribute("aria-disabled", String(missing !== "" && !goesOn));
    send.replaceChildren(goesOn ? "Next" : this.working.open?.what === "edit" ? "Send correction" : "Send", typing ? keyCap("Ctrl") : "", keyCap("↵"));
    document.querySelector("[data-act=raw]").setAttribute("aria-pressed", String(view.raw));
    const difference = document.querySelector("[data-act=difference]");
    difference.hidden = item.shown.length < 2;
    difference.setAttribute("aria-pressed", String(view.against !== null));
    document.querySelector("[data-act=write]").hidden = this.modeName === "demonstration";
    byId("bar").classList.toggle("several", this.controls.node.querySelectorAll(".row").length > 1);
  }

  updateWriting() {
    const { open, edits, own, best } = this.working;
    const on = (name, ...rest) => this.actions.act(name, ...rest);
    if (open?.what === "edit") {
      const { slot } = open, original = this.item.shown[slot].text;
      if (this.correction?.slot !== slot) {
        const canChooseBest = this.item.shown.length > 1 && !this.ownRanks(slot);
        this.correction = { slot, editor: new CorrectionEditor({ slot, original, text: edits[slot] ?? original, best, canChooseBest, on }) };
      }
      this.correction.editor.setText(edits[slot] ?? original);
      this.correction.editor.setRecords(this.recordWords(slot));
      this.view.setEditor(slot, this.correction.editor.node);
    } else {
      this.correction = null;
      this.view.setEditor(-1, null);
    }
    if (open?.what === "write" && !this.own) {
      this.own = new OwnAnswer({ text: own, alone: this.modeName === "demonstration", on });
      byId("own").replaceChildren(this.own.node);
      if (this.modeName === "demonstration") byId("item").after(byId("own"));
    } else if (open?.what !== "write" && this.own) {
      this.own = null;
      byId("own").replaceChildren();
    }
  }

  ownRanks(slot) { return ranksForCorrection(this.modeName, this.working.annotation, this.item, slot, false); }

  recordWords(slot) {
    const ranks = ranksForCorrection(this.modeName, this.working.annotation, this.item, slot, this.working.best);
    if (!ranks) return this.item.shown.length > 1 ? "Records: your text is better than what it was." : "";
    const places = [...new Set(ranks)].sort().map((rank) => ranks.flatMap((one, i) => (one === rank ? [i + 1] : [])).join(" = "));
    return `Records: your text > ${places.join(" > ")}`;
  }

  // ---- sending

  /** {kind, payload} if something complete is on the screen, else {missing}: what is still to do. */
  submission() {
    const { open, edits, own, annotation, best } = this.working;
    if (this.view.covered) return { missing: "covered: show it or skip it" };
    if (open?.what === "edit") {
      const text = storable(edits[open.slot] ?? "");
      if (!text.trim() || text === this.item.shown[open.slot].text) return { missing: "change the text first" };
      const ranks = ranksForCorrection(this.modeName, annotation, this.item, open.slot, best);
      return { kind: "correction", payload: { slot: open.slot, text, ...(ranks ? { ranks } : {}) } };
    }
    if (open?.what === "write") {
      const text = storable(own);
      return text.trim() ? { kind: "demonstration", payload: { text } } : { missing: "write the answer first" };
    }
    if (!this.mode.complete(annotation, this.item)) return { missing: this.mode.missing(annotation, this.item) };
    return { kind: this.mode.kind, payload: this.mode.payload(annotation, this.item) };
  }

  canGoOn() { return !this.working.open && this.mode.onward?.(this.working.annotation) != null; }

  send() {
    if (this.canGoOn()) {
      this.set({ annotation: this.mode.choose(this.working.annotation, this.mode.onward(this.working.annotation)) });
      return;
    }
    const { kind, payload, missing } = this.submission();
    if (missing !== undefined) {
      say(`Not yet: ${missing}`);
      byId("missing").classList.remove("nudge");
      requestAnimationFrame(() => byId("missing").classList.add("nudge"));
      return;
    }
    this.dispatch(kind, payload);
  }

  /** Into the outbox, and on to the next item at once; what happens to the answer shows in the line on top. */
  dispatch(kind, payload) {
    const begun = performance.now(), { item } = this;
    this.tick(true);
    clearTimeout(this.draftTimer);
    const key = freshKey();
    const body = { key, presentation_id: item.id, kind, payload, time_taken_ms: Math.min(LONGEST_TIME_MS, Math.round(this.working.spentMs)) };
    this.sent.push({ key, item, working: this.working });
    this.queue.finish();
    this.outbox.add({ key, body }).then(() => this.drafts.remove(item.id), () => null);
    const next = this.queue.advance();
    if (next) this.show(next);
    else this.wait();
    performance.measure("assent:shown", { start: begun, end: performance.now() });
    requestAnimationFrame(() => setTimeout(() => performance.measure("assent:turn", { start: begun, end: performance.now() })));
    this.refill();
  }

  async refill() {
    try {
      await this.queue.fill();
    } catch (problem) {
      if (!this.item) this.wait(problem);
      return;
    }
    if (!this.item) {
      const next = this.queue.advance();
      if (next) this.show(next);
      else this.wait(null, true);
    }
    this.prepare();
  }

  /** Nothing at hand: fetching, no connection, or nothing left. Looks again by itself. */
  wait(problem = null, looked = false) {
    this.item = null;
    this.queue.current = null;
    byId("bar").hidden = true;
    byId("own").replaceChildren();
    byId("left").textContent = "";
    clearTimeout(this.waitTimer);
    this.waitTimer = setTimeout(() => { if (!this.item) this.refill(); }, problem ? LOOK_AGAIN_MS / 5 : looked ? LOOK_AGAIN_MS : 2000);
    const words = problem
      ? [make("h2", {}, problem.status ? "Not now" : "No connection"), make("p", {}, problem.message)]
      : looked
        ? [make("h2", {}, "Nothing left to annotate"), make("p", {}, "Everything here has an answer, or is with somebody else. This page looks again by itself."),
          make("p", { class: "toolbar" }, make("button", { type: "button", class: "button", onclick: () => this.actions.act("undo") }, "Undo the last answer"), make("a", { class: "button quiet", href: "/label" }, "Other projects"))]
        : [make("p", { class: "muted" }, "Fetching the next item …")];
    byId("item").replaceChildren(make("div", { class: "pause" }, words));
    if (looked) say("Nothing left to annotate.");
  }

  /** `working` turned to the new order of the answers; nothing decided where they are not the same. */
  moved({ slots, ...working }) {
    if (!slots) return working;
    if (slots.includes(-1) || slots.length !== this.queue.current.shown.length) return null;
    const edits = Object.fromEntries(Object.entries(working.edits).map(([slot, text]) => [slots[slot], text]));
    const open = working.open?.what === "edit" ? { what: "edit", slot: slots[working.open.slot] } : working.open;
    return { ...working, edits, open, focus: -1, annotation: this.mode.moved(working.annotation, slots) };
  }
}
