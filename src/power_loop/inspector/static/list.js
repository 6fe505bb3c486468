// The sessions, the latest activity first.

import { ago, ask, badge, bdi, compact, count, h, link, money, plain, short, state } from "./dom.js";

const AT_ONCE = 50;
const FIELDS = ["q", "kind", "agent", "archived", "running"];
const COLUMNS = [["Session"], ["State"], ["Sends", "number"], ["Tokens", "number"], ["Cost", "number"], ["Last change", "number"]];

// A page of the list as far as it is known. What has to be searched for comes slice by slice, and is put in order here.
async function* found(filters, cursor = {}) {
  let lines = [], more = false, further = "";
  do {
    const part = await ask("sessions", { ...filters, ...cursor, after: further });
    lines = [...lines, ...part.sessions].sort((a, b) => b.updated_at - a.updated_at || (a.session_id < b.session_id ? -1 : 1));
    more ||= Boolean(part.next) || lines.length > AT_ONCE;
    lines = lines.slice(0, AT_ONCE);
    further = part.further;
    const last = lines.at(-1);
    yield { lines, further, next: more ? { at: last.updated_at, id: last.session_id } : null };
  } while (further);
}

export async function listPage(query) {
  const filters = Object.fromEntries(FIELDS.map((name) => [name, query.get(name)]));
  const place = h("table", {}, h("caption", { class: "visually-hidden" }, "Sessions"),
    h("thead", {}, h("tr", {}, COLUMNS.map(([name, kind]) => h("th", { scope: "col", class: kind }, name)))));
  const table = h("div", { class: "card list" }, place);
  const empty = nothing(filters);
  const looking = h("p", { class: "dim", role: "status" });
  const more = h("button", { type: "button", class: "more" }, "Older sessions");
  let next = null, left = false;

  // One page more, whose first lines are there when this comes back; the function that it gives brings the rest.
  async function add(cursor) {
    const pages = found(filters, cursor);
    const body = h("tbody");
    place.append(body);
    const step = async () => {
      const { value: page, done } = await pages.next();
      if (done || left) return false;
      next = page.next;
      more.hidden = !next || Boolean(page.further);
      body.replaceChildren(...page.lines.map(row));
      table.hidden = !place.querySelector("tbody tr");
      empty.hidden = !table.hidden || Boolean(page.further);
      looking.textContent = page.further ? "Looking through more sessions…" : "";
      return true;
    };
    await step();
    return async () => { while (await step()); return body; };
  }
  const shown = await add();
  more.addEventListener("click", async () => {
    more.hidden = true;
    const body = await (await add(next))();
    body.querySelector("a")?.focus();
  });
  const content = h("section", {}, h("h1", {}, "Sessions"), form(filters), table, empty, looking, more);
  return { title: "Sessions", content, shown, leave: () => { left = true; } };
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

// The steps of a run are sessions of their own, and count their own tokens.
const tokens = (session) => (session.kind === "workflow"
  ? h("span", { class: "dim", title: "counted in the sessions of its steps" }, "–")
  : compact(session.prompt_tokens + session.completion_tokens));

const told = (value) => (typeof value === "string" ? value : JSON.stringify(value));

function row(session) {
  const about = Object.entries(session.metadata).map(([key, value]) => h("span", {}, plain(`${key}=${short(told(value), 60)}`)));
  return h("tr", { "data-row": true },
    h("td", {}, h("a", { href: link("session", { id: session.session_id }) }, bdi(session.title.shown || session.session_id)),
      h("div", { class: "under" }, session.title.chars ? h("span", { class: "id" }, bdi(session.session_id)) : null,
        session.kind !== "root" ? badge(session.kind) : null, session.archived ? badge("archived") : null,
        session.agent ? h("span", {}, plain(session.agent)) : null, about.slice(0, 4))),
    h("td", {}, state(session.outcome || "idle")),
    h("td", { class: "number", "data-label": "Sends" }, count(session.send_index)),
    h("td", { class: "number", "data-label": "Tokens" }, tokens(session)),
    h("td", { class: "number", "data-label": session.cost ? "Cost" : null }, money(session.cost)),
    h("td", { class: "number" }, ago(session.updated_at)));
}
