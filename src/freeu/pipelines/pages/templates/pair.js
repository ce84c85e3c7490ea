  const press = (button, name) => document.querySelectorAll(`[data-${name}]`).forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
  const on = (name, act) => document.querySelectorAll(`[data-${name}]`).forEach((button) => button.addEventListener("click", () => { press(button, name); act(button.getAttribute(`data-${name}`)); }));
  on("view", (view) => main.classList.toggle("beside", view === "beside"));
  // Beyond the first zoom the page may scroll sideways inside a pair: that is what zooming in is for.
  on("zoom", (zoom) => { main.style.setProperty("--zoom", zoom); main.classList.toggle("wide", Number(zoom) > {{ zoom }}); });
  on("pixels", (mode) => main.classList.toggle("pixels", mode === "sharp"));
  on("theme-to", (theme) => { document.documentElement.dataset.theme = theme; });
  for (const pair of document.querySelectorAll(".pair")) {
    const input = pair.querySelector("input"), left = pair.querySelector(".tag.l"), right = pair.querySelector(".tag.r");
    const show = () => {
      const cut = Number(input.value);
      pair.style.setProperty("--cut", `${cut}%`);
      left.style.opacity = cut < 12 ? 0 : 1;
      right.style.opacity = cut > 88 ? 0 : 1;
      input.setAttribute("aria-valuetext", `${cut} % ${input.dataset.left ?? "without FreeU"}`);
    };
    const drag = (event) => {
      const box = pair.getBoundingClientRect();
      input.value = String(Math.round(100 * (event.clientX - box.left) / box.width));
      show();
    };
    // The range's own thumb is offset at both ends, so the pointer is followed here; keys stay with the range.
    pair.addEventListener("pointerdown", (event) => {
      if (main.classList.contains("beside") || event.button !== 0) return;
      pair.setPointerCapture(event.pointerId);
      drag(event);
      event.preventDefault();
      input.focus({ preventScroll: true });
    });
    pair.addEventListener("pointermove", (event) => { if (pair.hasPointerCapture(event.pointerId)) drag(event); });
    input.addEventListener("input", show);
    show();
  }
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const block = document.getElementById(button.dataset.copy);
      let done = true;
      try { await navigator.clipboard.writeText(block.textContent); } catch {
        // Without permission (some browsers, pages from disk) the old way works.
        const range = document.createRange(); range.selectNodeContents(block);
        const selection = getSelection(); selection.removeAllRanges(); selection.addRange(range);
        done = document.execCommand("copy");
      }
      button.textContent = done ? "Copied" : "Press Ctrl+C";
      setTimeout(() => { button.textContent = "Copy"; }, 1600);
    });
  }
