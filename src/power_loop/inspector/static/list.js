// The sessions, the latest activity first.

import { ask, badge, bdi, count, h, link, money, plain, when } from "./dom.js";

const FIELDS = ["q", "kind", "agent", "archived", "running"];

export async function listPage(query) {
  const filters = Object.fromEntries(FIELDS.map((name) => [name, query.get(name)]));
  const found = await ask("sessions", filters);
  const body = h("tbody", {}, found.sessions.map(row));
  const more = h("button", { type: "button", class: "more", hidden: !found.next }, "Older sessions");
  let next = found.next;
  more.addEventListener("click", async () => {
    const page = await ask("sessions", { ...filters, at: next[0], id: next[1] });
    const rows = page.sessions.map(row);
    body.append(...rows);
    rows[0]?.querySelector("a")?.focus();
    next = page.next;
    more.hidden = !next;
  });
  const names = ["Session", "State", "Sends", "Tokens", "Cost", "Last change"];
  const table = h("table", {},
    h("caption", { class: "visually-hidden" }, "Sessions"),
    h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col", class: ["Sends", "Tokens", "Cost"].includes(name) ? "number" : null }, name)))), body);
  const nothing = h("p", { class: "dim" }, "No session fits.");
  const content = h("section", {}, h("h1", {}, "Sessions"), form(filters), found.sessions.length ? table : nothing, more);
  return { title: "Sessions", content };
}

function form(filters) {
  const pick = (name, label, options) => h("label", {}, label, h("select", { name, onchange: apply },
    options.map(([value, text]) => h("option", { value, selected: filters[name] === value }, text))));
  const search = h("input", { type: "search", name: "q", value: filters.q ?? "", placeholder: "id, agent or metadata", "aria-label": "Search" });
  const agent = h("input", { name: "agent", value: filters.agent ?? "", size: 10, onchange: apply });
  const fields = h("form", { class: "filters", role: "search", onsubmit: (event) => { event.preventDefault(); apply(event); } }, search,
    pick("kind", "Kind ", [["", "any"], ["root", "root"], ["subagent", "sub-agent"], ["workflow", "workflow"]]),
    pick("archived", "Archived ", [["", "either"], ["0", "no"], ["1", "yes"]]),
    h("label", {}, "Agent ", agent),
    h("label", {}, h("input", { type: "checkbox", name: "running", value: "1", checked: Boolean(filters.running), onchange: apply }), " running"),
    h("button", { type: "submit" }, "Search"));
  return fields;
}

function apply(event) {
  location.hash = link("", Object.fromEntries(new FormData(event.target.closest("form"))));
}

function row(session) {
  const name = h("a", { href: link("session", { id: session.session_id }) }, bdi(session.session_id));
  const marks = [session.kind !== "root" && badge(session.kind, "kind"), session.archived && badge("archived", "kind")];
  const described = Object.entries(session.metadata).map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`);
  return h("tr", { "data-row": true },
    h("td", {}, name, marks, h("div", { class: "title" }, bdi(session.title)),
      h("div", { class: "dim" }, plain([session.agent, ...described].filter(Boolean).join("  ")).slice(0, 200))),
    h("td", { "data-label": "State" }, badge(session.outcome || "idle")),
    h("td", { class: "number", "data-label": "Sends" }, count(session.sends)),
    h("td", { class: "number", "data-label": "Tokens" }, count(session.prompt_tokens + session.completion_tokens)),
    h("td", { class: "number", "data-label": "Cost" }, money(session.cost)),
    h("td", { "data-label": "Last change" }, when(session.updated_at)));
}
