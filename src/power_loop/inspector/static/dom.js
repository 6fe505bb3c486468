// Elements, texts and numbers. Whatever came out of a session is only ever a text node, so it can be nothing else.

const SVG = "http://www.w3.org/2000/svg";

function grown(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const h = (name, attributes = {}, ...children) => grown(document.createElement(name), attributes, children);
export const s = (name, attributes = {}, ...children) => grown(document.createElementNS(SVG, name), attributes, children);

// Characters that change how others are shown (direction, terminals) or show as nothing are named instead; but for those that emoji are joined of.
const HIDDEN = new RegExp("(?!(?<=\\p{ExtPict})\\ufe0f|\\ufe0f(?=\\u20e3)|(?<=[\\p{ExtPict}\\p{EMod}\\ufe0f])\\u200d(?=\\p{ExtPict}))"
  + "[\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f\\u007f-\\u009f\\u2028\\u2029\\u2800\\ufff9-\\ufffb\\p{DI}\\p{Cs}]", "gu");

export function plain(text) {
  const named = (c) => `\u27e8U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}\u27e9`;
  return String(text ?? "").replace(HIDDEN, named);
}

export const bdi = (text, attributes = {}) => h("bdi", attributes, plain(text));
export const short = (text, chars) => (text.length > chars ? `${text.slice(0, chars - 1)}…` : text);

// A browser lays out no more in one go without a pause that is felt.
const AT_ONCE = 200_000;

// A text of the server: {shown, upto, chars}. `piece` fetches what comes behind, when somebody wants it: {text, upto}.
export function passage(text, piece, kind = "passage") {
  const block = h(kind === "text" ? "div" : "pre", { class: kind, tabindex: "0", role: "group", "aria-label": "text" }, plain(text.shown));
  if (text.shown.length <= 600) for (const name of ["tabindex", "role", "aria-label"]) block.removeAttribute(name);
  if (text.chars <= text.upto) return block;
  const more = h("button", { type: "button", class: "small" }, `show all ${count(text.chars)} characters`);
  let upto = text.upto;
  let wanted = 0;
  more.addEventListener("click", async () => {
    more.disabled = true;
    try {
      wanted = Math.min(text.chars, wanted + AT_ONCE);
      while (upto < wanted) {
        const part = await piece(upto, wanted - upto);
        block.append(plain(part.text));
        upto = part.upto;
      }
      more.textContent = `${count(text.chars - upto)} more characters`;
      more.hidden = upto >= text.chars;
    } catch (error) {
      say(error.message);
    } finally {
      more.disabled = false;
    }
  });
  return h("div", {}, block, piece ? more : h("p", { class: "dim" }, `${count(text.chars)} characters, cut`));
}

const NUMBER = new Intl.NumberFormat("en");
export const count = (n) => NUMBER.format(n ?? 0);
export const compact = (n) => ((n ?? 0) < 100_000 ? count(n) : new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(n));
export const several = (n, one) => `${count(n)} ${one}${n === 1 ? "" : "s"}`;
export const money = (n) => (!n ? "" : n >= 0.01 ? n.toFixed(n < 1 ? 3 : 2) : String(Number(n.toPrecision(2))));

export function duration(ms) {
  if (ms === null || ms === undefined) return "";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
  return `${Math.floor(ms / 3_600_000)} h ${Math.round((ms % 3_600_000) / 60_000)} min`;
}

const clock = (date) => date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });

export function when(ms) {
  if (!ms) return h("span", {}, "");
  const date = new Date(ms);
  return h("time", { datetime: date.toISOString(), title: date.toISOString() }, clock(date));
}

const AGO = new Intl.RelativeTimeFormat("en", { style: "short" });
const STEPS = [[60_000, 1000, "second"], [3_600_000, 60_000, "minute"], [86_400_000, 3_600_000, "hour"], [7 * 86_400_000, 86_400_000, "day"]];

export function ago(ms) {
  const passed = Date.now() - ms;
  const [, unit, name] = STEPS.find(([below]) => Math.abs(passed) < below) ?? [];
  if (!name) return when(ms);
  return h("time", { datetime: new Date(ms).toISOString(), title: clock(new Date(ms)) }, passed < 2000 && passed > 0 ? "now" : AGO.format(-Math.round(passed / unit), name));
}

export const words = (state) => plain(state).replaceAll("_", " ");
export const badge = (text) => h("span", { class: "badge" }, words(text));
export const state = (name) => h("span", { class: `badge state ${String(name).replace(/[^a-z_]/g, "")}` }, words(name));

export const tiles = (rows) => h("dl", { class: "tiles" }, rows.filter(Boolean).map(([name, value, more]) =>
  h("div", { class: "card tile" }, h("dt", {}, name), h("dd", {}, value, more ? h("small", {}, more) : null))));

export const GONE = "The inspector does not answer: start it again, and open the link that it prints.";

// What the inspector answers, or an error with its words: some come from its guard, as plain text.
async function answered(path, more) {
  const answer = await fetch(path, more).catch(() => { throw new Error(GONE); });
  const text = await answer.text();
  if (answer.ok) return text ? JSON.parse(text) : null;
  let told = text;
  try { told = JSON.parse(text).error; } catch { /* plain text */ }
  throw new Error(told || answer.statusText);
}

export function ask(name, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return answered(`/api/${name}?${new URLSearchParams(given)}`);
}

export const tell = (data) => answered("/api/decide", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(data) });

export function say(text) {
  document.getElementById("said").textContent = plain(text);
}

export const link = (path, parameters = {}) => {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return `#/${path}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
};
