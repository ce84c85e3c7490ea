  // Two images under one zoom: createViewer({ count, get, moved }) where get(index) gives { text, first, second, note },
  // first and second { src, label, alt }; moved(index) is told of every pair that is shown.
  const createViewer = ({ count, get, moved = () => {} }) => {
    const root = document.getElementById("viewer"), stage = document.getElementById("stage"), help = document.getElementById("help");
    const [one, two, apart] = [".first", ".second", ".apart"].map((name) => stage.querySelector(name));
    const images = [one, two].map((pane) => pane.querySelector("img")), canvas = apart.querySelector("canvas");
    const what = document.getElementById("viewer-what"), percent = document.getElementById("viewer-zoom"), factors = document.getElementById("viewer-factors");
    const MOST = 64, STEP = 1.25, NEAR = 28;
    let index = 0, width = 1, height = 1, zoom = 1, x = 0, y = 0, cut = 50, fitted = true, factor = 4, drawn = "", loading = 0, note = "";
    const view = () => stage.dataset.view;
    const pane = () => (view() === "difference" ? apart : two).getBoundingClientRect();
    const fitting = () => { const box = pane(); return Math.min(box.width / width, box.height / height) || 1; };
    const within = (start, size, room) => (size <= room ? (room - size) / 2 : Math.min(0, Math.max(room - size, start)));
    const place = () => {
      const box = pane();
      x = within(x, width * zoom, box.width);
      y = within(y, height * zoom, box.height);
      const move = `translate(${x}px, ${y}px) scale(${zoom})`;
      for (const picture of [...images, canvas]) picture.style.transform = move;
      percent.value = `${Math.round(100 * zoom)} %`;
    };
    const fit = () => { fitted = true; zoom = fitting(); x = y = 0; place(); };
    // The point of the image under (left, top) of its pane stays where it is.
    const zoomAt = (to, left, top) => {
      const next = Math.min(MOST, Math.max(Math.min(fitting(), 1), to));
      x = left - ((left - x) * next) / zoom;
      y = top - ((top - y) * next) / zoom;
      zoom = next;
      fitted = Math.abs(zoom - fitting()) < 1e-6;
      place();
    };
    const zoomMiddle = (to) => { const box = pane(); zoomAt(to, box.width / 2, box.height / 2); };
    const setCut = (to) => { cut = Math.min(100, Math.max(0, to)); stage.style.setProperty("--cut", `${cut}%`); one.querySelector(".tag").style.opacity = cut < 12 ? 0 : 1; two.querySelector(".tag").style.opacity = cut > 88 && view() === "slider" ? 0 : 1; };
    const difference = () => {
      const wanted = `${images[0].src.length} ${images[0].src.slice(-80)} ${images[1].src.slice(-80)} ${factor}`, tag = apart.querySelector(".tag");
      if (wanted === drawn || view() !== "difference") return;
      if (images[0].naturalWidth !== images[1].naturalWidth || images[0].naturalHeight !== images[1].naturalHeight) {
        canvas.width = canvas.height = 1; tag.textContent = "images of different sizes: no difference"; drawn = ""; return;
      }
      const pixels = images.map((picture) => {
        canvas.width = width; canvas.height = height;
        const context = canvas.getContext("2d", { willReadFrequently: true });
        context.drawImage(picture, 0, 0);
        return context.getImageData(0, 0, width, height);
      });
      const [left, right] = pixels.map((data) => data.data);
      let sum = 0;
      for (let at = 0; at < left.length; at += 4) {
        for (let colour = at; colour < at + 3; colour += 1) { const by = Math.abs(left[colour] - right[colour]); sum += by; left[colour] = Math.min(255, factor * by); }
        left[at + 3] = 255;
      }
      canvas.getContext("2d").putImageData(pixels[0], 0, 0);
      const mean = (sum / (0.75 * left.length)).toFixed(2);
      tag.textContent = `difference ×${factor}, black is equal; mean ${mean} of 255${note ? `; ${note}` : ""}`;
      canvas.setAttribute("aria-label", `The absolute difference of the two images, times ${factor}. Its mean is ${mean} of 255.`);
      drawn = wanted;
    };
    const look = (to) => {
      const before = pane(), middle = [(before.width / 2 - x) / zoom, (before.height / 2 - y) / zoom];
      stage.dataset.view = to;
      root.querySelectorAll("[data-view-to]").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.viewTo === to)));
      factors.hidden = to !== "difference";
      setCut(cut);
      difference();
      if (fitted) { fit(); return; }
      const box = pane();
      x = box.width / 2 - middle[0] * zoom; y = box.height / 2 - middle[1] * zoom;
      place();
    };
    const flip = () => {
      if (view() === "flip") stage.dataset.shown = stage.dataset.shown === "first" ? "second" : "first";
      else { stage.dataset.shown = "first"; look("flip"); }
    };
    const show = async (to) => {
      index = (to + count()) % count();
      const pair = get(index), turn = (loading += 1);
      note = pair.note ?? "";
      what.textContent = pair.text; what.title = pair.text;
      [pair.first, pair.second].forEach((side, number) => {
        images[number].src = side.src; images[number].alt = side.alt;
        [one, two][number].querySelector(".tag").textContent = side.label;
      });
      await Promise.all(images.map((picture) => picture.decode().catch(() => {})));
      if (turn !== loading) return;
      const other = width !== images[0].naturalWidth || height !== images[0].naturalHeight;
      width = images[0].naturalWidth || 1; height = images[0].naturalHeight || 1;
      // An image of another size is shown as large as the first.
      for (const picture of images) { picture.style.width = `${width}px`; picture.style.height = `${height}px`; }
      difference();
      if (other || fitted) fit(); else place();
      moved(index);
    };
    // Browsers refuse to show a dialog itself in full screen.
    const full = () => { (document.fullscreenElement ? document.exitFullscreen() : root.querySelector(".frame").requestFullscreen()).catch(() => {}); };
    root.addEventListener("close", () => { if (document.fullscreenElement) document.exitFullscreen(); });
    const openHelp = () => { if (help.open) help.close(); else help.showModal(); };
    const exact = () => { const now = root.classList.toggle("exact"); root.querySelector("[data-do=exact]").setAttribute("aria-pressed", String(now)); };
    const acts = { back: () => show(index - 1), on: () => show(index + 1), out: () => zoomMiddle(zoom / STEP), in: () => zoomMiddle(zoom * STEP), fit, one: () => zoomMiddle(1), exact, full, help: openHelp, close: () => root.close() };
    const keys = { ArrowLeft: acts.back, ArrowRight: acts.on, " ": flip, d: () => look("difference"), s: () => look("slider"), b: () => look("beside"), "+": acts.in, "=": acts.in, "-": acts.out, 0: fit, 1: acts.one, e: exact, f: full, "?": openHelp };
    root.querySelector("[data-do=full]").hidden = !document.fullscreenEnabled;
    root.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      if (button.dataset.do) acts[button.dataset.do]();
      if (button.dataset.viewTo) { if (button.dataset.viewTo === "flip") flip(); else look(button.dataset.viewTo); }
      if (button.dataset.factor) {
        factor = Number(button.dataset.factor);
        factors.querySelectorAll("button").forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
        difference();
      }
      if (event.detail > 0 && root.open) stage.focus({ preventScroll: true }); // a mouse leaves the keys to the images
    });
    document.getElementById("help-close").addEventListener("click", () => help.close());
    root.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const arrow = { ArrowLeft: -5, ArrowRight: 5 }[event.key];
      const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      if (event.shiftKey && arrow) { if (view() === "slider") setCut(cut + arrow); }
      else if (event.target.closest("button") && (key === " " || key === "Enter")) return;
      else if (keys[key]) keys[key]();
      else return;
      event.preventDefault();
    });
    const pointers = new Map();
    let cutting = false;
    const at = (event) => {
      const panes = view() === "beside" ? [one, two] : [view() === "difference" ? apart : two];
      const boxes = panes.map((part) => part.getBoundingClientRect());
      const box = boxes.find((part) => event.clientX <= part.right && event.clientY <= part.bottom) ?? boxes.at(-1);
      return [event.clientX - box.left, event.clientY - box.top, box];
    };
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      const [left, top] = at(event), lines = event.deltaMode === 1 ? 16 : 1;
      zoomAt(zoom * Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002)), left, top);
    }, { passive: false });
    stage.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      stage.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, [event.clientX, event.clientY]);
      const [left, , box] = at(event);
      const whole = width * zoom <= box.width + 1 && height * zoom <= box.height + 1;
      // Where all of the image is seen there is nothing to move but the slider.
      cutting = view() === "slider" && pointers.size === 1 && (whole || Math.abs(left - (cut / 100) * box.width) < NEAR);
      if (cutting) setCut((100 * left) / box.width); else stage.classList.add("dragged");
    });
    stage.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      const now = [event.clientX, event.clientY], [left, , box] = at(event);
      if (cutting) setCut((100 * left) / box.width);
      else if (pointers.size === 1) { x += now[0] - before[0]; y += now[1] - before[1]; place(); }
      else {
        const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
        const apartBy = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
        const middle = { clientX: (now[0] + other[0]) / 2, clientY: (now[1] + other[1]) / 2 };
        x += (now[0] - before[0]) / 2; y += (now[1] - before[1]) / 2;
        const [across, down] = at(middle);
        zoomAt((zoom * apartBy(now, other)) / apartBy(before, other), across, down);
      }
      pointers.set(event.pointerId, now);
    });
    const up = (event) => { pointers.delete(event.pointerId); if (!pointers.size) { cutting = false; stage.classList.remove("dragged"); } };
    stage.addEventListener("pointerup", up);
    stage.addEventListener("pointercancel", up);
    stage.addEventListener("dblclick", (event) => { const [left, top] = at(event); if (fitted) zoomAt(Math.max(1, 2 * zoom), left, top); else fit(); });
    new ResizeObserver(() => { if (root.open) { if (fitted) fit(); else place(); } }).observe(stage);
    return {
      open: (at_, how = "slider") => {
        if (!root.open) root.showModal();
        stage.focus({ preventScroll: true });
        fitted = true;
        if (how === "flip") stage.dataset.shown = "second";
        look(how);
        return show(at_);
      },
      full, openHelp, again: () => show(index), isOpen: () => root.open || help.open,
    };
  };
