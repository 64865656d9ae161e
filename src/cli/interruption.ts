// Being asked to end, for commands that have something to do before they do.

const ENDING = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export interface Interruption {
  /** Settles with the first signal. */
  readonly first: Promise<void>;
  /** Settles with the second: who sent it does not want to wait. */
  readonly second: Promise<void>;
  /** The signals do again what they do by themselves. */
  stop(): void;
}

/** From here on SIGINT, SIGTERM and SIGHUP do not end the process. */
export function interruption(): Interruption {
  const settle: (() => void)[] = [];
  const next = (): Promise<void> => new Promise((resolve) => settle.push(resolve));
  const [first, second] = [next(), next()];
  const told = (): void => settle.shift()?.();
  for (const signal of ENDING) process.on(signal, told);
  return {
    first,
    second,
    stop: () => {
      for (const signal of ENDING) process.off(signal, told);
    },
  };
}
