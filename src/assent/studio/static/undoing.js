// Taking back: first what is decided on the screen, then what was sent, however long ago. History is kept by the server.
import { freshKey } from "./dom.js";
import { get, send, Unreachable } from "./net.js";
import { PHASES } from "./outbox.js";

const TRIES = 4, PAUSE_MS = 500;

/** Where each old slot of `before` stands in `now`; equal texts are matched in order. */
export function slotsBetween(before, now) {
  const free = now.shown.map(({ text }) => text);
  return before.shown.map(({ text }) => {
    const to = free.indexOf(text);
    if (to >= 0) free[to] = null;
    return to;
  });
}

async function undoOnServer(seq) {
  const key = freshKey();
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await send("POST", `/api/answers/${seq}/undo`, { key });
    } catch (problem) {
      if (!problem.passing || attempt === TRIES) throw problem;
      await new Promise((resolve) => { setTimeout(resolve, PAUSE_MS * attempt); });
    }
  }
}

/** What was sent from this page, newest last, and the way back. */
export class Sent {
  constructor(projectId, outbox, queue) {
    Object.assign(this, { projectId, outbox, queue, stack: [], undone: new Set() });
    outbox.addEventListener("saved", ({ detail }) => {
      const found = this.stack.find((one) => one.key === detail.entry.key);
      if (found) found.seq = detail.answer.seq;
    });
    outbox.addEventListener("refused", ({ detail }) => { this.stack = this.stack.filter((one) => one.key !== detail.entry.key); });
  }

  push(record) { this.stack.push(record); }

  /** Takes back the newest answer. Resolves with {item, working} (working null where only the server knew it), or null
   * if there is nothing left to take back. Throws Refused or Unreachable; the answer then stands. */
  async takeBack() {
    const last = this.stack.at(-1);
    if (!last) return this.takeBackOlder();
    if (await this.outbox.withdraw(last.key)) {
      this.stack.pop();
      this.queue.bringBack(last.item);
      return { item: last.item, working: last.working };
    }
    if (last.seq === undefined && this.outbox.phase === PHASES.waiting) throw new Unreachable();  // it may have arrived
    if (last.seq === undefined) await this.outbox.settled(last.key);
    if (last.seq === undefined) return { item: null, working: null };  // refused in the meantime
    await undoOnServer(last.seq);
    this.undone.add(last.seq);
    this.stack.pop();
    const item = await this.queue.refetch(last.item.id);
    return { item, working: item ? { ...last.working, slots: slotsBetween(last.item, item) } : null };
  }

  async takeBackOlder() {
    const mine = await get(`/api/projects/${this.projectId}/mine?limit=200`);
    const newest = mine.find((event) => !event.undone && event.kind !== "undo" && !this.undone.has(event.seq));
    if (!newest) return null;
    await undoOnServer(newest.seq);
    this.undone.add(newest.seq);
    return { item: await this.queue.refetch(newest.presentation_id), working: null };
  }
}
