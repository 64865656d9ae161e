// Time for the broker.

import type { Clock } from "../broker/ports.js";

/** setTimeout takes no more (2^31 - 1 ms, 24.8 days), and fires at once when it is asked for more. */
const LONGEST_TIMER_MS = 0x7fffffff;

/** Wall clock with fractions, so that the time of an operation shorter than a millisecond is not 0. */
export const systemClock: Clock = {
  now: () => performance.timeOrigin + performance.now(),
  after: (ms, callback) => {
    let timer: NodeJS.Timeout;
    const wait = (rest: number): void => {
      const step = Math.min(rest, LONGEST_TIMER_MS);
      timer = setTimeout(() => (rest > step ? wait(rest - step) : callback()), step).unref();
    };
    wait(ms);
    return () => clearTimeout(timer);
  },
};
