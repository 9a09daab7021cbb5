// The outbox: every answer lies on this device until the server has said that it is on the server's disk. Answers are
// sent one at a time in order, again and again with growing pauses; the key in each makes sending twice harmless.
import { Refused, send } from "./net.js";
import { openShelf } from "./shelf.js";

const FIRST_PAUSE_MS = 400, LONGEST_PAUSE_MS = 30_000, SEND_TIMEOUT_MS = 15_000;
export const PHASES = { idle: "idle", sending: "sending", waiting: "waiting", signedOut: "signed_out" };

/** Events: "change" (phase or count), "saved" {entry, answer}, "refused" {entry, problem}. */
export class Outbox extends EventTarget {
  constructor(shelf, personId) {
    super();
    this.shelf = shelf;
    this.personId = personId;
    this.entries = [];  // oldest first; those refused stay on the shelf, not here
    this.refused = [];
    this.phase = PHASES.idle;
    this.pause = FIRST_PAUSE_MS;
    this.busy = null;  // the key on its way
    this.timer = null;
  }

  /** With what an earlier page of the same person left behind. */
  static async open(personId) {
    const outbox = new Outbox(await openShelf(), personId);
    const left = (await outbox.shelf.all()).filter((entry) => entry.personId === personId);
    left.sort((a, b) => a.at - b.at);
    outbox.entries = left.filter((entry) => !entry.refusal);
    outbox.refused = left.filter((entry) => entry.refusal);
    window.addEventListener("online", () => outbox.hurry());
    document.addEventListener("visibilitychange", () => { if (!document.hidden) outbox.hurry(); });
    return outbox;
  }

  get waiting() { return this.entries.length; }

  has(presentationId) { return this.entries.some((entry) => entry.body.presentation_id === presentationId); }

  find(key) { return this.entries.find((entry) => entry.key === key) ?? null; }

  /** Takes an answer; resolves once it is safe on this device. Sending begins at once. */
  async add(entry) {
    const kept = { ...entry, personId: this.personId, at: Date.now() };
    this.entries.push(kept);
    this.set(this.phase === PHASES.idle ? PHASES.sending : this.phase);
    try {
      await this.shelf.put(kept);
    } finally {  // a full disk of the browser must not keep the answer from the server
      this.pump();
    }
  }

  /** Takes an answer back that has not left yet. False if it is on its way, sent, or may have arrived unheard. */
  async withdraw(key) {
    const entry = this.find(key);
    if (!entry || this.busy === key || entry.tried) return false;
    this.entries = this.entries.filter((one) => one.key !== key);
    await this.shelf.remove(key);
    this.set(this.waiting ? this.phase : PHASES.idle);
    return true;
  }

  /** Resolves with the answer of the server once `key` has been saved, null if it was refused. */
  settled(key) {
    if (!this.find(key)) return Promise.resolve(null);
    return new Promise((resolve) => {
      const done = (event) => {
        if (event.detail.entry.key !== key) return;
        this.removeEventListener("saved", done);
        this.removeEventListener("refused", done);
        resolve(event.type === "saved" ? event.detail.answer : null);
      };
      this.addEventListener("saved", done);
      this.addEventListener("refused", done);
    });
  }

  /** Tries now rather than after the pause. */
  hurry() {
    this.pause = FIRST_PAUSE_MS;
    this.pump();
  }

  async forget(key) {
    this.refused = this.refused.filter((one) => one.key !== key);
    await this.shelf.remove(key);
    this.set(this.phase);
  }

  async pump() {
    if (this.busy) return;
    clearTimeout(this.timer);
    const entry = this.entries[0];
    if (!entry) { this.set(PHASES.idle); return; }
    this.busy = entry.key;
    if (this.phase === PHASES.idle) this.set(PHASES.sending);
    let answer = null, problem = null;
    entry.tried = true;
    try {
      answer = await send("POST", "/api/answers", entry.body, { timeoutMs: SEND_TIMEOUT_MS });
    } catch (caught) {
      problem = caught;
    }
    this.busy = null;
    if (problem === null) await this.saved(entry, answer);
    else if (problem.passing || !(problem instanceof Refused)) this.later(problem);
    else if (problem.status === 401) this.set(PHASES.signedOut);
    else await this.refuse(entry, problem);
  }

  async saved(entry, answer) {
    this.entries = this.entries.filter((one) => one.key !== entry.key);
    this.pause = FIRST_PAUSE_MS;
    await this.shelf.remove(entry.key).catch(() => null);  // sent again after a reload, it would change nothing
    this.dispatchEvent(new CustomEvent("saved", { detail: { entry, answer } }));
    this.set(this.waiting ? PHASES.sending : PHASES.idle);
    this.pump();
  }

  async refuse(entry, problem) {
    const kept = { ...entry, refusal: { status: problem.status, what: problem.what, now: problem.now } };
    this.entries = this.entries.filter((one) => one.key !== entry.key);
    this.refused.push(kept);
    await this.shelf.put(kept).catch(() => null);
    this.dispatchEvent(new CustomEvent("refused", { detail: { entry: kept, problem } }));
    this.set(this.waiting ? PHASES.sending : PHASES.idle);
    this.pump();
  }

  later(problem) {
    this.set(PHASES.waiting);
    const pause = Math.max(this.pause, (problem.retryAfter ?? 0) * 1000);
    this.pause = Math.min(LONGEST_PAUSE_MS, this.pause * 2);
    this.timer = setTimeout(() => this.pump(), pause * (0.75 + Math.random() / 2));
  }

  set(phase) {
    this.phase = phase;
    this.dispatchEvent(new CustomEvent("change"));
  }
}
