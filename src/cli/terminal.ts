// Where text goes: data to stdout, messages to stderr, colour only where a person looks at it.

export type Colour = "plain" | "bold" | "dim" | "red" | "green" | "yellow";

const SGR: Readonly<Record<Colour, number>> = { plain: 0, bold: 1, dim: 2, red: 31, green: 32, yellow: 33 };

/** The two streams of a command; tests have their own. */
export interface Terminal {
  /** Colour on stdout. */
  readonly colour: boolean;
  /** Data, with its line ends. */
  out(text: string): void;
  /** One message, without a line end. */
  message(text: string, colour?: Colour): void;
}

interface Stream {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

/** NO_COLOR (no-color.org): set to anything but nothing switches colour off. */
export function openTerminal(stdout: Stream, stderr: Stream, env: Readonly<Record<string, string | undefined>>): Terminal {
  const wanted = !env["NO_COLOR"] && env["TERM"] !== "dumb";
  return {
    colour: wanted && stdout.isTTY === true,
    out: (text) => void stdout.write(text),
    message: (text, colour = "plain") => void stderr.write(`${paint(text, colour, wanted && stderr.isTTY === true)}\n`),
  };
}

export function paint(text: string, colour: Colour, enabled: boolean): string {
  return enabled && colour !== "plain" ? `\u001b[${SGR[colour]}m${text}\u001b[0m` : text;
}
