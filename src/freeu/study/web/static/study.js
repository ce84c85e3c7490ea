// Script of the study's pages. Every page works without it.
"use strict";

const pause = (milliseconds) => new Promise((resume) => setTimeout(resume, milliseconds));

/** The voting page: answers by click, touch or key, sent repeatedly until they are acknowledged. */
function voting(main) {
  const words = JSON.parse(main.dataset.words);
  const root = main.dataset.root;
  const find = (selector) => main.querySelector(selector);
  const status = find("#status");
  const ballot = find("#ballot");
  const undoForm = find("#undo");
  const undoButton = undoForm.querySelector("button");
  const choices = [...ballot.querySelectorAll("button[name=choice]")];
  const frames = { left: find("[data-side=left]"), right: find("[data-side=right]") };
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const preloaded = new Map(); // media of the next task, by id
  let state = JSON.parse(main.dataset.state);
  let busy = true;
  let shown = 0; // when both images became visible
  let playing = false;

  function say(text, problem = false) {
    status.textContent = text;
    status.classList.toggle("problem", problem);
  }

  function enable(on) {
    busy = !on;
    // Not "disabled": that would remove the keyboard focus.
    for (const button of choices) button.setAttribute("aria-disabled", String(!on));
    undoButton.disabled = !state.undo;
    undoButton.setAttribute("aria-disabled", String(!on));
  }

  // Media.

  function element(media, id, side) {
    const one = document.createElement(media === "video" ? "video" : "img");
    if (media === "video") {
      Object.assign(one, { muted: true, loop: true, playsInline: true, preload: "auto" });
      if (side) one.setAttribute("aria-label", words[side + "_video"]);
    } else if (side) {
      one.alt = words[side + "_image"];
    }
    one.src = root + "/media/" + encodeURIComponent(id);
    return one;
  }

  function loaded(one) {
    if (one.tagName === "IMG") return one.decode();
    return new Promise((resolve, reject) => {
      if (one.readyState >= 2) return resolve();
      one.addEventListener("loadeddata", () => resolve(), { once: true });
      one.addEventListener("error", () => reject(new Error("media")), { once: true });
      one.load();
    });
  }

  /** A loaded element; loading is retried until it succeeds. */
  async function fetched(media, id, side) {
    let one = preloaded.get(id);
    preloaded.delete(id);
    for (let tries = 0; ; tries += 1) {
      one ??= element(media, id, side);
      if (media === "video") one.setAttribute("aria-label", words[side + "_video"]);
      else one.alt = words[side + "_image"];
      try {
        await loaded(one);
        return one;
      } catch {
        one = null;
        say(words.media_failed, true);
        await pause(Math.min(8000, 500 * 2 ** tries));
        if (tries === 4) location.reload(); // the task may have changed
      }
    }
  }

  function play(on) {
    playing = on;
    const button = find("#pause");
    button.textContent = on ? words.pause : words.play;
    for (const video of main.querySelectorAll("video")) {
      if (on) video.play().catch(() => { playing = false; button.textContent = words.play; });
      else video.pause();
    }
  }

  /** Show the current task; answers are possible when both images are loaded. */
  async function show(spoken) {
    const task = state.task;
    if (!task) return location.assign(root + "/done");
    enable(false);
    main.classList.add("loading");
    find("#progress").value = state.done;
    find("#count").textContent = words.progress.replace("{done}", state.done).replace("{total}", state.total);
    find("#question").textContent = task.question;
    find("#prompt").textContent = task.prompt;
    find(".prompt").hidden = !task.prompt;
    document.title = document.title.replace(/^\d+ \/ \d+/, state.done + 1 + " / " + state.total);
    if (!spoken) say(words.loading);
    const both = await Promise.all(["left", "right"].map((side) => fetched(task.media, task[side], side)));
    for (const [number, side] of ["left", "right"].entries()) {
      both[number].width = task.width;
      both[number].height = task.height;
      frames[side].replaceChildren(both[number]);
      frames[side].classList.remove("chosen");
    }
    main.classList.remove("loading");
    if (task.media === "video") {
      for (const video of both) video.currentTime = 0;
      play(!still.matches);
    }
    await new Promise((resume) => requestAnimationFrame(() => requestAnimationFrame(resume)));
    shown = performance.now();
    enable(true);
    say(spoken);
    find("#spoken").textContent = spoken ? [find("#count").textContent, task.question, task.prompt].join(". ") : "";
    preloaded.clear();
    if (state.following) {
      for (const side of ["left", "right"]) {
        const one = element(state.following.media, state.following[side], "");
        preloaded.set(state.following[side], one);
        loaded(one).catch(() => preloaded.delete(state.following[side]));
      }
    }
    main.dataset.ready = task.task + ":" + task.revision;
  }

  // Answers.

  /** Send until the answer is acknowledged. An answer that is sent twice counts once. */
  async function send(path, body) {
    say(words.saving);
    for (let tries = 0; ; tries += 1) {
      let answer = null;
      try {
        answer = await fetch(root + path, {
          method: "POST",
          headers: { "content-type": "application/json", "x-csrf-token": main.dataset.csrf },
          body: JSON.stringify(body),
        });
        if (answer.ok || answer.status === 409) return await answer.json();
      } catch {
        answer = null;
      }
      if (answer && answer.status < 500 && answer.status !== 429) {
        location.reload();
        return new Promise(() => {});
      }
      say(words.offline, true);
      await Promise.race([
        pause(Math.min(10000, 500 * 2 ** tries)),
        new Promise((resume) => addEventListener("online", resume, { once: true })),
      ]);
    }
  }

  const kept = "freeu-answer" + root;

  async function finish(path, body) {
    enable(false);
    try { sessionStorage.setItem(kept, JSON.stringify({ path, body })); } catch { /* storage may be disabled */ }
    const found = await send(path, body);
    try { sessionStorage.removeItem(kept); } catch { /* as above */ }
    state = found.state;
    await show({ counted: words.saved, undone: words.undone }[found.outcome] ?? words.elsewhere);
  }

  function vote(choice) {
    if (busy || !choices.some((button) => button.value === choice)) return;
    if (frames[choice]) frames[choice].classList.add("chosen");
    const seconds = Math.round(performance.now() - shown) / 1000;
    finish("/api/vote", { task: state.task.task, revision: state.task.revision, choice, seconds });
  }

  function undo() {
    if (!busy && state.undo) finish("/api/undo", state.undo);
  }

  function zoom(on) {
    document.body.classList.toggle("zoomed", on);
    find("#zoom").setAttribute("aria-pressed", String(on));
    find("#zoom").textContent = on ? words.unzoom : words.zoom;
  }

  ballot.addEventListener("submit", (event) => {
    event.preventDefault();
    if (event.submitter) vote(event.submitter.value);
  });
  undoForm.addEventListener("submit", (event) => {
    event.preventDefault();
    undo();
  });
  for (const side of ["left", "right"]) frames[side].addEventListener("click", () => vote(side));
  find("#zoom").addEventListener("click", () => zoom(!document.body.classList.contains("zoomed")));
  find("#pause").addEventListener("click", () => play(!playing));
  still.addEventListener("change", () => { if (state.task?.media === "video") play(!still.matches); });

  const keys = find("#keys");
  try { keys.checked = localStorage.getItem("freeu-keys") !== "off"; } catch { /* storage may be disabled */ }
  keys.addEventListener("change", () => {
    try { localStorage.setItem("freeu-keys", keys.checked ? "on" : "off"); } catch { /* as above */ }
  });
  document.addEventListener("keydown", (event) => {
    if (!keys.checked || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.target.closest?.("input:not([type=checkbox]), textarea, select")) return;
    const acts = {
      ArrowLeft: () => vote("left"),
      ArrowRight: () => vote("right"),
      t: () => vote("tie"),
      u: undo,
      z: () => zoom(!document.body.classList.contains("zoomed")),
      Escape: () => zoom(false),
      p: () => { if (state.task?.media === "video") play(!playing); },
    };
    const act = acts[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    if (event.key !== "Escape") event.preventDefault();
    act();
  });

  // A page from the back-forward cache may show a task that was answered since.
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

  document.documentElement.classList.add("scripted");
  find("#zoom").hidden = false;
  find("#pause").hidden = state.task.media !== "video";
  find(".keys").hidden = false;

  // An answer that was being sent when the page was reloaded.
  let waiting = null;
  try { waiting = JSON.parse(sessionStorage.getItem(kept)); } catch { /* nothing kept */ }
  const same = waiting && waiting.path === "/api/vote" && waiting.body.task === state.task.task;
  if (same && waiting.body.revision === state.task.revision) finish(waiting.path, waiting.body);
  else show("");
}

/** The personal link as a full URL, and a button that copies it. */
function personalLink(link) {
  link.textContent = link.href;
  const button = document.querySelector("[data-copy]");
  if (!navigator.clipboard) return;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(link.href);
    document.querySelector("[data-copied]").textContent = button.dataset.done;
  });
}

/** Refresh the progress page every few seconds. */
async function refresh(part) {
  for (;;) {
    await pause(5000);
    if (document.hidden || part.contains(document.activeElement)) continue;
    try {
      const answer = await fetch(location.href, { redirect: "error" });
      if (!answer.ok) continue;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-live]");
      if (fresh) part.replaceChildren(...fresh.childNodes);
    } catch { /* retried with the next refresh */ }
  }
}

const voted = document.querySelector("[data-vote]");
if (voted) voting(voted);
const address = document.querySelector("[data-address]");
if (address) personalLink(address);
const live = document.querySelector("[data-live]");
if (live) refresh(live);
// The code follows the # of a personal link, which browsers never send. It is removed from the address bar at once.
const code = document.querySelector("[data-code]");
if (code && location.hash.length > 1) {
  code.value = location.hash.slice(1);
  history.replaceState(null, "", location.pathname + location.search);
}
