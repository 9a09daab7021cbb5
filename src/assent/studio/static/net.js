// Talking to the studio's own server: JSON in, JSON out, the CSRF header, and errors a person can read.

const DEFAULT_TIMEOUT_MS = 20_000;
let csrf = document.querySelector("meta[name=csrf]")?.content ?? "";

/** The server said no. `what`, `where` and `now` are its words; `retryAfter` in seconds where it named one. */
export class Refused extends Error {
  constructor(status, { what = "", where = "", now = "" } = {}, retryAfter = null) {
    super([what || `The server answered ${status}.`, now].filter(Boolean).join(" "));
    this.name = "Refused";
    this.status = status;
    this.what = what;
    this.where = where;
    this.now = now;
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may well succeed later. */
  get passing() { return this.status >= 500 || [408, 425, 429].includes(this.status); }
}

/** No answer came: offline, the server is down, or it took too long. */
export class Unreachable extends Error {
  constructor(cause) {
    super("The server cannot be reached. Check the connection; this page keeps trying.", { cause });
    this.name = "Unreachable";
  }

  get passing() { return true; }
}

async function body(response) {
  const kind = response.headers.get("content-type") ?? "";
  if (response.status === 204) return null;
  if (kind.includes("json")) return response.json();
  return response.text();
}

async function ask(method, url, content, { timeoutMs = DEFAULT_TIMEOUT_MS, keepalive = false } = {}) {
  const headers = { accept: "application/json" };
  const options = { method, headers, keepalive, credentials: "same-origin", redirect: "error", cache: "no-store" };
  if (method !== "GET") headers["x-csrf-token"] = csrf;
  if (content !== undefined) {
    const text = typeof content === "string";
    headers["content-type"] = text ? "application/x-ndjson" : "application/json";
    options.body = text ? content : JSON.stringify(content);
  }
  let response, answer;
  try {
    response = await fetch(url, { ...options, signal: AbortSignal.timeout(timeoutMs) });
    answer = await body(response);
  } catch (problem) {
    throw new Unreachable(problem);
  }
  if (response.ok) return { status: response.status, answer };
  const wait = Number.parseFloat(response.headers.get("retry-after"));
  throw new Refused(response.status, answer?.error, Number.isFinite(wait) ? wait : null);
}

/** The JSON at `url`. Throws Refused or Unreachable. */
export async function get(url, options) {
  return (await ask("GET", url, undefined, options)).answer;
}

/** Sends `content` (an object as JSON, a string as JSON lines) and gives the answer. Throws Refused or Unreachable. */
export async function send(method, url, content, options) {
  try {
    return (await ask(method, url, content, options)).answer;
  } catch (problem) {
    if (!(problem instanceof Refused && problem.status === 403)) throw problem;
    const before = csrf;  // the sign-in may have been renewed in another tab
    await whoAmI();
    if (csrf === before) throw problem;
    return (await ask(method, url, content, options)).answer;
  }
}

/** Who is signed in; also takes up the current CSRF token. */
export async function whoAmI() {
  const me = await get("/api/me");
  csrf = me.csrf;
  return me.person;
}

/** Sets the CSRF token after signing in. */
export function trust(token) { csrf = token; }

/** Saves the file at `url` on this device, under the name the server gives it. Throws Refused or Unreachable. */
export async function download(url) {
  const response = await fetch(url, { credentials: "same-origin", redirect: "error", cache: "no-store" }).catch((problem) => { throw new Unreachable(problem); });
  if (!response.ok) throw new Refused(response.status, (await body(response))?.error);
  const named = /filename="([^"]+)"/.exec(response.headers.get("content-disposition") ?? "");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = named?.[1] ?? "export";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
