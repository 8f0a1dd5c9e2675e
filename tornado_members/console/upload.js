/** Sends a file to POST /members/import and reports the progress, which fetch() cannot do. */

import { Problem, Unreachable } from "./api.js";

/**
 * @param {import("./api.js").Api} api
 * @param {File} file
 * @param {URLSearchParams} parameters
 * @param {string} mediaType
 * @param {{progress: (share: number) => void, text: (piece: string) => void, signal: AbortSignal}} to
 * @returns {Promise<void>} resolved at the end of the response
 */
export function upload(api, file, parameters, mediaType, to) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let read = 0;
    const deliver = () => {
      if (request.status !== 200) return;
      const received = request.responseText; // read once: it may grow in between
      const piece = received.slice(read);
      read = received.length;
      to.text(piece);
    };
    request.open("POST", api.url(`/members/import?${parameters}`));
    request.setRequestHeader("Authorization", `Bearer ${api.token}`);
    request.setRequestHeader("Content-Type", mediaType);
    request.upload.onprogress = (event) => to.progress(event.total ? event.loaded / event.total : 1);
    request.onprogress = deliver;
    request.onload = () => {
      deliver();
      if (request.status === 200) resolve();
      else reject(new Problem(request.status, parse(request.responseText), new Headers()));
    };
    request.onerror = () => reject(new Unreachable());
    request.onabort = () => reject(new DOMException("", "AbortError"));
    to.signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

/** @param {string} text */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
