// What a command is: the words that help, manual and completion print and the parser obeys, and the call that does it.

import type { ApertureClient } from "../client/index.js";
import type { OutputFormat } from "./output.js";
import type { Terminal } from "./terminal.js";

/** What completion offers for a word: addresses and leases are asked of the daemon. */
export type Words = "nothing" | "file" | "address" | "leasable address" | "lease" | "command" | readonly string[];

export interface OptionSpec {
  readonly name: string;
  readonly short?: string;
  /** What stands for the value in help; null: the option takes none. */
  readonly value: string | null;
  readonly summary: string;
  /** What its value can be; default: nothing is offered. */
  readonly words?: Words;
}

export type CommandName =
  | "devices"
  | "device"
  | "explain"
  | "watch"
  | "acquire"
  | "reserve"
  | "successor"
  | "exec"
  | "args"
  | "plug"
  | "serve-iommufd"
  | "leases"
  | "release"
  | "host"
  | "policy test"
  | "policy reload"
  | "driver bind"
  | "driver restore"
  | "vfs"
  | "rescan"
  | "doctor"
  | "completion"
  | "help"
  | "version";

export interface CommandSpec {
  /** One word, or two: `policy test`. */
  readonly name: CommandName;
  /** As usage shows them. */
  readonly operands: string;
  readonly leastOperands: number;
  readonly mostOperands: number;
  readonly words: Words;
  /** `--` and a command of the user's follow. */
  readonly takesCommand: boolean;
  /** It prints data, so `-o` means something. */
  readonly printsData: boolean;
  readonly summary: string;
  /** Paragraphs. */
  readonly description: readonly string[];
  readonly options: readonly OptionSpec[];
  readonly examples: readonly { readonly line: string; readonly does: string }[];
}

/** One call of a command: parsed, with the means to answer. */
export interface CommandCall {
  readonly operands: readonly string[];
  /** What followed `--`. */
  readonly command: readonly string[];
  readonly values: ReadonlyMap<string, string>;
  readonly flags: ReadonlySet<string>;
  readonly format: OutputFormat;
  readonly terminal: Terminal;
  /** --timeout in milliseconds; undefined when not given. */
  readonly timeoutMs: number | undefined;
  /** Connects to the daemon, warns when its host is simulated, and disconnects when work is done. */
  withClient<T>(work: (client: ApertureClient) => Promise<T>): Promise<T>;
}

/** Does the work; the value is the exit code. Failures are thrown. */
export interface CommandModule {
  run(call: CommandCall): Promise<number>;
}
