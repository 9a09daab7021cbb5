"use strict";
// Runs before the first paint: the theme and text size chosen on this device. No choice means the system's.
(() => {
  const root = document.documentElement;
  try {
    const theme = localStorage.getItem("assent.theme");
    const size = localStorage.getItem("assent.size");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    if (size === "small" || size === "large") root.dataset.size = size;
  } catch {
    // Storage is switched off in this browser; the system's theme it is.
  }
})();
