// Charts as plain SVG: bars over time, with the numbers in a table for whoever cannot see them.

import { ask, count, duration, h, link, money, plain } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 720, HEIGHT = 96;

function s(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// `stack`: [[class, values], ...], drawn from the bottom; `label(n)` names a bar.
function bars(title, stack, label, mark = () => "") {
  const size = stack[0][1].length;
  const sums = Array.from({ length: size }, (_, n) => stack.reduce((sum, [, values]) => sum + (values[n] ?? 0), 0));
  const top = Math.max(1e-9, ...sums);
  const wide = WIDTH / Math.max(size, 12);
  const drawn = Array.from({ length: size }, (_, n) => {
    let y = HEIGHT;
    const parts = stack.map(([kind, values]) => {
      const high = ((values[n] ?? 0) / top) * HEIGHT;
      y -= high;
      return s("rect", { class: `${kind} ${mark(n)}`, x: n * wide, y, width: Math.max(0.5, wide - 1), height: high });
    });
    return s("g", {}, s("title", {}, label(n)), ...parts);
  });
  const picture = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": plain(title), preserveAspectRatio: "none" }, ...drawn);
  return h("figure", {}, h("figcaption", {}, title), picture);
}

export function chart(calls, id) {
  if (calls.at.length < 2) return null;
  const about = (n) => `send ${calls.send[n]}: ${count(calls.input[n])} in (${count(calls.cached[n])} cached), ${count(calls.output[n])} out, ${duration(calls.took_ms[n])} ${money(calls.cost[n])}`;
  const fresh = calls.input.map((value, n) => Math.max(0, value - calls.cached[n]));
  const failed = (n) => (calls.failed[n] ? "failed" : "");
  const failures = calls.failed.filter(Boolean).length;
  const hit = calls.input.reduce((a, b) => a + b, 0);
  const share = hit ? Math.round((100 * calls.cached.reduce((a, b) => a + b, 0)) / hit) : 0;
  const title = `${count(calls.at.length)} model calls: ${share} % of the input from caches, ${failures} failed`;
  return h("details", { class: "charts" }, h("summary", {}, title),
    bars("Tokens per call: cached, input, output", [["cached", calls.cached], ["input", fresh], ["output", calls.output]], about, failed),
    bars("Time per call", [["took", calls.took_ms]], about, failed),
    calls.cost.some(Boolean) ? bars("Cost per call", [["cost", calls.cost]], about, failed) : null, table(calls, id));
}

function table(calls, id) {
  const from = Math.max(0, calls.at.length - 50);
  const rows = calls.at.slice(from).map((_, n) => n + from);
  const head = ["Send", "Input", "Cached", "Output", "Time", "Cost", "Failed"];
  return h("details", {}, h("summary", {}, "as a table (latest 50)"), h("table", {},
    h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map((n) => h("tr", {}, h("td", {}, h("a", { href: link("session", { id, send: calls.send[n] }) }, `#${calls.send[n]}`)),
      [count(calls.input[n]), count(calls.cached[n]), count(calls.output[n]), duration(calls.took_ms[n]), money(calls.cost[n]), calls.failed[n] ? "failed" : ""]
        .map((value) => h("td", { class: "number" }, value)))))));
}

export async function chartsPage() {
  const days = await ask("charts");
  const day = (n) => new Date(days.at[n]).toISOString().slice(0, 10);
  const label = (n) => `${day(n)}: ${count(days.sessions[n])} sessions, ${count(days.sends[n])} sends, ${count(days.input[n] + days.output[n])} tokens ${money(days.cost[n])}`;
  const head = ["Day (UTC)", "Sessions", "Sends", "Model calls", "Tool calls", "Input tokens", "Output tokens", "Cost"];
  const names = ["sessions", "sends", "calls", "tool_calls", "input", "output"];
  const rows = days.at.map((_, n) => n).reverse();
  const content = h("section", {}, h("h1", {}, "Sessions by the day of their last send"),
    days.at.length ? [
      bars("Tokens", [["input", days.input], ["output", days.output]], label),
      bars("Sends", [["took", days.sends]], label),
      days.cost.some(Boolean) ? bars("Cost", [["cost", days.cost]], label) : null,
      h("div", { class: "wide" }, h("table", {}, h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, rows.map((n) => h("tr", {}, h("td", {}, day(n)), names.map((name) => h("td", { class: "number" }, count(days[name][n]))),
          h("td", { class: "number" }, money(days.cost[n]))))))),
    ] : h("p", { class: "dim" }, "No send was finished yet."));
  return { title: "Charts", content };
}
