// Where text goes: data to stdout, messages to stderr, colour and drawing only where a person looks at it.

export type Colour = "plain" | "bold" | "dim" | "red" | "green" | "yellow" | "cyan";

const SGR: Readonly<Record<Colour, number>> = { plain: 0, bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 };

/** Text that nobody looks at on a terminal is laid out for this many columns, where it has to be laid out at all. */
const WIDTH_ELSEWHERE = 100;
const NARROWEST = 40;

/** How stdout looks. */
export interface Look {
  readonly colour: boolean;
  /** Columns of what is drawn or wrapped. */
  readonly width: number;
  /** It is a terminal: a table may be cut to its width. */
  readonly interactive: boolean;
  /** Block characters and the like can be shown. */
  readonly unicode: boolean;
}

/** The two streams of a command; tests have their own. */
export interface Terminal extends Look {
  /** stderr is a terminal: a status line can be drawn and wiped. */
  readonly animated: boolean;
  /** Data, with its line ends. */
  out(text: string): void;
  /** One message, without a line end. */
  message(text: string, colour?: Colour): void;
  /** The status line of an animated terminal, below everything else, or null for none. Nothing elsewhere. */
  status(text: string | null): void;
}

interface Stream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** NO_COLOR (no-color.org): set to anything but nothing switches colour off. */
export function openTerminal(stdout: Stream, stderr: Stream, env: Environment): Terminal {
  const dumb = env["TERM"] === "dumb";
  const wanted = !env["NO_COLOR"] && !dumb;
  const animated = stderr.isTTY === true && !dumb;
  let status: string | null = null;
  const wipe = (): void => void (status === null || stderr.write("\r\u001b[K"));
  const draw = (): void => void (status === null || stderr.write(status));
  return {
    colour: wanted && stdout.isTTY === true,
    width: widthOf(stdout, stderr, env),
    interactive: stdout.isTTY === true,
    unicode: hasUnicode(env),
    animated,
    out: (text) => {
      wipe();
      stdout.write(text);
      draw();
    },
    message: (text, colour = "plain") => {
      wipe();
      stderr.write(`${paint(text, colour, wanted && stderr.isTTY === true)}\n`);
      draw();
    },
    status: (text) => {
      if (!animated) return;
      wipe();
      // A line that wraps could not be wiped.
      status = text === null ? null : [...text].slice(0, Math.max(0, (stderr.columns ?? 80) - 1)).join("");
      draw();
    },
  };
}

function widthOf(stdout: Stream, stderr: Stream, env: Environment): number {
  const asked = /^\d{1,4}$/.test(env["COLUMNS"] ?? "") ? Number(env["COLUMNS"]) : 0;
  // A terminal that does not know its size says 0. With a pager behind stdout, stderr is still the terminal.
  const told = [stdout, stderr].map(({ isTTY, columns }) => (isTTY === true ? (columns ?? 0) : 0));
  return Math.max(NARROWEST, told[0] || asked || told[1] || WIDTH_ELSEWHERE);
}

/** The character encoding of the locale, by the order of setlocale(3). */
function hasUnicode(env: Environment): boolean {
  const locale = env["LC_ALL"] || env["LC_CTYPE"] || env["LANG"] || "";
  return /utf-?8/i.test(locale);
}

export function paint(text: string, colour: Colour, enabled: boolean): string {
  return enabled && colour !== "plain" ? `\u001b[${SGR[colour]}m${text}\u001b[0m` : text;
}
