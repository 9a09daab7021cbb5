// From key presses to actions, and the same table as words for the help.

const LETTERS = { u: "undo", s: "skip", n: "finish", r: "rate", v: "reveal", i: "guide", "?": "help", h: "help", w: "write" };
const CHOICES = { 1: "a", 2: "b", "=": "tie", 0: "both_bad" };
const TEXT_FIELDS = "textarea, select, input:not([type=radio])";

function plainKey({ key, code }) {
  const small = key.toLowerCase();
  if (key.length === 1 && /^Digit\d$/.test(code ?? "") && !/[\d=?]/.test(key)) return code.slice(5);  // shifted digit rows
  if (key.length === 1 && key.charCodeAt(0) > 127 && /^Key[A-Z]$/.test(code ?? "")) return code.slice(3).toLowerCase();
  return small;
}

/** {name, choice?} for a key press, or null where the key belongs to the browser or to a text field. */
export function actionOf(event) {
  if (event.isComposing || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return null;
  const target = event.target instanceof Element ? event.target : document.body;
  if (target.closest("dialog")) return null;
  if (event.key === "Escape") return { name: "leave" };
  if (target.closest(TEXT_FIELDS)) return event.key === "Enter" && !event.shiftKey && target.id === "words" ? { name: "send" } : null;
  const pressed = plainKey(event);
  if (pressed in CHOICES) return { name: "annotate", choice: CHOICES[pressed] };
  return pressed in LETTERS ? { name: LETTERS[pressed] } : null;
}

const WRITING = [[["Enter"], "send your message"], [["Shift", "Enter"], "a new line in it"], [["w"], "back to your message"], [["Esc"], "leave your message; stop what is being written"]];
const ENDING = [[["u"], "take back the last annotation: its answers wait again"], [["n"], "finish this talk and begin the next"], [["s"], "skip it, before anything is annotated"]];
const ALWAYS = [[["i"], "guidelines"], [["?"], "this help"]];

/** Rows of [keys, words]. */
export function keyTable({ mode, compare }) {
  if (mode === "red_team") return [...WRITING, [["r"], "rate how far the talk got, 0 to 10"], [["s"], "skip it"], [["v"], "show what is covered"], ...ALWAYS];
  const annotating = compare
    ? [[["1"], "answer A is better"], [["2"], "answer B is better"], [["="], "as good as each other"], [["0"], "both are bad"]]
    : [[["1"], "the answer is good"], [["0"], "the answer is bad"]];
  return [...annotating, ...WRITING, ...ENDING, [["v"], "show what is covered"], ...ALWAYS];
}
