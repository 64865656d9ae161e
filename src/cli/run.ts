// One call of aperturectl from its arguments to its exit code. Streams and environment are given, so that tests can call it in their own process.

import { ApertureError } from "../client/errors.js";
import type { ApertureClient } from "../client/index.js";
import { type ParsedArguments, parseArguments } from "./arguments.js";
import { COMMAND_MODULES } from "./command-modules.js";
import { CliError, EXIT, exitCodeOf } from "./exit-code.js";
import { commandHelp, generalHelp } from "./help.js";
import { printable } from "./printable.js";
import type { Terminal } from "./terminal.js";
import { version } from "./version.js";

/** Not in the table: nobody types it, completion scripts do. */
const COMPLETE = "__complete";

/** Runs one command; failures are told on the terminal. */
export async function run(argv: readonly string[], terminal: Terminal): Promise<number> {
  try {
    if (argv[0] === COMPLETE) return await (await import("./complete-line.js")).completeLine(argv.slice(1), terminal);
    return await dispatch(parseArguments(argv), terminal);
  } catch (error) {
    report(error, terminal);
    return exitCodeOf(error);
  }
}

async function dispatch(parsed: ParsedArguments, terminal: Terminal): Promise<number> {
  const { command, flags } = parsed;
  if (flags.has("version")) {
    terminal.out(`aperturectl ${version()}\n`);
    return EXIT.ok.code;
  }
  if (flags.has("help")) {
    terminal.out(command === null ? generalHelp(terminal.width) : commandHelp(command, terminal.width));
    return EXIT.ok.code;
  }
  if (command === null) {
    terminal.message(generalHelp(terminal.width).trimEnd());
    return EXIT.usage.code;
  }
  const { run: execute } = await COMMAND_MODULES[command.name]();
  return await execute({
    operands: parsed.operands,
    command: parsed.childCommand ?? [],
    values: parsed.values,
    flags,
    format: parsed.format,
    terminal,
    timeoutMs: parsed.timeoutMs,
    withClient: (work) => withClient(parsed, terminal, work),
  });
}

async function withClient<T>(parsed: ParsedArguments, terminal: Terminal, work: (client: ApertureClient) => Promise<T>): Promise<T> {
  const { connect } = await import("../client/index.js");
  const socket = parsed.values.get("socket");
  const client = await connect({
    ...(socket === undefined ? {} : { socket }),
    ...(parsed.timeoutMs === undefined ? {} : { timeoutMs: parsed.timeoutMs }),
  });
  try {
    if (client.host.simulated) warnSimulated(client, terminal);
    return await work(client);
  } finally {
    await client.close();
  }
}

/** Numbers of a simulated host have been taken for a machine's before: the warning stands above every answer. */
function warnSimulated(client: ApertureClient, terminal: Terminal): void {
  terminal.message("*** SIMULATED HOST: devices made of memory, nothing here is real hardware ***", "yellow");
  terminal.message(`    ${printable(client.host.backendReason)}`, "yellow");
}

function report(error: unknown, terminal: Terminal): void {
  const message = error instanceof Error ? error.message : String(error);
  terminal.message(`aperturectl: ${printable(message)}`, "red");
  for (const line of details(error)) terminal.message(`  ${printable(line)}`);
}

function details(error: unknown): readonly string[] {
  if (error instanceof CliError) return error.next === null ? [] : [error.next];
  if (!(error instanceof ApertureError)) return [];
  return [
    ...error.violations
      .filter(({ description }) => !error.message.includes(description))
      .map(({ field, description }) => `${field}: ${description}`),
    ...(error.next === null ? [] : [`next: ${error.next}`]),
    ...(error.reason === error.code ? [] : [`reason: ${error.reason}`]),
  ];
}
