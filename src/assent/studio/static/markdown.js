// A small, safe part of Markdown as DOM nodes: headings, lists, quotes, code, tables, emphasis. Links and images become
// plain text with their address visible. Work is linear in the text's length, whatever the text.
import { make } from "./dom.js";
import { visible } from "./text.js";

const DEEPEST = 6;
const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+|$)/;
const LINE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const MARKER = /^( {0,3})([-*+]|\d{1,9}[.)])( +|\t|$)/;
const QUOTE = /^ {0,3}> ?/;
const UNDER_TABLE = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const PUNCTUATION = /[!-/:-@[-`{-~]/;
const LONGEST_RULE = 400;

const short = (line) => line.length <= LONGEST_RULE;
const blank = (line) => line.trim() === "";
const isTable = (lines, at) => lines[at].includes("|") && at + 1 < lines.length && short(lines[at + 1])
  && lines[at + 1].includes("-") && UNDER_TABLE.test(lines[at + 1]) && lines[at + 1].includes("|");

function begins(line) {
  return FENCE.test(line) || HEADING.test(line) || QUOTE.test(line) || MARKER.test(line) || (short(line) && LINE.test(line));
}

/** `text` as a fragment. `headings` is the level of "#": 0 shows headings as bold lines without a level. */
export function markdown(text, { headings = 0 } = {}) {
  const fragment = document.createDocumentFragment();
  blocks(text.replaceAll("\r\n", "\n").split("\n"), fragment, 0, headings);
  return fragment;
}

function blocks(lines, parent, depth, headings) {
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    if (blank(line)) at += 1;
    else if (FENCE.test(line)) at = fence(lines, at, parent);
    else if (HEADING.test(line)) { parent.append(heading(line, headings)); at += 1; }
    else if (short(line) && LINE.test(line)) { parent.append(make("hr")); at += 1; }
    else if (depth < DEEPEST && QUOTE.test(line)) at = quote(lines, at, parent, depth, headings);
    else if (depth < DEEPEST && MARKER.test(line)) at = list(lines, at, parent, depth, headings);
    else if (isTable(lines, at)) at = table(lines, at, parent);
    else at = paragraph(lines, at, parent);
  }
}

function fence(lines, at, parent) {
  const [, mark, language] = FENCE.exec(lines[at]);
  const inside = [];
  let next = at + 1;
  for (; next < lines.length; next += 1) {
    const closing = lines[next].trim();
    if (closing.length >= mark.length && closing === mark[0].repeat(closing.length)) break;
    inside.push(lines[next]);
  }
  parent.append(make("pre", { class: "code", tabindex: "0", "aria-label": "Code" },
    language.trim() ? make("span", { class: "language" }, ...visible(language.trim().slice(0, 40))) : null,
    make("code", { dir: "ltr" }, ...visible(inside.join("\n")))));
  return next + 1;
}

function heading(line, headings) {
  const level = HEADING.exec(line)[1].length;
  let words = line.trim().slice(level).trim();
  while (words.endsWith("#")) words = words.slice(0, -1);
  const made = headings ? make(`h${Math.min(6, headings + level - 1)}`) : make("p", { class: `heading heading-${Math.min(level, 4)}` });
  inline(words.trim(), made);
  return made;
}

function quote(lines, at, parent, depth, headings) {
  const inside = [];
  let next = at;
  for (; next < lines.length; next += 1) {
    if (QUOTE.test(lines[next])) inside.push(lines[next].replace(QUOTE, ""));
    else if (blank(lines[next]) || begins(lines[next])) break;
    else inside.push(lines[next]);
  }
  const made = make("blockquote");
  blocks(inside, made, depth + 1, headings);
  parent.append(made);
  return next;
}

function indentOf(line) { return line.length - line.trimStart().length; }

function list(lines, at, parent, depth, headings) {
  const first = MARKER.exec(lines[at]);
  const ordered = /\d/.test(first[2]);
  const made = make(ordered ? "ol" : "ul");
  if (ordered) made.start = Number.parseInt(first[2], 10);
  let next = at;
  while (next < lines.length) {
    const found = MARKER.exec(lines[next]);
    if (!found || /\d/.test(found[2]) !== ordered || (short(lines[next]) && LINE.test(lines[next]))) break;
    const offset = found[1].length + found[2].length + 1;
    const inside = [lines[next].slice(found[0].length)];
    for (next += 1; next < lines.length; next += 1) {
      const line = lines[next];
      if (blank(line)) {
        if (next + 1 < lines.length && !blank(lines[next + 1]) && indentOf(lines[next + 1]) >= Math.min(offset, 2)) inside.push("");
        else break;
      } else if (indentOf(line) >= Math.min(offset, 2)) inside.push(line.slice(Math.min(indentOf(line), offset)));
      else if (begins(line)) break;
      else inside.push(line);
    }
    const item = make("li");
    if (inside.length === 1) inline(inside[0], item);
    else blocks(inside, item, depth + 1, headings);
    made.append(item);
    if (next < lines.length && blank(lines[next]) && next + 1 < lines.length && MARKER.test(lines[next + 1])) next += 1;
  }
  parent.append(made);
  return next;
}

function cells(line) {
  return line.trim().replace(/^\|/, "").replace(/\|$/, "").split("|").map((cell) => cell.trim());
}

function table(lines, at, parent) {
  const row = (line, tag) => make("tr", {}, ...cells(line).map((cell) => {
    const made = make(tag);
    inline(cell, made);
    return made;
  }));
  const body = [];
  let next = at + 2;
  for (; next < lines.length && !blank(lines[next]) && lines[next].includes("|"); next += 1) body.push(row(lines[next], "td"));
  parent.append(make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Table" },
    make("table", {}, make("thead", {}, row(lines[at], "th")), make("tbody", {}, ...body))));
  return next;
}

function paragraph(lines, at, parent) {
  const inside = [lines[at]];
  let next = at + 1;
  for (; next < lines.length && !blank(lines[next]) && !begins(lines[next]) && !isTable(lines, next); next += 1) inside.push(lines[next]);
  const made = make("p");
  inline(inside.join("\n"), made);
  parent.append(made);
  return next;
}

// Inline: a stack of open emphasis; what never closes goes back to being the characters it was.
const TAGS = { "**": "strong", __: "strong", "*": "em", _: "em", "~~": "del" };
const MOST_OPEN = 24, LONGEST_LABEL = 500, LONGEST_ADDRESS = 2000;

function inline(text, parent) {
  const stack = [{ node: parent, mark: null }];
  const unclosed = new Set();  // lengths of backtick runs known to have no partner further on
  let plain = "", at = 0;
  const top = () => stack[stack.length - 1];
  const flush = () => { if (plain) top().node.append(...visible(plain)); plain = ""; };
  const unravel = () => {
    const { node, mark } = stack.pop();
    top().node.append(mark, ...node.childNodes);
  };
  while (at < text.length) {
    const character = text[at];
    if (character === "\\" && at + 1 < text.length && PUNCTUATION.test(text[at + 1])) { plain += text[at + 1]; at += 2; continue; }
    if (character === "`") {
      const run = runOf(text, at);
      const end = unclosed.has(run) ? -1 : closingRun(text, at + run, run);
      if (end < 0) { unclosed.add(run); plain += "`".repeat(run); at += run; continue; }
      flush();
      top().node.append(make("code", { dir: "auto" }, ...visible(text.slice(at + run, end).replace(/^ (.*) $/s, "$1"))));
      at = end + run;
      continue;
    }
    if (character === "[" || (character === "!" && text[at + 1] === "[")) {
      const found = link(text, character === "!" ? at + 1 : at);
      if (found) {
        flush();
        top().node.append(...visible(character === "!" ? `[image: ${found.label}]` : found.label),
          make("span", { class: "address", dir: "ltr" }, " (", ...visible(found.address), ")"));
        at = found.end;
        continue;
      }
    }
    const mark = markAt(text, at, stack);
    if (!mark) { plain += character; at += 1; continue; }
    const before = text[at - 1] ?? " ", after = text[at + mark.length] ?? " ";
    const open = stack.findLastIndex((one) => one.mark === mark);
    const inWord = mark.includes("_") && /[\p{L}\p{N}]/u.test(before) && /[\p{L}\p{N}]/u.test(after);
    flush();
    if (open > 0 && !/\s/.test(before) && !inWord) {
      while (stack.length - 1 > open) unravel();
      const closed = stack.pop();
      top().node.append(closed.node);
    } else if (!/\s/.test(after) && !inWord && stack.length < MOST_OPEN) {
      stack.push({ node: make(TAGS[mark]), mark });
    } else plain += mark;
    at += mark.length;
  }
  flush();
  while (stack.length > 1) unravel();
}

function runOf(text, at) {
  let end = at;
  while (text[end] === text[at]) end += 1;
  return end - at;
}

function closingRun(text, from, length) {
  for (let at = text.indexOf("`", from); at >= 0;) {
    const run = runOf(text, at);
    if (run === length) return at;
    at = text.indexOf("`", at + run);
  }
  return -1;
}

function markAt(text, at, stack) {
  const two = text.slice(at, at + 2), one = text[at];
  const innermost = stack[stack.length - 1].mark;
  if (innermost === one && (one === "*" || one === "_") && text[at + 2] === one) return one;  // ***: the inner one closes first
  if (two in TAGS) return two;
  return one in TAGS ? one : null;
}

function link(text, at) {
  const middle = text.slice(at, at + LONGEST_LABEL).indexOf("](");
  if (middle < 0) return null;
  const label = text.slice(at + 1, at + middle);
  if (label.includes("[")) return null;
  const from = at + middle + 2;
  const length = text.slice(from, from + LONGEST_ADDRESS).indexOf(")");
  if (length < 0) return null;
  return { label, address: text.slice(from, from + length), end: from + length + 1 };
}
