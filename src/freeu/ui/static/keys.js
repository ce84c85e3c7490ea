// Keys of the votes: the buttons that they stand for are pressed, unless somebody is writing.
"use strict";
document.addEventListener("keydown", (event) => {
  const buttons = { 1: "vote_left", 2: "vote_tie", 3: "vote_right", n: "vote_next", u: "vote_undo" };
  const name = buttons[String(event.key).toLowerCase()];
  const writes = "textarea, select, [contenteditable], input:not([type=radio], [type=checkbox], [type=range])";
  if (!name || event.repeat || event.ctrlKey || event.altKey || event.metaKey || event.target.closest?.(writes)) return;
  const button = document.getElementById(name);
  if (!button || button.disabled) return;
  event.preventDefault();
  button.click();
});
