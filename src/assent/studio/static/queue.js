// What comes next: items leased ahead of time, so that nothing has to be waited for between two answers.
import { get, send } from "./net.js";

const AHEAD = 3;  // the item on the screen and two behind it
const MOST_AT_ONCE = 5, RENEW_MS = 60_000;

export class Queue {
  constructor(projectId, outbox) {
    this.projectId = projectId;
    this.outbox = outbox;
    this.items = [];
    this.current = null;
    this.done = new Set();  // presentations answered from this page
    this.left = null;
    this.filling = null;
    setInterval(() => { if (!document.hidden) this.renew(); }, RENEW_MS);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.renew(); });
  }

  /** Fetches more where fewer than wanted are there; several callers share one request. Throws as `get` does. */
  fill() {
    this.filling ??= this.fetch().finally(() => { this.filling = null; });
    return this.filling;
  }

  async fetch() {
    const wanted = Math.min(MOST_AT_ONCE, AHEAD + this.outbox.waiting);
    const onTheirWay = this.outbox.waiting;  // the server does not know of these yet
    const { items, left } = await get(`/api/projects/${this.projectId}/next?count=${wanted}`);
    this.left = Math.max(0, left - onTheirWay);
    for (const item of items) if (!this.knows(item.id)) this.items.push(item);
  }

  knows(id) {
    return this.done.has(id) || this.current?.id === id || this.outbox.has(id) || this.items.some((item) => item.id === id);
  }

  get next() { return this.items[0] ?? null; }

  /** Makes the next item the current one and gives it; null if there is none at hand. */
  advance() {
    this.current = this.items.shift() ?? null;
    return this.current;
  }

  finish() {
    if (!this.current) return;
    this.done.add(this.current.id);
    if (this.left !== null) this.left = Math.max(0, this.left - 1);
  }

  /** Puts `item` on the screen's place and the current one behind it. */
  bringBack(item) {
    this.done.delete(item.id);
    this.items = this.items.filter((one) => one.id !== item.id);
    if (this.current && this.current.id !== item.id) this.items.unshift(this.current);
    this.current = item;
    if (this.left !== null) this.left += 1;
  }

  /** After an undo the server shows the same again; resolves with it, or null if it is not asked any more. */
  async refetch(presentationId) {
    const { items, left } = await get(`/api/projects/${this.projectId}/next?count=${MOST_AT_ONCE}`);
    const found = items.find((item) => item.id === presentationId) ?? null;
    if (found) this.bringBack(found);
    this.left = left;
    return found;
  }

  async renew() {
    const leased = [this.current, ...this.items].filter(Boolean);
    const held = await Promise.all(leased.map((item) =>
      send("POST", `/api/presentations/${item.id}/renew`).then((answer) => answer?.renewed !== false, (problem) => problem.passing === true)));
    leased.forEach((item, i) => {
      if (!held[i] && item !== this.current) this.items = this.items.filter((one) => one !== item);
    });
  }

  /** Gives back what has not been looked at. */
  releaseAll() {
    const leased = [this.current, ...this.items].filter(Boolean);
    return Promise.allSettled(leased.map((item) => send("POST", `/api/presentations/${item.id}/release`, undefined, { keepalive: true })));
  }
}
