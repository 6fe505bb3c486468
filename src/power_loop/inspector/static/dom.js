// Elements, texts and numbers. Whatever came out of a session is only ever a text node, so it can be nothing else.

export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Characters that change how others are shown (direction, terminals) or show as nothing are named instead.
const HIDDEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

export function plain(text) {
  const named = (c) => `\u27e8U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}\u27e9`;
  return String(text ?? "").replace(HIDDEN, named);
}

export const bdi = (text, attributes = {}) => h("bdi", attributes, plain(text));

// A text of the server: {shown, chars}. `whole` fetches the rest when somebody wants it.
export function passage(text, whole, attributes = {}) {
  const block = h("pre", { class: "passage", tabindex: text.chars > 2000 ? "0" : null, ...attributes }, plain(text.shown));
  if (text.chars <= text.shown.length) return block;
  const label = `show all ${count(text.chars)} characters`;
  const more = h("button", { type: "button", onclick: async () => { block.textContent = plain(await whole()); more.remove(); } }, label);
  return h("div", {}, block, whole ? more : h("p", { class: "dim" }, `${count(text.chars)} characters, cut`));
}

const NUMBER = new Intl.NumberFormat("en");
export const count = (n) => NUMBER.format(n ?? 0);
export const money = (n) => (n === null || n === undefined || n === 0 ? "" : n < 0.01 ? n.toExponential(1) : n.toFixed(n < 1 ? 4 : 2));

export function duration(ms) {
  if (ms === null || ms === undefined) return "";
  if (ms < 1000) return `${ms} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

export function when(ms) {
  if (!ms) return h("span", {}, "");
  const date = new Date(ms);
  const text = date.toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" });
  return h("time", { datetime: date.toISOString(), title: date.toISOString() }, text);
}

export const badge = (text, kind = text) => h("span", { class: `badge ${String(kind).replace(/[^a-z_]/g, "")}` }, plain(text));

export async function ask(name, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const answer = await fetch(`/api/${name}?${new URLSearchParams(given)}`);
  const data = await answer.json().catch(() => ({ error: answer.statusText }));
  if (!answer.ok) throw new Error(data.error ?? answer.statusText);
  return data;
}

export async function tell(data) {
  const answer = await fetch("/api/decide", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(data) });
  const told = await answer.json().catch(() => ({ error: answer.statusText }));
  if (!answer.ok) throw new Error(told.error ?? answer.statusText);
}

export function say(text) {
  document.getElementById("said").textContent = plain(text);
}

export const link = (path, parameters = {}) => {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return `#/${path}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
};
