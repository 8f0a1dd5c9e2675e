/** The colour scheme: light, dark, or that of the system. */

const STORAGE_KEY = "tornado-members-theme";

/** @type {readonly ["auto", "light", "dark"]} */
export const THEMES = ["auto", "light", "dark"];

/** Return the chosen appearance. @returns {string} */
export function currentTheme() {
  return localStorage.getItem(STORAGE_KEY) ?? "auto";
}

/** @param {string} theme */
export function chooseTheme(theme) {
  if (theme === "auto") localStorage.removeItem(STORAGE_KEY);
  else localStorage.setItem(STORAGE_KEY, theme);
  applyTheme();
}

export function applyTheme() {
  document.documentElement.dataset.theme = currentTheme();
}

applyTheme();
