// What an annotator has decided so far, mode by mode: plain values in, plain values out, no page. A slot is the place of an
// answer as shown, from 0. States are never changed in place, so that undo is a list of earlier ones.

export const STRONGEST = 3, HIGHEST = 7;
export const CRITERION_WORDS = { overall: "Overall", helpful: "Helpful", honest: "Honest", harmless: "Harmless" };
export const wordsFor = (name) => CRITERION_WORDS[name] ?? name.replaceAll("_", " ");

const withEntry = (record, name, value) => ({ ...record, [name]: value });
const emptyRows = (names, value) => Object.fromEntries(names.map((name) => [name, value]));

/** Completions into ranks, ties allowed; one row overall and one per criterion that is asked. */
export const ranking = {
  kind: "ranking",
  start: ({ criteria }) => ({ rows: emptyRows(["overall", ...criteria], []), row: "overall", tie: false }),
  complete: (state, { shown }) => unfinishedRow(state, shown) === null,
  missing(state, { shown }) {
    const row = unfinishedRow(state, shown);
    if (row === null) return "";
    const left = shown.map((_, slot) => slot).filter((slot) => !state.rows[row].flat().includes(slot));
    const which = left.map((slot) => slot + 1).join(", ");
    return `${row === "overall" ? "" : `${wordsFor(row)}: `}${left.length === 1 ? "answer" : "answers"} ${which} still to place`;
  },
  /** Puts `slot` behind those placed (or level with the last, after "="); a placed one is taken out again. */
  place(state, slot, { shown }) {
    const groups = state.rows[state.row];
    if (groups.flat().includes(slot)) {
      const without = groups.map((group) => group.filter((one) => one !== slot)).filter((group) => group.length);
      return { ...state, rows: withEntry(state.rows, state.row, without), tie: false };
    }
    const placed = state.tie && groups.length
      ? [...groups.slice(0, -1), [...groups[groups.length - 1], slot]]
      : [...groups, [slot]];
    const rows = withEntry(state.rows, state.row, placed);
    const done = placed.flat().length === shown.length;
    return { ...state, rows, tie: false, row: done ? unfinishedRow({ rows }, shown) ?? state.row : state.row };
  },
  /** "=": the next is level with the last; when all are placed, the last two groups become one; with none placed, all tie. */
  tie(state, { shown }) {
    const groups = state.rows[state.row];
    const rowsWith = (changed) => withEntry(state.rows, state.row, changed);
    if (!groups.length) {
      const rows = rowsWith([shown.map((_, slot) => slot)]);
      return { ...state, rows, row: unfinishedRow({ rows }, shown) ?? state.row };
    }
    if (groups.flat().length < shown.length) return { ...state, tie: !state.tie };
    if (groups.length < 2) return state;
    return { ...state, rows: rowsWith([...groups.slice(0, -2), [...groups.at(-2), ...groups.at(-1)]]) };
  },
  /** Takes out the last that was placed. */
  back(state) {
    const groups = state.rows[state.row];
    if (!groups.length) return state;
    const last = groups.at(-1).slice(0, -1);
    return { ...state, tie: false, rows: withEntry(state.rows, state.row, last.length ? [...groups.slice(0, -1), last] : groups.slice(0, -1)) };
  },
  /** Moves a placed answer one rank up (-1) or down (1): first level with its neighbour, then past it. */
  move(state, slot, by) {
    const groups = state.rows[state.row].map((group) => [...group]);
    const at = groups.findIndex((group) => group.includes(slot));
    if (at < 0) return state;
    if (groups[at].length > 1) {
      groups[at] = groups[at].filter((one) => one !== slot);
      groups.splice(by < 0 ? at : at + 1, 0, [slot]);
    } else {
      const to = at + by;
      if (to < 0 || to >= groups.length) return state;
      groups[to] = [...groups[to], slot];
      groups.splice(at, 1);
    }
    return { ...state, tie: false, rows: withEntry(state.rows, state.row, groups) };
  },
  choose: (state, row) => (row in state.rows ? { ...state, row, tie: false } : state),
  payload(state, { shown, criteria }) {
    const ranks = ranksOf(state.rows.overall, shown.length);
    if (!criteria.length) return { ranks };
    return { ranks, criteria: Object.fromEntries(criteria.map((name) => [name, ranksOf(state.rows[name], shown.length)])) };
  },
  /** The same annotation after the answers were shuffled anew; `slots[old]` is the new slot. */
  moved: (state, slots) => ({
    ...state, rows: Object.fromEntries(Object.entries(state.rows).map(([name, groups]) => [name, groups.map((group) => group.map((slot) => slots[slot]))])),
  }),
};

function unfinishedRow({ rows }, shown) {
  return Object.keys(rows).find((name) => rows[name].flat().length < shown.length) ?? null;
}

/** Ranks by slot, 1 the best, dense; 0 where not placed. */
export function ranksOf(groups, size) {
  const ranks = Array(size).fill(0);
  groups.forEach((group, rank) => group.forEach((slot) => { ranks[slot] = rank + 1; }));
  return ranks;
}

/** Two completions and a strength from -3 (the first, much) to 3 (the second, much); null: not decided. */
export const pairwise = {
  kind: "pairwise",
  start: ({ criteria }) => ({ rows: emptyRows(["overall", ...criteria], null), row: "overall" }),
  complete: (state) => undecidedRow(state) === null,
  missing(state) {
    const row = undecidedRow(state);
    if (row === null) return "";
    return row === "overall" ? "which of the two is better?" : `${wordsFor(row)}: which of the two is better?`;
  },
  set: (state, value, row = state.row) => ({ ...state, row, rows: withEntry(state.rows, row, Math.max(-STRONGEST, Math.min(STRONGEST, value))) }),
  push(state, by) { return pairwise.set(state, (state.rows[state.row] ?? 0) + by); },
  /** A digit: the first press prefers that answer slightly, each further one more strongly. */
  place(state, slot) {
    const value = state.rows[state.row] ?? 0, side = slot === 0 ? -1 : 1;
    if (slot > 1) return state;
    return pairwise.set(state, value * side > 0 ? value + side : side);
  },
  tie: (state) => pairwise.set(state, 0),
  back: (state) => ({ ...state, rows: withEntry(state.rows, state.row, null) }),
  choose: (state, row) => (row in state.rows ? { ...state, row } : state),
  /** The row that Enter goes on to, or null if the annotation is complete. */
  onward(state) {
    return state.rows[state.row] === null ? null : undecidedRow(state);
  },
  payload(state, { criteria }) {
    const strength = state.rows.overall;
    if (!criteria.length) return { strength };
    return { strength, criteria: Object.fromEntries(criteria.map((name) => [name, state.rows[name]])) };
  },
  moved(state, slots) {
    if (slots[0] === 0) return state;
    return { ...state, rows: Object.fromEntries(Object.entries(state.rows).map(([name, value]) => [name, value === null ? null : 0 - value])) };
  },
};

function undecidedRow({ rows }) { return Object.keys(rows).find((name) => rows[name] === null) ?? null; }

/** Each completion from 1 to 7 by each criterion; cells run answer by answer. */
export const rating = {
  kind: "rating",
  start: ({ shown, criteria }) => ({ rows: emptyRows(criteria, shown.map(() => null)), cell: 0 }),
  at: (state, { criteria }) => ({ slot: Math.floor(state.cell / criteria.length), name: criteria[state.cell % criteria.length] }),
  complete: (state) => Object.values(state.rows).every((row) => row.every((value) => value !== null)),
  missing(state, presentation) {
    const empty = emptyCell(state, presentation, 0);
    if (empty === null) return "";
    const { slot, name } = rating.at({ cell: empty }, presentation);
    return `answer ${slot + 1}, ${wordsFor(name)}: not rated yet`;
  },
  set(state, slot, name, value) {
    return { ...state, rows: withEntry(state.rows, name, state.rows[name].with(slot, value)) };
  },
  /** A digit: rates the current cell and goes on to the next. */
  rate(state, value, presentation) {
    if (value < 1 || value > HIGHEST) return state;
    const { slot, name } = rating.at(state, presentation);
    const rated = rating.set(state, slot, name, value);
    return { ...rated, cell: emptyCell(rated, presentation, state.cell + 1) ?? Math.min(state.cell + 1, cellCount(presentation) - 1) };
  },
  back(state, presentation) {
    const { slot, name } = rating.at(state, presentation);
    const cell = state.rows[name][slot] === null ? Math.max(0, state.cell - 1) : state.cell;
    const there = rating.at({ cell }, presentation);
    return { ...rating.set(state, there.slot, there.name, null), cell };
  },
  step: (state, by, presentation) => ({ ...state, cell: Math.max(0, Math.min(cellCount(presentation) - 1, state.cell + by)) }),
  aim: (state, slot, name, { criteria }) => ({ ...state, cell: slot * criteria.length + criteria.indexOf(name) }),
  payload: (state) => ({ ratings: state.rows }),
  moved: (state, slots) => ({ ...state, rows: Object.fromEntries(Object.entries(state.rows).map(([name, row]) => [name, reordered(row, slots)])) }),
};

const cellCount = ({ shown, criteria }) => shown.length * criteria.length;

/** The first cell without a rating, from `from` on and then from the beginning; null if there is none. */
function emptyCell(state, presentation, from) {
  const size = cellCount(presentation);
  for (let step = 0; step < size; step += 1) {
    const cell = (from + step) % size;
    const { slot, name } = rating.at({ cell }, presentation);
    if (state.rows[name][slot] === null) return cell;
  }
  return null;
}

function reordered(list, slots) {
  const moved = [...list];
  slots.forEach((to, from) => { moved[to] = list[from]; });
  return moved;
}

/** Each completion good (true), bad (false) or null where the annotator cannot say; "" is not annotated yet. */
export const goodBad = {
  kind: "good_bad",
  start: ({ shown }) => ({ good: shown.map(() => ""), reasons: shown.map(() => "") }),
  complete: (state) => state.good.every((value) => value !== "") && state.good.some((value) => value !== null),
  missing(state) {
    const open = state.good.flatMap((value, slot) => (value === "" ? [slot + 1] : []));
    if (open.length) return `${open.length === 1 ? "answer" : "answers"} ${open.join(", ")}: good or bad?`;
    return goodBad.complete(state) ? "" : "annotate at least one answer, or skip the item";
  },
  annotate: (state, slot, value) => ({ ...state, good: state.good.with(slot, state.good[slot] === value ? "" : value) }),
  reason: (state, slot, words) => ({ ...state, reasons: state.reasons.with(slot, words) }),
  /** The next answer after `slot` that is not annotated yet, or `slot`. */
  following(state, slot) {
    const order = state.good.map((_, i) => (slot + 1 + i) % state.good.length);
    return order.find((one) => state.good[one] === "") ?? slot;
  },
  payload: (state) => ({ good: state.good, reasons: state.reasons.map((words) => words.trim()) }),
  moved: (state, slots) => ({ good: reordered(state.good, slots), reasons: reordered(state.reasons, slots) }),
};

/** Nothing to compare: the answer is written by hand. */
export const demonstration = {
  kind: "demonstration",
  start: () => ({}),
  complete: () => false,
  missing: () => "write the answer first",
  payload: () => ({}),
  moved: (state) => state,
};

export const MODES = { ranking, pairwise, rating, good_bad: goodBad, demonstration };

/** Ranks for a correction: the annotator's own order where it is complete, else the corrected answer before all others. */
export function ranksForCorrection(mode, state, presentation, slot, isBest) {
  const { shown } = presentation;
  if (mode === "ranking" && state.rows.overall.flat().length === shown.length) return ranksOf(state.rows.overall, shown.length);
  if (mode === "pairwise" && state.rows.overall !== null) {
    const strength = state.rows.overall;
    return [strength <= 0 ? 1 : 2, strength >= 0 ? 1 : 2];
  }
  if (!isBest || shown.length < 2) return null;
  return shown.map((_, one) => (one === slot ? 1 : 2));
}
