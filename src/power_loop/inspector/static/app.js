// Which page an address names, and the keys that work on every page.

import { h, plain, say } from "./dom.js";
import { chartsPage } from "./charts.js";
import { listPage } from "./list.js";
import { requestPage } from "./request.js";
import { sessionPage } from "./session.js";

const PAGES = { "": listPage, session: sessionPage, request: requestPage, charts: chartsPage };
let leave = null;
let turn = 0;

async function show() {
  const mine = ++turn;
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const page = PAGES[path] ?? listPage;
  leave?.();
  leave = null;
  const place = document.getElementById("main");
  for (const tab of document.querySelectorAll("[data-page]")) tab.dataset.page === (path === "charts" ? path : "") ? tab.setAttribute("aria-current", "page") : tab.removeAttribute("aria-current");
  place.setAttribute("aria-busy", "true");
  try {
    const made = await page(new URLSearchParams(query ?? ""));
    if (mine !== turn) return made.leave?.();
    leave = made.leave ?? null;
    document.title = `${plain(made.title)} - power-loop`;
    place.replaceChildren(made.content);
    scrollTo(0, 0);
    Promise.resolve(made.shown?.()).catch((error) => say(error.message));
  } catch (error) {
    if (mine === turn) place.replaceChildren(h("section", { class: "card error" }, h("h1", {}, "This cannot be shown"), h("p", {}, plain(error.message)), h("a", { href: "#/" }, "all sessions")));
  } finally {
    if (mine === turn) place.removeAttribute("aria-busy");
  }
}

function move(step) {
  const rows = [...document.querySelectorAll("[data-row]")];
  if (!rows.length) return;
  const at = rows.indexOf(document.activeElement?.closest("[data-row]"));
  const row = rows[Math.min(rows.length - 1, Math.max(0, at < 0 ? 0 : at + step))];
  (row.matches("a,summary,[tabindex]") ? row : row.querySelector("a,summary,[tabindex]"))?.focus();
  row.scrollIntoView({ block: "nearest" });
}

const KEYS = {
  "/": () => document.querySelector("input[type=search]")?.focus(),
  j: () => move(1),
  k: () => move(-1),
  "?": () => document.getElementById("help").showModal(),
  u: () => { location.hash = document.querySelector("[data-up]")?.getAttribute("href") ?? "#/"; },
};

addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.activeElement?.blur();
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input,textarea,select")) return;
  const act = KEYS[event.key];
  if (act) { event.preventDefault(); act(); }
});
document.getElementById("keys").addEventListener("click", KEYS["?"]);
addEventListener("hashchange", () => { say(""); show(); });
show();
