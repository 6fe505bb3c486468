// What stands beside the timeline: who a session waits for, and what belongs to it.

import { ask, badge, bdi, count, duration, h, link, passage, plain, say, short, state, tell, when } from "./dom.js";

export function beside(session) {
  return [
    part("Family", session.tree.length > 1 ? session.tree.map((one) => member(session, one)) : []),
    part("Inbox", session.inbox.map((item) => h("li", {}, badge(item.mode ?? "queue"), " ", bdi(item.record.text.shown || item.record.kind),
      item.not_before ? h("div", { class: "dim" }, "not before ", when(item.not_before)) : null))),
    part("Timers", session.timers.map((timer) => h("li", {}, state(timer.status), " ", when(timer.due_at), repeats(timer), h("div", {}, plain(timer.note))))),
    part("Jobs", session.jobs.map((job) => h("li", {}, state(job.status), " ", badge(job.kind), job.return_code === null ? "" : ` code ${job.return_code}`,
      h("div", {}, job.kind === "command" ? h("code", {}, plain(short(job.command, 200))) : h("a", { href: link("session", { id: job.job_id }) }, bdi(job.command || job.job_id)))))),
    part("Notes", session.notes.map((note) => h("li", {}, note.pinned ? badge("pinned") : null, ` ${plain(note.content)}`))),
    facts(session),
    session.prompt.chars ? h("section", { class: "card" }, h("details", {}, h("summary", {}, "System prompt of its own"), passage(session.prompt, null))) : null,
  ].filter(Boolean);
}

function repeats(timer) {
  if (timer.cron) return [" ", h("code", { class: "whole" }, plain(timer.cron)), h("span", { class: "dim" }, ` ${plain(timer.tz)}`)];
  return timer.interval_s ? h("span", { class: "dim" }, ` every ${duration(timer.interval_s * 1000)}`) : "";
}

function part(title, lines) {
  return lines.length ? h("section", { class: "card" }, h("h2", {}, title), h("ul", {}, lines)) : null;
}

function member(session, one) {
  const here = one.session_id === session.session_id;
  const name = here ? h("strong", {}, bdi(one.session_id)) : h("a", { href: link("session", { id: one.session_id }) }, bdi(one.session_id));
  return h("li", { class: one.parent ? "child" : null, "aria-current": here ? "true" : null }, h("span", { class: "id" }, name), " ", badge(one.kind),
    one.lifecycle ? h("span", { class: "dim" }, ` ${plain(one.lifecycle)}`) : "");
}

function facts(session) {
  const lease = session.holder ? `${session.held ? "held" : "expired"}: ${session.holder}` : "free";
  const rows = [["Records", count(session.head)], ["Created", when(session.created_at)], ["Changed", when(session.updated_at)], ["Lease", lease],
    session.takeovers ? ["Takeovers", `${session.takeovers} without progress`] : null, ...Object.entries(session.metadata)].filter(Boolean);
  const shown = (value) => (value instanceof Node ? value : plain(typeof value === "object" ? JSON.stringify(value) : value));
  return h("section", { class: "card" }, h("h2", {}, "Facts"), h("dl", { class: "facts" }, rows.map(([name, value]) => [h("dt", {}, plain(name)), h("dd", {}, shown(value))])));
}

// What somebody is asked for stands above everything else.
export function waits(session) {
  const waiting = session.waiting;
  if (!waiting.length) return [];
  const title = waiting.length === 1 ? "It waits for an answer" : `It waits for ${waiting.length} answers`;
  return [h("section", { class: "card asked" }, h("h2", {}, title), h("ul", {}, waiting.map((asked) => question(session, asked))))];
}

function question(session, asked) {
  const given = asked.arguments ? h("pre", { class: "passage" }, written(asked)) : null;
  // The prompt of an approval says the arguments on one line; they stand below.
  const prompt = h("strong", {}, given ? `May ${plain(asked.tool_name)} run with these arguments?` : plain(asked.prompt ?? ""));
  return h("li", {}, h("div", {}, badge(asked.kind), " ", prompt, given ? null : h("span", { class: "dim" }, ` ${plain(asked.tool_name ?? "")}`)), given,
    session.actions ? answerForm(session, asked, (exact) => instead(given ?? prompt, given ? written(exact) : plain(exact.prompt ?? "")))
      : h("p", { class: "dim" }, asked.hidden ? "What looks like a secret is hidden. " : "", "Start the inspector with --allow-actions to answer here."));
}

// What was shown in part is shown whole, to the keyboard and the screen reader too.
function instead(place, text) {
  place.replaceChildren(text);
  place.tabIndex = -1;
  place.focus();
}

const written = (asked) => plain(typeof asked.arguments === "string" ? asked.arguments : JSON.stringify(asked.arguments, null, 2));

// Nobody should approve what is not shown: what is hidden is shown first, here and to whoever asks. The digest comes with it.
function hiddenPart(about, approve, show) {
  const button = h("button", { type: "button", onclick: async () => {
    try { show(await ask("asked", { id: about.session_id, interaction_id: about.interaction_id })); note.remove(); if (approve) approve.disabled = false; }
    catch (error) { say(error.message); }
  } }, "Show all of it");
  const note = h("p", { class: "hidden-part" }, "Not all of this is shown: it looks like a secret, or is long. ", approve ? "What is approved is the whole, so look at it first. " : "", button);
  if (approve) approve.disabled = true;
  return note;
}

// As `contracts/options.py` has them.
const named = (...values) => values.find((value) => value !== undefined && value !== null && value !== "");
const answerOf = (option) => named(option.id, option.label, option);
const labelOf = (option) => plain(named(option.label, option.id, typeof option === "string" ? option : JSON.stringify(option)));

function answerForm(session, asked, show) {
  const about = { session_id: session.session_id, interaction_id: asked.interaction_id };
  const done = async (data, told) => {
    const buttons = [...form.querySelectorAll("button:enabled")];
    for (const button of buttons) button.disabled = true;
    try { await tell({ ...about, ...data }); say(told); form.replaceChildren(h("p", {}, `${told}. Whoever drives the session next goes on with it.`)); }
    catch (error) { say(error.message); form.append(h("p", { class: "bad" }, plain(error.message))); }
    for (const button of buttons) button.disabled = false;
  };
  const form = h("form", { class: "answer", onsubmit: (event) => event.preventDefault() });
  const press = (text, kind, act) => h("button", { type: "button", class: kind, onclick: act }, text);
  const chooses = asked.options?.length > 0;
  const choose = (option) => h("span", { class: "option" }, press(labelOf(option), null, () => done({ answer: answerOf(option) }, "Answered")),
    option.description ? h("span", { class: "dim" }, ` ${plain(option.description)} `) : null);
  const choices = h("div", {}, (chooses ? asked.hidden ? [] : asked.options : asked.kind === "confirm" ? ["yes", "no"] : []).map(choose));
  if (asked.hidden && asked.kind !== "approval") {
    form.append(hiddenPart(about, null, (exact) => { show(exact); if (chooses) choices.replaceChildren(...exact.options.map(choose)); }));
  }
  if (asked.kind === "approval") {
    const note = h("input", { name: "note", "aria-label": "Note", placeholder: "Note (optional)" });
    let { digest } = asked;
    const decide = (approved) => () => done({ approved, digest, note: note.value }, approved ? "Approved" : "Denied");
    const approve = press("Approve", "primary", decide(true));
    if (asked.hidden) form.append(hiddenPart(about, approve, (exact) => { ({ digest } = exact); show(exact); }));
    form.append(note, approve, press("Deny", null, decide(false)));
  } else if (chooses || asked.kind === "confirm") {
    form.append(choices);
  } else {
    const answer = h("input", { name: "answer", "aria-label": "Answer", placeholder: "Answer", required: true });
    form.append(answer, press("Answer", "primary", () => done({ answer: answer.value }, "Answered")));
  }
  return form;
}
