// A run of a workflow: its picture, with the state of each step in colour and in words, and its steps as a table.

import { bdi, count, h, link, plain, s, short, state, tiles, words } from "./dom.js";

export function workflowView(id, run) {
  const done = run.steps.filter((step) => step.state === "completed").length;
  const used = run.usage;
  return h("div", {},
    tiles([["Workflow", bdi(short(run.name, 40))], ["Steps", count(run.steps.length + run.more_steps), `${count(done + run.more_steps)} completed`],
      ["Input tokens", count(used.prompt_tokens)], ["Output tokens", count(used.completion_tokens)]]),
    run.errors.length ? h("section", { class: "card block" }, h("h2", {}, "Failures"), run.errors.map((error) =>
      h("p", { class: "bad" }, h("strong", {}, plain(error.node_id)), ` ${plain(error.status)}: ${plain(short(error.error, 400))}`))) : null,
    picture(id, run),
    steps(run),
    h("details", { class: "card block" }, h("summary", {}, "As Mermaid text"), h("pre", { class: "passage", tabindex: "0", role: "group", "aria-label": "Mermaid" }, plain(run.mermaid))));
}

function picture(id, run) {
  const { wide, high, boxes, arrows } = run.picture;
  const at = Object.fromEntries(boxes.map((box) => [box.id, box]));
  const drawing = s("svg", { width: wide + 4, height: high + 4, viewBox: `-2 -2 ${wide + 4} ${high + 4}`, role: "group", "aria-labelledby": "picture-title picture-desc" },
    s("title", { id: "picture-title" }, plain(`The workflow ${run.name}`)),
    s("desc", { id: "picture-desc" }, `${boxes.filter((box) => box.kind !== "join").length} nodes from top to bottom; the run is ${words(run.status)}`),
    boxes.filter((box) => ["foreach", "loop"].includes(box.kind)).map(frame),
    arrows.map((arrow) => line(at[arrow.from], at[arrow.to], arrow)),
    boxes.filter((box) => !["foreach", "loop"].includes(box.kind)).map((box) => drawn(id, box)));
  return h("div", { class: "card graph", role: "region", "aria-label": "Picture of the workflow", tabindex: "0" }, drawing);
}

// "2 completed, 1 failed": what a colour says is said in words too.
function standing(box) {
  const parts = Object.entries(box.counts).filter(([, n]) => n);
  const total = parts.reduce((sum, [, n]) => sum + n, 0);
  if (!parts.length) return box.kind === "branch" ? "" : "not reached";
  return total === 1 ? words(parts[0][0]) : parts.map(([name, n]) => `${count(n)} ${words(name)}`).join(", ");
}

function frame(box) {
  return s("g", { class: `frame ${box.state}` }, s("rect", { x: box.x, y: box.y, width: box.wide, height: box.high, rx: 10 }),
    s("text", { x: box.x + 14, y: box.y + 22 }, short(plain(box.label), 34)));
}

function drawn(id, box) {
  if (box.kind === "join") return s("circle", { class: "joint", cx: box.x + 3, cy: box.y + 3, r: 3 });
  const said = standing(box);
  const middle = box.x + box.wide / 2;
  const name = `${plain(box.label)} ${said}`.trim();
  const inner = [
    s("rect", { x: box.x, y: box.y, width: box.wide, height: box.high, rx: box.kind === "branch" ? 26 : box.kind === "human" ? 2 : 9 }),
    s("text", { x: middle, y: box.y + (said ? 23 : 31), "text-anchor": "middle" }, short(plain(box.label), 22)), " ",
    s("text", { class: "stand", x: middle, y: box.y + 40, "text-anchor": "middle" }, short(said, 27)),
  ];
  const kind = `${box.state}${box.state ? " reached" : ""}`;
  if (!box.state) return s("g", { class: kind }, inner);
  const [only] = box.sessions.length === 1 ? box.sessions : [];
  const to = only ? link("session", { id: only }) : link("session", { id, step: box.step });
  return s("a", { class: kind, href: to, "aria-label": box.label.length > 22 ? name : null, "data-row": true }, inner);
}

function line(from, to, arrow) {
  const [x, y, u, v] = [from.x + from.wide / 2, from.y + from.high, to.x + to.wide / 2, to.y];
  const bend = Math.max(16, (v - y) / 2);
  const label = arrow.label ? s("text", { class: "way", x: (x + 3 * u) / 4, y: v - 14, "text-anchor": "middle" }, short(plain(arrow.label), 24)) : null;
  const head = to.kind === "join" ? null : s("path", { class: "head", d: `M${u - 4} ${v - 7}L${u + 4} ${v - 7}L${u} ${v}Z` });
  return s("g", { "aria-hidden": "true" }, s("path", { class: arrow.kind, d: `M${x} ${y}C${x} ${y + bend} ${u} ${v - bend} ${u} ${v - (head ? 6 : 0)}` }), head, label);
}

function steps(run) {
  const head = ["Step", "State", "Attempts", "Tokens", "Result"];
  const seen = new Set();
  const rows = run.steps.map((step) => {
    const first = !seen.has(step.id) && seen.add(step.id);
    const name = step.session_id ? h("a", { href: link("session", { id: step.session_id }) }, bdi(step.step)) : bdi(step.step);
    return h("tr", { id: first ? `step-${step.id}` : null, tabindex: first ? "-1" : null, "data-row": true }, h("td", {}, h("code", {}, name)), h("td", {}, state(step.state)),
      h("td", { class: "number" }, step.attempts ? count(step.attempts) : ""), h("td", { class: "number" }, step.usage?.total_tokens ? count(step.usage.total_tokens) : ""),
      h("td", {}, step.error ? h("span", { class: "bad" }, plain(short(step.error, 300))) : plain(short(step.text?.shown ?? "", 160))));
  });
  return h("details", { class: "card block", open: run.steps.length <= 30 }, h("summary", {}, `Steps (${count(run.steps.length + run.more_steps)})`),
    h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Steps" }, h("table", {}, h("thead", {}, h("tr", {}, head.map((name, n) => h("th", { scope: "col", class: n === 2 || n === 3 ? "number" : null }, name)))), h("tbody", {}, rows))),
    run.more_steps ? h("p", { class: "dim" }, `${count(run.more_steps)} more that are completed`) : null);
}
