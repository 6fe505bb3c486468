// Charts as plain SVG: bars over time, with the numbers in a table for whoever cannot see them.

import { ask, compact, count, duration, h, link, money, plain, s, several, tiles } from "./dom.js";

const WIDTH = 720, HEIGHT = 96;
// More bars than this are thinner than a pixel.
const CALLS_SHOWN = 150;
const DAYS_SHOWN = 90, DAY_MS = 86_400_000;

// `stack`: [[class, values], ...], drawn from the bottom; `label(n)` names a bar; `top` is the largest sum in words.
function bars({ title, stack, label, ends, words, mark = () => "", key = null }) {
  const size = stack[0][1].length;
  const sums = Array.from({ length: size }, (_, n) => stack.reduce((sum, [, values]) => sum + (values[n] ?? 0), 0));
  const top = Math.max(1e-9, ...sums);
  const wide = WIDTH / Math.max(size, 24);
  const drawn = Array.from({ length: size }, (_, n) => {
    let y = HEIGHT;
    const parts = stack.map(([kind, values]) => {
      const high = ((values[n] ?? 0) / top) * HEIGHT;
      y -= high;
      return s("rect", { class: `${kind} ${mark(n)}`, x: n * wide, y, width: Math.max(0.5, wide * 0.86), height: high });
    });
    return s("g", {}, s("title", {}, label(n)), parts);
  });
  const said = `${plain(title)}: at most ${words(top)}`;
  return h("figure", { class: "card" }, h("figcaption", {}, h("strong", {}, title), key ?? h("span", {}, `max ${words(top)}`)),
    s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": said, preserveAspectRatio: "none" }, drawn),
    h("p", { class: "ends", "aria-hidden": "true" }, h("span", {}, ends[0]), h("span", {}, ends[1])));
}

const KEY = () => h("span", { class: "key" }, ["cached", "input", "output"].map((kind) => h("span", { class: kind }, kind)));
const percent = (part, all) => (all ? `${Math.round((100 * part) / all)} %` : "–");
const sum = (values) => values.reduce((a, b) => a + (b ?? 0), 0);

function latest(calls, most) {
  const from = Math.max(0, calls.at.length - most);
  return Object.fromEntries(Object.entries(calls).map(([name, values]) => [name, values.slice(from)]));
}

function callFigures(calls, ends) {
  const about = (n) => `send ${calls.send[n]}: ${count(calls.input[n])} in (${count(calls.cached[n])} cached), ${count(calls.output[n])} out, ${duration(calls.took_ms[n])} ${money(calls.cost[n])}`;
  const fresh = calls.input.map((value, n) => Math.max(0, value - calls.cached[n]));
  const mark = (n) => (calls.failed[n] ? "failed" : "");
  const share = calls.input.map((value, n) => (value ? (100 * calls.cached[n]) / value : 0));
  const broken = calls.failed.map((failed, n) => Number(failed) + calls.tools_failed[n]);
  const common = { label: about, mark, ends };
  return [
    bars({ ...common, title: "Tokens", stack: [["cached", calls.cached], ["input", fresh], ["output", calls.output]], words: compact, key: KEY() }),
    bars({ ...common, title: "Time", stack: [["took-ms", calls.took_ms]], words: duration }),
    sum(calls.cost) ? bars({ ...common, title: "Cost", stack: [["cost", calls.cost]], words: money }) : null,
    sum(calls.cached) ? bars({ ...common, title: `Cache hits: ${percent(sum(calls.cached), sum(calls.input))}`, stack: [["cached", share]], words: (n) => `${Math.round(n)} %` }) : null,
    sum(broken) ? bars({ ...common, title: `Errors: ${several(sum(broken), "call")}`, stack: [["failed", broken]], words: count }) : null,
  ];
}

// Of one session.
export function callCharts(all, id) {
  if (all.at.length < 2) return null;
  const calls = latest(all, CALLS_SHOWN);
  const first = all.at.length - calls.at.length + 1;
  const title = `${several(all.at.length, "model call")}: ${percent(sum(all.cached), sum(all.input))} of the input from caches, ${count(sum(all.failed))} failed`;
  return h("details", { class: "card block", open: all.at.length > 5 }, h("summary", {}, title),
    h("div", { class: "charts inner" }, callFigures(calls, [`call ${count(first)}`, `call ${count(all.at.length)}`])), callTable(all, id));
}

function callTable(calls, id) {
  const from = Math.max(0, calls.at.length - 50);
  const rows = calls.at.slice(from).map((_, n) => n + from);
  const head = ["Send", "Input", "Cached", "Output", "Time", "Cost", "Failed", "Tools failed"];
  return h("details", {}, h("summary", {}, "as a table (latest 50)"), table("Model calls", head, rows.map((n) => [
    h("a", { href: link("session", { id, send: calls.send[n] }) }, `#${calls.send[n]}`), count(calls.input[n]), count(calls.cached[n]), count(calls.output[n]),
    duration(calls.took_ms[n]), money(calls.cost[n]), calls.failed[n] ? "failed" : "", calls.tools_failed[n] || ""])));
}

function table(name, head, rows) {
  return h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": name }, h("table", {},
    h("thead", {}, h("tr", {}, head.map((cell, n) => h("th", { scope: "col", class: n ? "number" : null }, cell)))),
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell, n) => h("td", { class: n ? "number" : null }, cell)))))));
}

export async function chartsPage() {
  const [calls, first] = await Promise.all([ask("charts"), ask("days")]);
  const byDay = h("div");
  const state = { left: false };
  let days = first.days;
  const draw = () => byDay.replaceChildren(...(days.at.length ? dayParts(everyDay(days)) : []));
  draw();
  // The sums of many sessions come slice by slice.
  const shown = async () => {
    for (let { further } = first; further && !state.left;) {
      const part = await ask("days", { after: further });
      days = together(days, part.days);
      further = part.further;
      draw();
    }
  };
  const content = h("section", {}, h("h1", {}, "Charts"), days.at.length || calls.at.length || first.further ? [byDay, callParts(latest(calls, CALLS_SHOWN))]
    : h("div", { class: "card empty" }, h("strong", {}, "No send was finished yet"), "What sends cost appears here with the first one."));
  return { title: "Charts", content, shown, leave: () => { state.left = true; } };
}

// The sums of two slices as those of one.
function together(one, other) {
  const at = [...new Set([...one.at, ...other.at])].sort((a, b) => a - b);
  const of = (days, name, day) => days[name][days.at.indexOf(day)] ?? 0;
  return Object.fromEntries(Object.keys(one).map((name) => [name, name === "at" ? at : at.map((day) => of(one, name, day) + of(other, name, day))]));
}

// The last days up to the latest with a send, those without one too: what stands side by side follows on each other.
function everyDay(days) {
  const last = days.at.at(-1);
  const first = Math.max(days.at[0], last - (DAYS_SHOWN - 1) * DAY_MS);
  const at = Array.from({ length: (last - first) / DAY_MS + 1 }, (_, n) => first + n * DAY_MS);
  return Object.fromEntries(Object.entries(days).map(([name, values]) => [name, name === "at" ? at : at.map((day) => values[days.at.indexOf(day)] ?? 0)]));
}

function dayParts(days) {
  const day = (n) => new Date(days.at[n]).toISOString().slice(0, 10);
  const last = days.at.length - 1;
  const label = (n) => `${day(n)}: ${count(days.sessions[n])} sessions, ${count(days.sends[n])} sends, ${count(days.input[n] + days.output[n])} tokens ${money(days.cost[n])}`;
  const common = { label, ends: [day(0), day(last)] };
  const names = ["sessions", "sends", "calls", "tool_calls", "input", "output"];
  const head = ["Day (UTC)", "Sessions", "Sends", "Model calls", "Tool calls", "Input tokens", "Output tokens", "Cost"];
  return [
    tiles([["Sessions", compact(sum(days.sessions))], ["Sends", compact(sum(days.sends))], ["Model calls", compact(sum(days.calls)), several(sum(days.tool_calls), "tool call")],
      ["Input tokens", compact(sum(days.input))], ["Output tokens", compact(sum(days.output))], sum(days.cost) ? ["Cost", money(sum(days.cost))] : null]),
    h("h2", {}, `By the day of a session's last send, ${several(days.at.length, "day")}`),
    h("div", { class: "charts" },
      bars({ ...common, title: "Tokens", stack: [["input", days.input], ["output", days.output]], words: compact }),
      bars({ ...common, title: "Sends", stack: [["took-ms", days.sends]], words: compact }),
      sum(days.cost) ? bars({ ...common, title: "Cost", stack: [["cost", days.cost]], words: money }) : null),
    h("details", { class: "card block" }, h("summary", {}, "as a table"), table("Days", head, days.at.map((_, n) => last - n).map((n) =>
      [day(n), ...names.map((name) => count(days[name][n])), money(days.cost[n])]))),
  ];
}

function callParts(calls) {
  if (!calls.at.length) return null;
  const at = (n) => new Date(calls.at[n]).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  return [h("h2", {}, `The latest ${count(calls.at.length)} model calls, in whichever session`), h("div", { class: "charts" }, callFigures(calls, [at(0), at(calls.at.length - 1)]))];
}
