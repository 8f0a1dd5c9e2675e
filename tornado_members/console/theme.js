/** Light, dark, or as the system is. */

const STORED = "tornado-members-theme";

/** @type {readonly ["auto", "light", "dark"]} */
export const THEMES = ["auto", "light", "dark"];

/** Return the chosen appearance. @returns {string} */
export function presentTheme() {
  return localStorage.getItem(STORED) ?? "auto";
}

/** @param {string} theme */
export function chooseTheme(theme) {
  if (theme === "auto") localStorage.removeItem(STORED);
  else localStorage.setItem(STORED, theme);
  applyTheme();
}

export function applyTheme() {
  document.documentElement.dataset.theme = presentTheme();
}

applyTheme();
