// Waiting with an end: a caller is answered although the kernel has not.

import type { Clock } from "./ports.js";

/** What work comes to, or LATE when it takes longer. The work itself goes on. */
export async function within<T>(clock: Clock, ms: number, work: Promise<T>): Promise<T | "LATE"> {
  let cancel = (): void => {};
  const late = new Promise<"LATE">((resolve) => {
    cancel = clock.after(ms, () => resolve("LATE"));
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    cancel();
  }
}
