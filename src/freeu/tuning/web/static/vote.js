// The page of a search by votes: shows pairs, sends votes until they are acknowledged, and ends stages.
"use strict";

const pause = (milliseconds) => new Promise((resume) => setTimeout(resume, milliseconds));
const main = document.querySelector("main");
const find = (selector) => document.querySelector(selector);
const images = { left: find("[data-side=left] img"), right: find("[data-side=right] img") };
const choices = [...document.querySelectorAll(".choices button")];
const status = find("#status");
const words = {
  search: ["Search: vote {done} of {total}", "End the search", "End the search here? The last part follows: votes that decide between what was found and none."],
  final: ["Last part, which decides: vote {done} of {total}", "End the verdict", "End here? Without all final votes there is no verdict, and the answer is none."],
  done: ["{done} of {total} final votes", "", ""],
};
let state = JSON.parse(main.dataset.state);
let busy = true;
let shown = 0; // when both images became visible

function say(text, problem = false) {
  status.textContent = text;
  status.classList.toggle("problem", problem);
}

function enable(on) {
  busy = !on;
  // Not "disabled": that would remove the keyboard focus.
  for (const button of choices) button.setAttribute("aria-disabled", String(!on));
  find("#undo").disabled = !state.undo;
  main.classList.toggle("loading", !on);
  if (!on) delete main.dataset.ready;
}

/** Ask until the server answers; a vote that is sent twice counts once. */
async function ask(path, body) {
  for (let tries = 0; ; tries += 1) {
    let answer = null;
    try {
      answer = await fetch(path, body === undefined ? {} : {
        method: "POST",
        headers: { "content-type": "application/json", "x-csrf-token": main.dataset.token },
        body: JSON.stringify(body),
      });
      if (answer.ok) return await answer.json();
    } catch {
      answer = null;
    }
    if (answer && answer.status < 500 && answer.status !== 429) {
      location.reload(); // the server was started again: the page has its old token
      return new Promise(() => {});
    }
    say("The server does not answer. The vote is kept here and sent again.", true);
    await pause(Math.min(5000, 500 * 2 ** tries));
  }
}

function label() {
  const [count, finish] = words[state.stage];
  const number = state.stage === "done" ? state.done : Math.min(state.done + 1, state.total);
  find("#count").textContent = count.replace("{done}", number).replace("{total}", state.total);
  find("#progress").max = state.total;
  find("#progress").value = state.done;
  find("#finish").textContent = finish;
  find("#finish").hidden = !finish;
}

async function loaded(side, url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  images[side].src = url;
  await images[side].decode();
}

/** Show the pair of the state once its images are there. */
async function show(note = "") {
  label();
  enable(false);
  while (!state.failure && state.stage !== "done" && !state.ready) {
    say(note || "Generating the images ...");
    await pause(300);
    state = await ask("/api/state");
    label();
  }
  if (state.failure) return say(state.failure, true);
  if (state.stage === "done") {
    find("#voting").hidden = true;
    find("#end").hidden = false;
    find("#verdict").textContent = state.verdict;
    say("");
    main.dataset.ready = "done";
    return undefined;
  }
  find("#prompt").textContent = state.pair.prompt;
  try {
    await Promise.all(["left", "right"].map((side) => loaded(side, state.pair[side])));
  } catch {
    await pause(500);
    state = await ask("/api/state");
    return show(note);
  }
  for (const frame of document.querySelectorAll(".frame")) frame.classList.remove("chosen");
  enable(true);
  await new Promise((resume) => requestAnimationFrame(() => requestAnimationFrame(resume)));
  shown = performance.now();
  say(note);
  if (state.next) for (const side of ["left", "right"]) new Image().src = state.next[side];
  main.dataset.ready = `${state.stage}:${state.pair.id}:${state.pair.revision}`;
  return undefined;
}

async function send(path, body, note) {
  enable(false);
  say("Saving ...");
  const answer = await ask(path, body);
  const before = state.stage;
  state = answer.state;
  if (before === "search" && state.stage === "final") note = "The search is over. These votes decide.";
  await show(answer.counted ? note : "This pair had a vote already.");
}

function vote(choice) {
  if (busy) return;
  const frame = find(`[data-side=${choice}]`);
  if (frame) frame.classList.add("chosen");
  const seconds = Math.round(performance.now() - shown) / 1000;
  send("/api/vote", { pair: state.pair.id, revision: state.pair.revision, choice, seconds }, "");
}

function undo() {
  if (!busy && state.undo) send("/api/undo", {}, "The last vote was taken back.");
}

find("#undo").addEventListener("click", undo);
for (const button of choices) button.addEventListener("click", () => vote(button.value));
for (const side of ["left", "right"]) find(`[data-side=${side}]`).addEventListener("click", () => vote(side));
find("#finish").addEventListener("click", () => {
  find("#sure-text").textContent = words[state.stage][2];
  find("#sure").showModal();
});
find("#sure").addEventListener("close", () => {
  if (find("#sure").returnValue === "yes") send("/api/finish", { stage: state.stage }, "");
  find("#sure").returnValue = "";
});
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || find("#sure").open) return;
  const acts = { ArrowLeft: () => vote("left"), ArrowRight: () => vote("right"), ArrowDown: () => vote("tie"), u: undo, U: undo };
  if (!acts[event.key]) return;
  event.preventDefault();
  acts[event.key]();
});
document.documentElement.classList.add("scripted");
show();
