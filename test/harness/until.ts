/** Asks again until the condition holds; what failed last when the deadline passes. For what the kernel or another process does in its own time. */
export async function until<T>(what: string, ask: () => T | Promise<T>, holds: (value: T) => boolean, deadlineMs = 10_000): Promise<T> {
  const deadline = performance.now() + deadlineMs;
  for (;;) {
    const value = await ask();
    if (holds(value)) return value;
    if (performance.now() > deadline) throw new Error(`${what}: not so after ${deadlineMs} ms; last seen: ${show(value)}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function show(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) => (typeof part === "bigint" ? part.toString() : part));
}
