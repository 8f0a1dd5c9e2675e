/** Rates and ratios between two summaries of GET /status. */

/**
 * @typedef {object} Summary
 * @property {{bounds: number[], durations: number[]}} requests
 * @property {{hit: number, miss: number, bypass: number}} cache
 */
/** @typedef {{rate: number, hits: number | null, latency: number | null}} Figures */

/**
 * Return the figures for the time between two summaries, or null if the counters were reset.
 * @param {Summary} before @param {Summary} after @param {number} seconds
 * @returns {Figures | null}
 */
export function figuresBetween(before, after, seconds) {
  const counts = after.requests.durations.map((n, i) => n - (before.requests.durations[i] ?? 0));
  if (seconds <= 0 || counts.some((n) => n < 0)) return null;
  const requests = sum(counts);
  const hits = after.cache.hit - before.cache.hit;
  const reads = hits + after.cache.miss - before.cache.miss + after.cache.bypass - before.cache.bypass;
  return {
    rate: requests / seconds,
    hits: reads > 0 ? hits / reads : null,
    latency: requests > 0 ? quantile(after.requests.bounds, counts, 0.99) : null,
  };
}

/**
 * Return a quantile of a histogram: the smallest bound below which this share of the values lies.
 * @param {number[]} bounds @param {number[]} counts @param {number} share
 */
export function quantile(bounds, counts, share) {
  const wanted = share * sum(counts);
  let seen = 0;
  for (let i = 0; i < bounds.length; i += 1) {
    seen += counts[i];
    if (seen >= wanted) return bounds[i];
  }
  return bounds[bounds.length - 1];
}

/** @param {number[]} numbers */
function sum(numbers) {
  return numbers.reduce((total, n) => total + n, 0);
}

/**
 * Return the path of a line through values, in a box of 100 by 40; gaps where a value is null.
 * @param {(number | null)[]} values @param {number} capacity the number of values in a full box
 * @param {number} top the value at the upper edge
 */
export function linePath(values, capacity, top) {
  let path = "";
  let pen = "M";
  values.forEach((value, i) => {
    if (value === null) {
      pen = "M";
      return;
    }
    const x = 100 - ((values.length - 1 - i) / Math.max(capacity - 1, 1)) * 100;
    const y = 38 - (top > 0 ? value / top : 0) * 36;
    path += `${pen}${x.toFixed(2)} ${y.toFixed(2)}`;
    pen = "L";
  });
  return path;
}
