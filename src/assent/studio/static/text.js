// Plain text as nodes, with characters spelt out that would otherwise hide or reorder what is read.

const NAMES = {
  0x00ad: "soft hyphen", 0x061c: "Arabic letter mark", 0x200b: "zero-width space", 0x200c: "zero-width non-joiner",
  0x200d: "zero-width joiner", 0x200e: "left-to-right mark", 0x200f: "right-to-left mark", 0x2028: "line separator",
  0x2029: "paragraph separator", 0x202a: "left-to-right embedding", 0x202b: "right-to-left embedding",
  0x202c: "end of direction", 0x202d: "left-to-right override", 0x202e: "right-to-left override", 0x2060: "word joiner",
  0x2066: "left-to-right isolate", 0x2067: "right-to-left isolate", 0x2068: "first strong isolate",
  0x2069: "end of isolate", 0xfeff: "byte order mark",
};
// Controls, fillers, direction marks, zero-width characters, variation selectors that no font shows, tag characters.
const UNSEEN = new RegExp(
  "[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f" +
  "\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufe00-\\ufe0d\\ufeff\\uffa0\\ufff0-\\ufffb\\u{1d173}-\\u{1d17a}\\u{e0000}-\\u{e0fff}]", "gu");
const JOINED_SCRIPTS = new RegExp(
  "[\\p{Script=Arabic}\\p{Script=Syriac}\\p{Script=Devanagari}\\p{Script=Bengali}\\p{Script=Gurmukhi}\\p{Script=Gujarati}" +
  "\\p{Script=Oriya}\\p{Script=Tamil}\\p{Script=Telugu}\\p{Script=Kannada}\\p{Script=Malayalam}\\p{Script=Sinhala}" +
  "\\p{Script=Khmer}\\p{Script=Myanmar}\\p{Script=Mongolian}]", "u");
const EMOJI = /^(?:\p{Extended_Pictographic}|\p{Emoji_Modifier}|\ufe0f)/u;

/** The last whole character; a pattern that ends in $ misses characters of two units in some engines. */
function lastOf(text) { return [...text].at(-1) ?? ""; }

function belongs(text, at, character) {
  if (character !== "\u200c" && character !== "\u200d") return false;
  const before = text.slice(Math.max(0, at - 2), at), after = text.slice(at + 1, at + 3);
  if (character === "\u200d" && EMOJI.test(lastOf(before)) && EMOJI.test(after)) return true;
  return JOINED_SCRIPTS.test(before.slice(-1)) && JOINED_SCRIPTS.test(after.slice(0, 1));
}

function sign(character, times) {
  const code = character.codePointAt(0);
  const number = `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
  const made = document.createElement("span");
  made.className = "sign";
  made.title = `hidden character: ${NAMES[code] ?? number}`;
  made.textContent = times > 1 ? `${number} ×${times}` : number;
  return made;
}

/** `text` as an array of text nodes and signs; line ends become \n. */
export function visible(text) {
  const source = text.replaceAll("\r\n", "\n");
  const nodes = [];
  let from = 0, last = null;
  for (const found of source.matchAll(UNSEEN)) {
    const character = found[0], at = found.index;
    if (belongs(source, at, character)) continue;
    if (at > from) nodes.push(document.createTextNode(source.slice(from, at)));
    if (last && last.character === character && at === from) {
      last.times += 1;
      nodes[nodes.length - 1] = sign(character, last.times);
    } else {
      last = { character, times: 1 };
      nodes.push(sign(character, 1));
    }
    from = at + character.length;
  }
  if (from < source.length) nodes.push(document.createTextNode(source.slice(from)));
  return nodes;
}

/** How many characters of `text` are spelt out rather than shown. */
export function hiddenCharacters(text) {
  let found = 0;
  for (const one of text.replaceAll("\r\n", "\n").matchAll(UNSEEN)) if (!belongs(text, one.index, one[0])) found += 1;
  return found;
}
