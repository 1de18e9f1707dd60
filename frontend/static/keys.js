// Streamlit takes a switch for a text field, and an option takes Enter for itself; there, keys of buttons would do nothing.
(() => {
  if (window.passesKeysOn) return;
  window.passesKeysOn = true;
  const DEAF = "input[type=checkbox], input[type=radio], [role=radio][aria-checked=true]";
  window.addEventListener("keydown", (event) => {
    const { target, key, code, keyCode } = event;
    if (!target.matches?.(DEAF) || !/^(\S|Enter)$/.test(key) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.stopImmediatePropagation();
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key, code, keyCode, bubbles: true }));
  }, true);
})();
