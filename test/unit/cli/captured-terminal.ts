import { type Look, openTerminal, type Terminal } from "../../../src/cli/terminal.js";

/** A pipe. */
export const PLAIN: Look = { colour: false, width: 100, interactive: false, unicode: false };
export const PAINTED: Look = { ...PLAIN, colour: true };

/** A terminal of that many columns, without colour. */
export function screen(width: number, unicode = true): Look {
  return { colour: false, width, interactive: true, unicode };
}

/** A terminal whose streams are kept for the test to read. */
export class CapturedTerminal {
  readonly terminal: Terminal;
  readonly #out: string[] = [];
  readonly #errors: string[] = [];

  constructor(env: Readonly<Record<string, string>> = {}, isTTY = false, columns = 80) {
    const stdout = { isTTY, columns, write: (text: string) => this.#out.push(text) };
    const stderr = { isTTY, columns, write: (text: string) => this.#errors.push(text) };
    this.terminal = openTerminal(stdout, stderr, env);
  }

  get out(): string {
    return this.#out.join("");
  }

  get errors(): string {
    return this.#errors.join("");
  }
}
