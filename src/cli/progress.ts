// A step that takes over a second says what it is doing, on stderr: a device's reset can take minutes, and silence looks like a fault.

import { printable } from "./printable.js";
import type { Terminal } from "./terminal.js";

const PATIENCE_MS = 1000;
const FRAME_MS = 100;
const FRAMES = { unicode: ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"], ascii: ["|", "/", "-", "\\"] } as const;

/** Waits for the work. doing: for example `acquiring 0000:01:00.0`. A terminal gets a line that moves and goes away, anything else one plain line. */
export async function withProgress<T>(terminal: Terminal, doing: string, work: Promise<T>): Promise<T> {
  const what = printable(doing);
  let animation: NodeJS.Timeout | undefined;
  const patience = setTimeout(() => {
    if (!terminal.animated) {
      terminal.message(`aperturectl: ${what} ...`);
      return;
    }
    const frames = terminal.unicode ? FRAMES.unicode : FRAMES.ascii;
    let tick = 0;
    const draw = (): void => {
      const seconds = Math.floor((PATIENCE_MS + tick * FRAME_MS) / 1000);
      terminal.status(`${frames[tick++ % frames.length]} ${what}, ${seconds} s`);
    };
    draw();
    animation = setInterval(draw, FRAME_MS);
  }, PATIENCE_MS);
  try {
    return await work;
  } finally {
    clearTimeout(patience);
    clearInterval(animation);
    terminal.status(null);
  }
}
