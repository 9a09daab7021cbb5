// Word differences of two texts: Myers' O(ND) walk over words, with a bound on the work.
import { make } from "./dom.js";
import { visible } from "./text.js";

const WORDS = /\s+|[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]|[\p{L}\p{N}\p{M}_'’]+|[^\s]/gu;
const MOST_EDITS = 1200;  // beyond that the texts have little in common and a whole replacement reads better

function wordsOf(text) { return text.match(WORDS) ?? []; }

/** Runs of {kind: "same" | "cut" | "new", text} that turn `before` into `after`. */
export function differences(before, after) {
  const a = wordsOf(before), b = wordsOf(after);
  let start = 0, endA = a.length, endB = b.length;
  while (start < endA && start < endB && a[start] === b[start]) start += 1;
  while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) { endA -= 1; endB -= 1; }
  const runs = [];
  add(runs, "same", a.slice(0, start));
  for (const [kind, words] of middle(a.slice(start, endA), b.slice(start, endB))) add(runs, kind, words);
  add(runs, "same", a.slice(endA));
  return runs;
}

function add(runs, kind, words) {
  if (!words.length) return;
  const last = runs[runs.length - 1];
  if (last?.kind === kind) last.text += words.join("");
  else runs.push({ kind, text: words.join("") });
}

function middle(a, b) {
  if (!a.length || !b.length) return [["cut", a], ["new", b]];
  const trail = walk(a, b);
  if (!trail) return [["cut", a], ["new", b]];
  const steps = [];
  let x = a.length, y = b.length;
  for (let edits = trail.length - 1; edits >= 0; edits -= 1) {
    const furthest = trail[edits], diagonal = x - y;
    const down = diagonal === -edits || (diagonal !== edits && at(furthest, diagonal - 1) < at(furthest, diagonal + 1));
    const previous = down ? diagonal + 1 : diagonal - 1;
    const fromX = edits ? at(furthest, previous) : 0, fromY = edits ? fromX - previous : 0;
    while (x > fromX && y > fromY) { steps.push(["same", [a[x - 1]]]); x -= 1; y -= 1; }
    if (!edits) break;
    if (down) steps.push(["new", [b[y - 1]]]); else steps.push(["cut", [a[x - 1]]]);
    x = fromX;
    y = fromY;
  }
  return tidy(steps.reverse());
}

/** Snapshot of the furthest x by diagonal, stored with an offset of `reach`. */
const at = ({ furthest, reach }, diagonal) => furthest[diagonal + reach];

function walk(a, b) {
  const most = Math.min(a.length + b.length, MOST_EDITS);
  const now = { furthest: new Int32Array(2 * most + 3).fill(-1), reach: most + 1 };
  const trail = [];
  now.furthest[now.reach + 1] = 0;
  for (let edits = 0; edits <= most; edits += 1) {
    const reach = edits + 1;
    trail.push({ furthest: now.furthest.slice(now.reach - reach, now.reach + reach + 1), reach });
    for (let diagonal = -edits; diagonal <= edits; diagonal += 2) {
      const down = diagonal === -edits || (diagonal !== edits && at(now, diagonal - 1) < at(now, diagonal + 1));
      let x = down ? at(now, diagonal + 1) : at(now, diagonal - 1) + 1;
      let y = x - diagonal;
      while (x < a.length && y < b.length && a[x] === b[y]) { x += 1; y += 1; }
      now.furthest[diagonal + now.reach] = x;
      if (x >= a.length && y >= b.length) return trail;
    }
  }
  return null;
}

/** A lone space between two changes belongs to them; then all cuts of a change stand before all that is new. */
function tidy(steps) {
  const tidied = [];
  let cut = [], fresh = [];
  const flush = () => {
    if (cut.length) tidied.push(["cut", cut]);
    if (fresh.length) tidied.push(["new", fresh]);
    cut = [];
    fresh = [];
  };
  steps.forEach(([kind, words], i) => {
    const between = kind === "same" && words[0].trim() === "" && (cut.length || fresh.length) && i + 1 < steps.length && steps[i + 1][0] !== "same";
    if (kind === "cut" || between) cut.push(...words);
    if (kind === "new" || between) fresh.push(...words);
    if (kind === "same" && !between) { flush(); tidied.push([kind, words]); }
  });
  flush();
  return tidied;
}

/** Both texts in one: what was cut struck out, what is new underlined. */
export function inlineDifference(before, after) {
  const tags = { same: "span", cut: "del", new: "ins" };
  return differences(before, after).map(({ kind, text }) => make(tags[kind], {}, ...visible(text)));
}

/** One text with the words marked that the other lacks. */
export function marked(text, other) {
  return differences(other, text).filter(({ kind }) => kind !== "cut")
    .map(({ kind, text: words }) => make(kind === "new" ? "mark" : "span", {}, ...visible(words)));
}

/** How many words a correction cut and added. */
export function editSize(before, after) {
  const size = { cut: 0, new: 0 };
  for (const { kind, text } of differences(before, after)) if (kind !== "same") size[kind] += wordsOf(text).filter((word) => word.trim()).length;
  return size;
}
