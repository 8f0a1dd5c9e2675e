/** Short messages: completed actions, and whether the service is reachable. */

import { fill, h } from "./dom.js";
import { text } from "./text.js";

const SHOWN_MS = 6000;

/** `<app-notices>`: messages that screen readers announce without moving the focus. */
export class AppNotices extends HTMLElement {
  connectedCallback() {
    this.setAttribute("role", "status");
    this.setAttribute("aria-live", "polite");
  }

  /** Show a message for a moment. @param {string} message */
  show(message) {
    const notice = h("p", { class: "notice" }, message);
    this.append(notice);
    setTimeout(() => notice.remove(), SHOWN_MS);
  }
}

/** `<offline-banner>`: shown while the service is unreachable. */
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
