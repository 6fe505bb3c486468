// The sessions, the latest activity first.

import { ago, ask, badge, bdi, compact, count, h, link, money, plain, short, state } from "./dom.js";

const FIELDS = ["q", "kind", "agent", "archived", "running"];
const COLUMNS = [["Session"], ["State"], ["Sends", "number"], ["Tokens", "number"], ["Cost", "number"], ["Last change", "number"]];

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
  const table = h("div", { class: "card list" }, h("table", {},
    h("caption", { class: "visually-hidden" }, "Sessions"),
    h("thead", {}, h("tr", {}, COLUMNS.map(([name, kind]) => h("th", { scope: "col", class: kind }, name)))), body));
  const content = h("section", {}, h("h1", {}, "Sessions"), form(filters), found.sessions.length ? table : nothing(filters), more);
  return { title: "Sessions", content };
}

function nothing(filters) {
  const narrowed = Object.values(filters).some(Boolean);
  return h("div", { class: "card empty" }, h("strong", {}, narrowed ? "No session fits" : "No sessions yet"),
    narrowed ? h("a", { href: "#/" }, "Show all sessions") : "They appear here as soon as a loop on this database begins one.");
}

function form(filters) {
  const pick = (name, label, options) => h("label", {}, label, h("select", { name, onchange: apply },
    options.map(([value, text]) => h("option", { value, selected: filters[name] === value }, text))));
  const search = h("input", { type: "search", name: "q", value: filters.q ?? "", placeholder: "Search in ids, agents and metadata", "aria-label": "Search" });
  const agent = h("input", { name: "agent", value: filters.agent ?? "", size: 9, onchange: apply });
  return h("form", { class: "filters", role: "search", onsubmit: (event) => { event.preventDefault(); apply(event); } }, search,
    pick("kind", "Kind", [["", "any"], ["root", "root"], ["subagent", "sub-agent"], ["workflow", "workflow"]]),
    pick("archived", "Archived", [["", "either"], ["0", "no"], ["1", "yes"]]),
    h("label", {}, "Agent", agent),
    h("label", {}, h("input", { type: "checkbox", name: "running", value: "1", checked: Boolean(filters.running), onchange: apply }), "running"),
    h("button", { type: "submit" }, "Search"));
}

function apply(event) {
  location.hash = link("", Object.fromEntries(new FormData(event.target.closest("form"))));
}

const told = (value) => (typeof value === "string" ? value : JSON.stringify(value));

function row(session) {
  const about = Object.entries(session.metadata).map(([key, value]) => h("span", {}, plain(`${key}=${short(told(value), 60)}`)));
  return h("tr", { "data-row": true },
    h("td", {}, h("a", { href: link("session", { id: session.session_id }) }, bdi(session.title || session.session_id)),
      h("div", { class: "under" }, session.title ? h("span", { class: "id" }, bdi(session.session_id)) : null,
        session.kind !== "root" ? badge(session.kind) : null, session.archived ? badge("archived") : null,
        session.agent ? h("span", {}, plain(session.agent)) : null, about.slice(0, 4))),
    h("td", {}, state(session.outcome || "idle")),
    h("td", { class: "number", "data-label": "Sends" }, count(session.send_index)),
    h("td", { class: "number", "data-label": "Tokens" }, compact(session.prompt_tokens + session.completion_tokens)),
    h("td", { class: "number", "data-label": session.cost ? "Cost" : null }, money(session.cost)),
    h("td", { class: "number" }, ago(session.updated_at)));
}
