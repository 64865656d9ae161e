// For clients that count microseconds: the event loop looks for the answer instead of sleeping until it comes. A processor that has gone to sleep takes tens of microseconds to
// wake, in a virtual machine above all. Costs processor time, of this process alone. Everything else on the loop goes on.

export const MOST_SPIN_MICROSECONDS = 10_000;

/** Waits for the work with the loop awake, for at most so long; then as usual. 0: not at all. */
export async function spinning<T>(microseconds: number, work: Promise<T>): Promise<T> {
  if (microseconds === 0) return await work;
  const end = performance.now() + microseconds / 1000;
  let over = false;
  // While an immediate is waiting, libuv asks the kernel what is ready and does not block.
  const turn = (): void => {
    if (!over && performance.now() < end) setImmediate(turn);
  };
  setImmediate(turn);
  try {
    return await work;
  } finally {
    over = true;
  }
}
