// One session: what it came to, who it waits for, its sends, what stands beside it, and what happens while one looks.

import { ask, badge, bdi, compact, count, h, link, money, plain, say, several, state, tiles } from "./dom.js";
import { callCharts } from "./charts.js";
import { beside, waits } from "./beside.js";
import { follow } from "./live.js";
import { sendView } from "./timeline.js";
import { workflowView } from "./workflow.js";

export async function sessionPage(query) {
  const id = query.get("id");
  const wanted = query.get("send");
  const [session, page, calls] = await Promise.all([look(id), ask("timeline", { id, send: wanted }), ask("charts", { id })]);
  const run = h("div", {}, session.run ? workflowView(id, session.run) : null);
  const sends = h("div", { class: "sends" }, page.sends.map((send) => sendView(id, send)));
  const older = olderSends(id, page.next, sends);
  const live = h("pre", { class: "live", hidden: true, "aria-label": "Text in hand" });
  const doctor = h("section", { class: "card doctor" });
  const asked = h("div", {}, waits(session));
  let waitsFor = askedFor(session);
  const panel = h("div", { class: "side" }, beside(session));
  const head = h("div", {}, heading(session));
  const content = h("section", { class: "session" }, head,
    h("div", { class: "columns" },
      h("div", {}, asked, run, callCharts(calls, id), older.button, sends,
        page.sends.length ? null : h("div", { class: "card empty" }, h("strong", {}, "Nothing was said yet")), live,
        page.last ? null : h("p", {}, h("a", { href: link("session", { id }) }, "to the latest send"))),
      h("aside", { class: "side", "aria-label": "About this session" }, doctor, panel)));
  const refresh = async () => {
    const [fresh, now] = await Promise.all([ask("timeline", { id }), look(id)]);
    if (leavesGap(sends, fresh.sends)) { sends.replaceChildren(); older.from(fresh.next); }
    replaceSends(id, sends, fresh.sends);
    if (now.run) run.replaceChildren(workflowView(id, now.run));
    head.replaceChildren(...heading(now));
    panel.replaceChildren(...beside(now));
    if (waitsFor !== askedFor(now)) asked.replaceChildren(...waits(now)); // else it keeps what was typed, and what was shown in full
    waitsFor = askedFor(now);
    if (fresh.sends.at(-1)?.status !== "running") examine(id, doctor);
    say(`send ${fresh.sends.at(-1)?.send ?? 0}: ${fresh.sends.at(-1)?.status ?? ""}`);
  };
  let stream = null;
  const shown = () => {
    examine(id, doctor);
    goTo(wanted, query.get("step"), session.run ? null : page.sends.at(-1)?.send);
    if (page.last) stream = follow(id, page.head, { live, changed: refresh, beats: Boolean(session.run) });
  };
  return { title: id, content, shown, leave: () => stream?.close() };
}

const askedFor = (session) => JSON.stringify(session.waiting.map((asked) => asked.interaction_id));

// A run of a workflow has a picture, and questions that are asked by its steps.
async function look(id) {
  const session = await ask("session", { id });
  if (session.kind !== "workflow") return session;
  let run = await ask("workflow", { id });
  while (run.further !== null) {
    say(`${count(run.further)} of ${count(run.records)} records of the run are read`);
    run = await ask("workflow", { id });
    if (run.further === null) say("");
  }
  return { ...session, run, waiting: run.waiting };
}

// Where the address leads inside of the page; else the latest send stands open.
function goTo(send, step, latest) {
  const target = document.getElementById(send ? `send-${send}` : step ? `step-${step}` : `send-${latest}`);
  if (!target) return;
  target.open = true;
  if (send || step) { target.scrollIntoView({ block: step ? "center" : "start" }); (target.querySelector("summary") ?? target).focus(); }
}

function heading(session) {
  const above = session.parent_session_id;
  return [
    h("p", { class: "up" }, h("a", { href: above ? link("session", { id: above }) : "#/", "data-up": true }, above ? "parent session" : "all sessions")),
    h("h1", {}, bdi(session.title.shown || session.session_id)),
    h("div", { class: "under standing" }, state(session.outcome || "idle"), h("span", { class: "id" }, bdi(session.session_id)),
      session.kind !== "root" ? badge(session.kind) : null, session.archived ? badge("archived") : null, session.agent ? h("span", {}, plain(session.agent)) : null),
    session.run ? null : tiles([
      ["Sends", count(session.send_index)], ["Rounds", count(session.rounds), several(session.tool_calls, "tool call")],
      ["Input tokens", compact(session.prompt_tokens)], ["Output tokens", compact(session.completion_tokens)],
      session.cost ? ["Cost", money(session.cost)] : null,
    ]),
  ].filter(Boolean);
}

function olderSends(id, next, sends) {
  const button = h("button", { type: "button", class: "more", hidden: next === null }, "Earlier sends");
  button.addEventListener("click", async () => {
    const page = await ask("timeline", { id, before: next });
    const views = page.sends.map((send) => sendView(id, send));
    sends.prepend(...views);
    views.at(-1)?.querySelector("summary").focus();
    from(page.next);
  });
  const from = (place) => { next = place; button.hidden = next === null; };
  return { button, from };
}

// It is asked after the page is there.
async function examine(id, place) {
  const { state: how, findings, left_out: unread } = await ask("doctor", { id });
  const told = findings.map((found) => h("li", {}, badge(found.code), " ", plain(found.text), h("span", { class: "fix" }, plain(found.fix))));
  place.replaceChildren(h("h2", {}, "Doctor"), h("p", {}, state(how), told.length ? null : h("span", { class: "dim" }, " nothing is the matter")),
    told.length ? h("ul", {}, told) : "",
    unread ? h("p", { class: "dim" }, `The history is long: ${count(unread)} records before the last send were not looked at. `, h("code", {}, "power-loop doctor"), " reads them all.") : "");
}

// While nobody told this page, more was said than the last page of the timeline holds.
const leavesGap = (sends, fresh) => sends.lastElementChild !== null && fresh.length > 0
  && fresh[0].send > Number.parseInt(sends.lastElementChild.id.slice("send-".length), 10) + 1;

// Replace what changed and leave open what is open.
function replaceSends(id, sends, fresh) {
  for (const send of fresh) {
    const there = document.getElementById(`send-${send.send}`);
    if (there && there.dataset.seq === String(send.through_seq)) continue;
    const view = sendView(id, send);
    if (there) { view.open = there.open; there.replaceWith(view); } else { view.open = true; sends.append(view); }
  }
}
