// Streamlit's toasts are dialogs without a name; screen readers get what they say as one.
(() => {
  if (window.namesToasts) return;
  window.namesToasts = true;
  function name(toast) {
    toast.removeAttribute("aria-labelledby");
    toast.setAttribute("aria-label", (toast.querySelector("[data-testid=stMarkdownContainer]") ?? toast).textContent);
  }
  const unnamed = "[data-testid=stToast]:not([aria-label])";
  new MutationObserver(() => document.querySelectorAll(unnamed).forEach(name)).observe(document.body, { childList: true, subtree: true });
})();
