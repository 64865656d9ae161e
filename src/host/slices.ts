// Long work in short turns: between two slices the event loop sees to everything else.

import { setImmediate as nextTurn } from "node:timers/promises";

/** Of items that take some microseconds each. */
const AT_ONCE = 500;

export async function inSlices<T>(items: readonly T[], work: (item: T) => void): Promise<void> {
  for (let from = 0; from < items.length; from += AT_ONCE) {
    if (from > 0) await nextTurn();
    for (const item of items.slice(from, from + AT_ONCE)) work(item);
  }
}
