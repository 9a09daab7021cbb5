// Rest: asks the server now and then how the last hour went, and passes its one calm sentence on.
import { byId, make, pressable } from "./dom.js";
import { get } from "./net.js";

const EVERY_ANSWERS = 5, QUIET_MS = 10 * 60_000;

export class Rest {
  constructor(projectId, outbox) {
    this.projectId = projectId;
    this.answers = 0;
    this.quietUntil = 0;
    outbox.addEventListener("saved", () => {
      this.answers += 1;
      if (this.answers % EVERY_ANSWERS === 0) this.look();
    });
  }

  async look() {
    if (performance.now() < this.quietUntil) return;
    let hint = null;
    try {
      ({ hint } = await get(`/api/projects/${this.projectId}/fatigue`));
    } catch {
      return;  // nothing depends on it
    }
    if (!hint) return;
    this.quietUntil = performance.now() + QUIET_MS;
    byId("notice").replaceChildren(make("p", { class: "notice rest" }, make("span", {}, hint),
      pressable({ class: "button quiet slim", onclick: () => byId("notice").replaceChildren() }, "Thanks")));
  }
}
