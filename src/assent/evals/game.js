"use strict";
const LINES = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]];
const SQUARES = "abcdefghi";
const data = JSON.parse(document.getElementById("data").textContent);
const place = new Map();
for (let start = 0; start < data.boards.length; start += 9) place.set(data.boards.slice(start, start + 9), start);
const policies = data.policies.map(one => ({
  iteration: one.iteration,
  bytes: Uint8Array.from(atob(one.packed), letter => letter.charCodeAt(0)),
}));
const $ = id => document.getElementById(id);
let game = {};

const toMove = board => board.split("X").length === board.split("O").length ? "X" : "O";
const lineOf = board => LINES.find(([a, b, c]) => board[a] !== "." && board[a] === board[b] && board[b] === board[c]);
const isOver = board => lineOf(board) !== undefined || !board.includes(".");
const free = board => [...board].flatMap((mark, square) => mark === "." ? [square] : []);
const moved = (board, square) => board.slice(0, square) + toMove(board) + board.slice(square + 1);
const values = new Map();
function value(board) {
  if (isOver(board)) return lineOf(board) ? -1 : 0;
  if (!values.has(board)) values.set(board, Math.max(...free(board).map(square => -value(moved(board, square)))));
  return values.get(board);
}
const policy = () => policies[Number($("policy").value)];
const probabilities = board => Array.from(policy().bytes.slice(place.get(board), place.get(board) + 9), one => one / 255);
const chosen = name => document.querySelector(`input[name="${name}"]:checked`).value;
const shownState = board => [0, 3, 6].map(first => [0, 1, 2].map(step => {
  const square = first + step;
  return (board[square] === "." ? "" : board[square]) + SQUARES[square];
}).join(" ")).join("\n");

function draw(weights) {
  let left = Math.random();
  for (let square = 0; square < 9; square++) if ((left -= weights[square]) < 0) return square;
  return -1;  // it wrote something that is no square
}

function answer() {
  const weights = probabilities(game.board), open = free(game.board);
  const best = weights.indexOf(Math.max(...weights));
  const square = chosen("choice") === "best" ? best : draw(weights);
  game.last = square < 0 ? "" : `It took ${SQUARES[square]}, to which it gave ${Math.round(100 * weights[square])} %. `;
  game.text.push(`State\n${shownState(game.board)}\n\nAction\n${square < 0 ? "(no square)" : SQUARES[square]}`);
  if (open.includes(square)) game.board = moved(game.board, square);
  else game.failed = true;
}

function turn() {
  if (!over() && toMove(game.board) !== game.you) answer();
  show();
}

const over = () => game.failed || isOver(game.board);

function reward() {
  if (game.failed) return -1;
  const line = lineOf(game.board);
  return line === undefined ? 0 : game.board[line[0]] === game.you ? -1 : 1;
}

function status() {
  if (game.failed) return "You win: the policy named no free square.";
  if (!isOver(game.board)) return `Your move: you are ${game.you}.`;
  return ["You win.", "A draw.", "The policy wins."][reward() + 1];
}

function remark() {
  if (over()) return game.last;
  const outcome = value(game.board) * (toMove(game.board) === game.you ? 1 : -1);
  const told = ["the policy wins", "it is a draw", "you win"][outcome + 1];
  return `${game.last}If both play perfectly from here, ${told}.` + ($("shown").checked
    ? " The bars show what the policy would do in your place." : "");
}

function show() {
  const line = lineOf(game.board) || [], weights = over() ? [] : probabilities(game.board);
  [...$("board").children].forEach((button, square) => {
    const mark = game.board[square], open = mark === "." && !over();
    const percent = open && $("shown").checked ? Math.round(100 * weights[square]) : null;
    button.className = (mark === "." ? "" : mark) + (line.includes(square) ? " won" : "");
    button.setAttribute("aria-disabled", String(!open));
    button.setAttribute("aria-label", `${SQUARES[square]}: ${mark === "." ? "free" : mark}`
      + (percent === null ? "" : `, ${percent} per cent`));
    const [letter, bar, label, sign] = button.children;
    letter.textContent = mark === "." ? SQUARES[square] : "";
    bar.style.height = percent === null ? "0" : `${percent}%`;
    label.textContent = percent === null ? "" : `${percent} %`;
    sign.textContent = mark === "." ? "" : mark;
  });
  $("status").textContent = status();
  $("remark").textContent = remark();
  const trained = policy().iteration;
  $("practice").textContent = trained ? `after ${trained} iterations of training` : "before training: it has only seen random games";
  $("transcript").textContent = [...game.text, ...(over() ? [`Reward\n${reward()}`] : [])].join("\n\n")
    || "The policy has not moved yet.";
}

function begin() {
  game = {board: ".........", you: chosen("side"), text: [], last: "", failed: false};
  turn();
}

for (let square = 0; square < 9; square++) {
  const button = document.createElement("button");
  button.type = "button";
  for (const tag of ["em", "i", "small", "span"]) button.append(document.createElement(tag));
  button.addEventListener("click", () => {
    if (over() || game.board[square] !== ".") return;
    game.board = moved(game.board, square);
    turn();
  });
  $("board").append(button);
}
$("again").addEventListener("click", begin);
$("shown").addEventListener("change", show);
$("policy").addEventListener("input", show);
$("policy").addEventListener("change", begin);
document.querySelectorAll("input[type=radio]").forEach(one => one.addEventListener("change", begin));
begin();
