// Drafts: what has been decided and written for an item, kept on this device until the answer is safe.

const PREFIX = "assent.draft.", OLDEST_MS = 7 * 86_400_000;

export class Drafts {
  constructor(personId) {
    this.prefix = `${PREFIX}${personId}.`;
    this.tidy();
  }

  read(presentationId) {
    try {
      return JSON.parse(localStorage.getItem(this.prefix + presentationId))?.state ?? null;
    } catch {
      return null;
    }
  }

  write(presentationId, state) {
    try {
      localStorage.setItem(this.prefix + presentationId, JSON.stringify({ at: Date.now(), state }));
    } catch {
      // No room or no storage: the draft lives as long as the page.
    }
  }

  remove(presentationId) {
    try { localStorage.removeItem(this.prefix + presentationId); } catch { /* no storage, no draft */ }
  }

  tidy() {
    try {
      for (const name of Object.keys(localStorage).filter((one) => one.startsWith(PREFIX))) {
        let at = 0;
        try { at = JSON.parse(localStorage.getItem(name)).at ?? 0; } catch { /* not ours to read: it goes */ }
        if (Date.now() - at > OLDEST_MS) localStorage.removeItem(name);
      }
    } catch {
      // No storage, nothing to tidy.
    }
  }
}
