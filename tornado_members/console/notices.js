/** Short messages: what was done, and whether the service can be reached. */

import { fill, h } from "./dom.js";
import { text } from "./text.js";

const SHOWN_MS = 6000;

/** `<app-notices>`: announced by screen readers without moving the focus. */
export class AppNotices extends HTMLElement {
  connectedCallback() {
    this.setAttribute("role", "status");
    this.setAttribute("aria-live", "polite");
  }

  /** Show a message for a moment. @param {string} message */
  say(message) {
    const notice = h("p", { class: "notice" }, message);
    this.append(notice);
    setTimeout(() => notice.remove(), SHOWN_MS);
  }
}

/** `<offline-banner>`: shown while the service cannot be reached. */
export class OfflineBanner extends HTMLElement {
  connectedCallback() {
    this.setAttribute("role", "alert");
    this.hidden = true;
  }

  /** @param {boolean} online */
  set online(online) {
    this.hidden = online;
    if (online) fill(this);
    else fill(this, h("strong", {}, text.errors.offline), " ", text.errors.offlineHelp);
  }
}

customElements.define("app-notices", AppNotices);
customElements.define("offline-banner", OfflineBanner);
