// What each key, button and touch does to the desk. Everything comes through `act`.
import { byId, make } from "./dom.js";
import { say } from "./item_view.js";
import { CRITERION_WORDS, rating } from "./annotation.js";
import { askFlag, askSkip, showHelp } from "./label_dialogs.js";
import { storable } from "./writing_view.js";

const WITHOUT_ITEM = ["undo", "guide", "help", "raw"], UNDER_COVER = ["reveal", "skip", "flag", "focus"];

export class Actions {
  constructor(desk) {
    this.desk = desk;
    this.busy = false;
  }

  /** Does what `name` says; false if it means nothing here, so that the key keeps the browser's meaning. */
  act(name, ...rest) {
    if (this.busy) return true;
    const does = this[`on_${name}`];
    if (!does || (!this.desk.item && !WITHOUT_ITEM.includes(name))) return false;
    if (this.desk.item && this.desk.view.covered && ![...WITHOUT_ITEM, ...UNDER_COVER].includes(name)) {
      if (name === "close") return false;
      say("This item is covered. Show it or skip it.");
      return true;
    }
    return does.call(this, ...rest) ?? true;
  }

  on_send() { this.desk.send(); }

  on_digit(digit) {
    if (this.desk.modeName === "rating") {
      this.desk.decide(rating.rate(this.desk.working.annotation, digit, this.desk.item), rating.at(this.desk.working.annotation, this.desk.item).slot);
      this.desk.controls.show(this.desk.working);
      return true;
    }
    if (digit > this.desk.item.shown.length) return false;
    if (this.desk.modeName === "good_bad") this.goTo(digit - 1);
    else return this.on_place(digit - 1);
    return true;
  }

  on_place(slot, row = null) {
    if (!this.desk.mode.place) return false;
    const annotation = row ? this.desk.mode.choose(this.desk.working.annotation, row) : this.desk.working.annotation;
    this.desk.decide(this.desk.mode.place(annotation, slot, this.desk.item), slot);
    return true;
  }

  on_tie(row = null) {
    if (!this.desk.mode.tie) return false;
    const annotation = row ? this.desk.mode.choose(this.desk.working.annotation, row) : this.desk.working.annotation;
    this.desk.decide(this.desk.mode.tie(annotation, this.desk.item));
    return true;
  }

  on_push_left() { return this.push(-1); }

  on_push_right() { return this.push(1); }

  push(by) {
    if (!this.desk.mode.push) return false;
    this.desk.decide(this.desk.mode.push(this.desk.working.annotation, by));
    return true;
  }

  on_strength(value, row) { this.desk.decide(this.desk.mode.set(this.desk.working.annotation, value, row)); }

  on_choose(row) { this.desk.set({ annotation: this.desk.mode.choose(this.desk.working.annotation, row) }); }

  on_move(slot, by) { this.desk.decide(this.desk.mode.move(this.desk.working.annotation, slot, by)); }

  on_back() {
    if (!this.desk.mode.back) return false;
    this.desk.decide(this.desk.mode.back(this.desk.working.annotation, this.desk.item));
    return true;
  }

  on_rate(slot, name, value) {
    const aimed = rating.aim(this.desk.working.annotation, slot, name, this.desk.item);
    this.desk.decide(rating.set(aimed, slot, name, value), slot);
  }

  on_aim(slot, name) {
    const aimed = rating.aim(this.desk.working.annotation, slot, name, this.desk.item);
    if (aimed.cell !== this.desk.working.annotation.cell) this.desk.set({ annotation: aimed, focus: slot });
  }

  on_annotate(slot, value) { this.desk.decide(this.desk.mode.annotate(this.desk.working.annotation, slot, value), slot); }

  on_good() { return this.annotateHere(true); }

  on_bad() { return this.annotateHere(false); }

  on_cannot_say() { return this.annotateHere(null); }

  annotateHere(value) {
    if (this.desk.modeName !== "good_bad") return false;
    const { annotation, focus } = this.desk.working;
    const slot = focus >= 0 ? focus : this.desk.mode.following(annotation, -1);
    const annotated = this.desk.mode.annotate(annotation, slot, value);
    this.desk.decide(annotated, slot);
    if (annotated.good[slot] === value) this.goTo(this.desk.mode.following(annotated, slot));
    return true;
  }

  on_reason() {
    if (this.desk.modeName !== "good_bad") return false;
    this.desk.controls.focusReason(Math.max(0, this.desk.working.focus));
    return true;
  }

  on_reason_text(slot, words) { this.desk.set({ annotation: this.desk.mode.reason(this.desk.working.annotation, slot, storable(words)) }); }

  on_left() { return this.walk(-1); }

  on_right() { return this.walk(1); }

  walk(by) {
    if (this.desk.modeName === "rating") return this.stepCell(by * this.desk.item.criteria.length);
    const size = this.desk.item.shown.length;
    if (!size) return false;
    this.goTo(this.desk.working.focus < 0 ? (by > 0 ? 0 : size - 1) : Math.max(0, Math.min(size - 1, this.desk.working.focus + by)));
    return true;
  }

  on_up() { return this.stepRow(-1); }

  on_down() { return this.stepRow(1); }

  stepRow(by) {
    if (this.desk.modeName === "rating") return this.stepCell(by);
    const rows = Object.keys(this.desk.working.annotation.rows ?? {});
    if (rows.length < 2) return false;
    const to = rows[rows.indexOf(this.desk.working.annotation.row) + by];
    if (to) this.on_choose(to);
    say(CRITERION_WORDS[to] ?? to ?? "");
    return true;
  }

  stepCell(by) {
    const annotation = rating.step(this.desk.working.annotation, by, this.desk.item);
    this.desk.set({ annotation, focus: rating.at(annotation, this.desk.item).slot });
    this.desk.controls.show(this.desk.working);
    return true;
  }

  goTo(slot) {
    this.desk.set({ focus: slot });
    this.desk.view.focus(slot, { move: true });
  }

  on_focus(slot) { if (slot !== this.desk.working.focus) this.desk.set({ focus: slot }); }

  on_edit(slot = Math.max(0, this.desk.working.focus)) {
    if (!this.desk.item.shown.length) return false;
    this.desk.set({ open: { what: "edit", slot }, focus: slot, best: false });
    const { area } = this.desk.correction.editor;
    area.focus();
    area.setSelectionRange(0, 0);
    return true;
  }

  on_edited(slot, text, startOver = false) {
    const edits = { ...this.desk.working.edits, [slot]: text };
    if (startOver) delete edits[slot];
    this.desk.set({ edits });
  }

  on_edited_best(best) { this.desk.set({ best }); }

  on_write() {
    if (this.desk.modeName !== "demonstration") this.desk.set({ open: { what: "write" } });
    this.desk.own.focus();
    this.desk.own.node.scrollIntoView({ block: "nearest" });
  }

  on_own_text(own) { this.desk.set({ own }); }

  on_close() {
    const typing = document.activeElement?.closest?.("textarea, input");
    if (this.desk.working.open && this.desk.modeName !== "demonstration") {
      const { open } = this.desk.working;
      this.desk.set({ open: null });
      if (open.what === "edit") this.goTo(open.slot); else byId("heading").focus();
    } else if (typing) { if (this.desk.working.focus >= 0) this.goTo(this.desk.working.focus); else byId("heading").focus(); }
    else if (this.desk.view.against !== null) this.on_difference();
    else if (this.desk.guide.open) this.desk.guide.toggle(false);
    else return false;
    return true;
  }

  on_difference() {
    if (this.desk.item.shown.length < 2) return false;
    const slot = Math.max(0, this.desk.working.focus);
    this.desk.view.compare(this.desk.view.against === null || (this.desk.view.against !== slot && this.desk.item.shown.length > 2) ? slot : null);
    say(this.desk.view.against === null ? "Differences are no longer marked." : "Differences are marked.");
    this.desk.update();
    return true;
  }

  on_raw() {
    this.desk.settings.setRaw(!this.desk.settings.raw);
    for (const { view } of this.desk.sheets.values()) if (view.raw !== this.desk.settings.raw) view.setRaw(this.desk.settings.raw);
    say(this.desk.settings.raw ? "Texts are shown as written." : "Texts are shown formatted.");
    if (this.desk.item) this.desk.update();
    return true;
  }

  on_unfold() { say(this.desk.view.unfoldAll() ? "Texts are shown in full." : "Long texts are folded."); }

  on_reveal() {
    if (!this.desk.view.covered) return false;
    this.desk.view.reveal();
    this.desk.view.settle();
    this.desk.update();
    if (this.desk.modeName === "demonstration") this.desk.own.focus(); else byId("heading").focus({ preventScroll: true });
    return true;
  }

  on_guide() { this.desk.guide.toggle(); return true; }

  on_help() { showHelp(this.desk.modeName); return true; }

  on_flag() {
    const { item } = this.desk;
    askFlag(item, this.desk.working.focus).then((given) => {
      if (given && this.desk.item === item) this.desk.dispatch("flag", { flag: given.choice, slot: given.slot, note: storable(given.note) });
    });
  }

  on_skip() {
    const { item } = this.desk;
    askSkip().then((given) => {
      if (given && this.desk.item === item) this.desk.dispatch("skip", { reason: given.choice, note: storable(given.note) });
    });
  }

  on_undo() {
    if (this.desk.item && this.desk.history.length) {
      this.desk.set({ annotation: this.desk.history.pop() });
      say("Undone.");
      return true;
    }
    this.takeBack();
    return true;
  }

  async takeBack() {
    this.busy = true;
    this.desk.keepDraft();
    byId("undo").disabled = true;
    const notice = byId("notice");
    notice.replaceChildren();
    try {
      const back = await this.desk.sent.takeBack();
      if (back?.item) {
        this.desk.sheets.delete(back.item.id);
        this.desk.show(back.item, back.working && this.desk.moved(back.working));
        say("The last answer is taken back.");
      } else notice.replaceChildren(make("p", { class: "notice" }, back === null ? "There is nothing left to undo." : "The answer is taken back; the item is with somebody else now."));
    } catch (problem) {
      notice.replaceChildren(make("p", { class: "notice warn" }, `Not undone: ${problem.message} The answer stands.`));
    } finally {
      this.busy = false;
      byId("undo").disabled = false;
      this.desk.prepare();
    }
  }
}
