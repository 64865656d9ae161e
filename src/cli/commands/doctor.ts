import { readFileSync } from "node:fs";
import { ApertureConnectionError, type ApertureError } from "../../client/errors.js";
import type { Device } from "../../client/index.js";
import type { CommandCall } from "../command.js";
import { type Check, type CheckResult, diagnose, readLimits, unreachable } from "../diagnosis.js";
import { EXIT, exitCodeOf } from "../exit-code.js";
import { writeList } from "../output.js";
import { printable } from "../printable.js";
import { wrapped } from "../table.js";
import { type Colour, type Look, paint } from "../terminal.js";
import { version } from "../version.js";

export async function run(call: CommandCall): Promise<number> {
  let lost: ApertureError | null = null;
  let checks: readonly Check[];
  try {
    checks = await ask(call);
  } catch (error) {
    if (!(error instanceof ApertureConnectionError)) throw error;
    lost = error;
    checks = unreachable(error);
  }
  const items = checks.map((check) => ({ value: check, name: `${check.result} ${check.name}` }));
  await writeList(call.terminal, call.format, items, () => render(checks, call.terminal));
  if (lost !== null) return exitCodeOf(lost);
  return checks.some(({ result }) => result === "PROBLEM") ? EXIT.failed.code : EXIT.ok.code;
}

async function ask(call: CommandCall): Promise<readonly Check[]> {
  return await call.withClient(async (client) => {
    const devices: Device[] = [];
    for await (const device of client.devices()) devices.push(device);
    return diagnose(client.host, devices, readLimits(readFileSync("/proc/self/limits", "utf8")), version());
  });
}

const SIGN: Readonly<Record<CheckResult, { readonly text: string; readonly colour: Colour }>> = {
  OK: { text: "ok", colour: "green" },
  NOTE: { text: "note", colour: "yellow" },
  PROBLEM: { text: "PROBLEM", colour: "red" },
};

const INDENT = 9;

function render(checks: readonly Check[], look: Look): string {
  return checks
    .map(({ name, result, detail, next }) => {
      const { text, colour } = SIGN[result];
      const words = [`${name}: ${detail}`, ...(next === "" ? [] : [`next: ${next}`])];
      const lines = words.flatMap((word) => wrapped(printable(word), look.width - INDENT));
      return lines
        .map((line, at) => `${at === 0 ? paint(text.padEnd(INDENT), colour, look.colour) : " ".repeat(INDENT)}${line}\n`)
        .join("");
    })
    .join("");
}
