// From key presses to actions, and the same table as words for the help.

const LETTERS = {
  e: "edit", w: "write", f: "flag", s: "skip", u: "undo", d: "difference", t: "raw", x: "unfold", v: "reveal", i: "guide",
  g: "good", b: "bad", c: "cannot_say", r: "reason", h: "help", "?": "help",
};
const MARKS = { "=": "tie", 0: "tie", "[": "push_left", ",": "push_left", "]": "push_right", ".": "push_right" };
const NAMED = {
  Enter: "send", Escape: "close", Backspace: "back", Delete: "back", ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down",
};
const TEXT_FIELDS = "textarea, select, input:not([type=radio]):not([type=checkbox])";

/** The key as on a Latin keyboard: other alphabets by the key's place, shifted digit rows by their digit. */
function plainKey(event) {
  const { key, code } = event;
  if (key.length !== 1) return key;
  const small = key.toLowerCase();
  if (small in LETTERS || key in MARKS || /\d/.test(key)) return small;
  if (/^Key[A-Z]$/.test(code ?? "") && key.charCodeAt(0) > 127) return code.slice(3).toLowerCase();
  if (/^Digit\d$/.test(code ?? "") && !event.shiftKey) return code.slice(5);
  return small;
}

/** {name, digit?} for a key press, or null where the key belongs to the browser or to a text field. */
export function actionOf(event, { singleKeys }) {
  if (event.isComposing || event.repeat && event.key === "Enter") return null;
  const command = event.ctrlKey || event.metaKey;
  if (event.key === "Enter" && command) return { name: "send" };
  if (event.key === "Escape") return { name: "close" };
  const target = event.target instanceof Element ? event.target : document.body;
  if ((command && !event.getModifierState("AltGraph")) || target.closest(TEXT_FIELDS) || target.closest("dialog")) return null;
  if (event.altKey && !event.getModifierState("AltGraph")) return null;
  const pressed = plainKey(event);
  if (pressed in NAMED) {
    if (pressed === "Enter" && target.closest("button, a, summary")) return null;
    if (target.closest(".menu, #guide")) return null;
    return { name: NAMED[pressed] };
  }
  if (!singleKeys) return null;
  if (/^[1-9]$/.test(pressed)) return { name: "digit", digit: Number(pressed) };
  if (pressed in MARKS) return { name: MARKS[pressed] };
  return pressed in LETTERS ? { name: LETTERS[pressed] } : null;
}

const OF_MODE = {
  ranking: [
    [["1", "–", "9"], "place an answer behind those already placed, best first; again: take it out"],
    [["="], "the next answer is level with the last; at the end: join the last two; at the start: all are level"],
    [["Backspace"], "take out the last one placed"],
  ],
  pairwise: [
    [["[", "]"], "lean one step to the first, to the second answer (also comma and full stop)"],
    [["1", "2"], "prefer that answer; again: more strongly"],
    [["="], "a tie (also 0)"],
    [["↑", "↓"], "go from one criterion to the next"],
  ],
  rating: [
    [["1", "–", "7"], "rate, and go on to the next"],
    [["↑", "↓"], "criterion before, after"],
    [["←", "→"], "answer before, after"],
    [["Backspace"], "take back a rating"],
  ],
  good_bad: [
    [["g", "b"], "good, bad, and go on to the next answer"],
    [["c"], "cannot say"],
    [["r"], "write the reason"],
    [["1", "–", "9"], "go to an answer"],
  ],
  demonstration: [],
};
const ALWAYS = [
  [["Enter"], "send, and on to the next item"],
  [["u"], "undo: step by step, then the answers already sent"],
  [["s"], "skip, with a reason"],
  [["f"], "flag something wrong"],
  [["w"], "write the answer yourself"],
  [["Esc"], "leave a text, close a panel"],
  [["Ctrl", "Enter"], "send from inside a text"],
  [["v"], "show sensitive content"],
  [["t"], "formatted or as written"],
  [["x"], "long texts in full or folded"],
  [["i"], "guidelines"],
  [["?"], "this help"],
];
const WITH_ANSWERS = [
  [["←", "→"], "from answer to answer"],
  [["e"], "correct the answer you are at: your text is better than what it was"],
  [["d"], "mark the words in which the answers differ"],
];

/** Rows of [keys, words] for a mode, in the order in which they are learnt. */
export function keyTable(mode) {
  const own = OF_MODE[mode] ?? [];
  if (mode === "demonstration") return ALWAYS.filter(([keys]) => keys[0] !== "w");
  const walking = mode === "rating" ? WITH_ANSWERS.slice(1) : WITH_ANSWERS;
  return [...own, ALWAYS[0], ALWAYS[1], ...walking, ...ALWAYS.slice(2)];
}
