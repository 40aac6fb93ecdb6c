/**
 * Dark or light: what the reader chose, else what the system asks for.
 * It refuses to import anything, because it runs before the first paint.
 */

const storageKey = "reco3-theme";
const backgrounds = { light: "#f6f7f9", dark: "#0f1115" };

/** @typedef {"light" | "dark"} Theme */

/** @returns {Theme} */
export function currentTheme() {
  const chosen = document.documentElement.dataset["theme"];
  if (chosen === "light" || chosen === "dark") return chosen;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

/** @param {Theme} theme */
export function chooseTheme(theme) {
  applyTheme(theme);
  try {
    localStorage.setItem(storageKey, theme);
  } catch {
    // A browser that keeps nothing still shows the theme until the page is left.
  }
}

/** @param {Theme} theme */
function applyTheme(theme) {
  document.documentElement.dataset["theme"] = theme;
  for (const meta of document.querySelectorAll('meta[name="theme-color"]')) {
    meta.setAttribute("content", backgrounds[theme]);
  }
}

function rememberedTheme() {
  try {
    return localStorage.getItem(storageKey);
  } catch {
    return null;
  }
}

const remembered = rememberedTheme();
if (remembered === "light" || remembered === "dark") applyTheme(remembered);
