// Every command that prints data, in every format, against a real daemon. What is compared is the shape: the formats say the same, in the form that each promises.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { parse, parseAllDocuments } from "yaml";
import { COMMANDS } from "../../src/cli/command-table.js";
import { OUTPUT_FORMATS, type OutputFormat } from "../../src/cli/output.js";
import { aperturectl, CLI, CliProcess } from "../harness/cli.js";
import { DaemonProcess } from "../harness/daemon.js";
import { TerminalProcess } from "../harness/terminal.js";
import { until } from "../harness/until.js";

const GPU = "0009:01:00.0";
const NVME = "0000:02:00.0";

type Shape = "list" | "one" | "stream" | "held";

/** Each with arguments that work, and what its `-o json` is. */
const PRINTING: Readonly<
  Record<string, { readonly args: readonly string[]; readonly shape: Shape; readonly code?: number; readonly name: RegExp }>
> = {
  devices: { args: [], shape: "list", name: /^[0-9a-f:.]+$/ },
  device: { args: [GPU], shape: "one", name: /^0009:01:00\.0$/ },
  explain: { args: [GPU], shape: "one", name: /^YES$/ },
  watch: { args: [GPU], shape: "stream", name: /^0009:01:00\.0$/ },
  acquire: { args: [NVME], shape: "held", name: /^[0-9a-f-]{36}$/ },
  reserve: { args: [NVME], shape: "one", name: /^[0-9a-f]{32}$/ },
  successor: { args: ["LEASE"], shape: "one", name: /^[0-9a-f]{32}$/ },
  leases: { args: [], shape: "list", name: /^[0-9a-f-]{36}$/ },
  release: { args: ["LEASE"], shape: "one", name: /^[0-9a-f-]{36}$/ },
  host: { args: [], shape: "one", name: /^[0-9a-f-]{36}$/ },
  args: { args: [NVME, "--for", "qemu"], shape: "one", name: /^\S+$/ },
  "policy test": { args: ["--device", GPU], shape: "one", name: /^allowed$/ },
  "policy reload": { args: [], shape: "one", name: /^applied$/ },
  "driver bind": { args: [NVME], shape: "list", name: /^0000:02:00\.0$/ },
  "driver restore": { args: ["0000:01:00.0"], shape: "list", name: /^0000:01:00\.0$/ },
  vfs: { args: ["0000:41:00.0", "2"], shape: "list", name: /^0000:41:01\.[01]$/ },
  rescan: { args: [], shape: "one", name: /^\d+$/ },
  doctor: { args: [], shape: "list", name: /^(OK|NOTE|PROBLEM) [a-z ]+$/ },
};

/** They print once a VMM has been there: cli-plug.test.ts brings one. */
const WITH_A_VMM: readonly string[] = ["plug", "serve-iommufd"];

describe("[real processes, simulated host] what aperturectl prints", () => {
  let daemon: DaemonProcess;
  before(async () => {
    daemon = await DaemonProcess.start();
  });
  afterEach(async () => {
    await CliProcess.killAll();
    await daemon.isAsBefore();
  });
  after(() => daemon.stop());

  it("has a case for every command that prints data", () => {
    assert.deepEqual(
      [...Object.keys(PRINTING), ...WITH_A_VMM].sort(),
      COMMANDS.flatMap(({ name, printsData }) => (printsData ? [name as string] : [])).sort(),
    );
  });

  /** A lease that somebody holds, for the commands that show or end one. Its child keeps the descriptors whatever happens: `release` always finds them. */
  async function holding(): Promise<{ id: string; holder: CliProcess }> {
    const holder = new CliProcess(daemon.socket, [
      "exec",
      GPU,
      "--mode",
      "retain",
      "--",
      "sh",
      "-c",
      "echo $APERTURE_LEASE; exec sleep 1000",
    ]);
    return { id: await holder.line(/./), holder };
  }

  async function letGo(holder: CliProcess): Promise<void> {
    holder.signal("SIGTERM");
    await holder.ended();
    await until(
      "device",
      async () => (await aperturectl(daemon.socket, ["explain", GPU, "-o", "name"])).out,
      (verdict) => verdict === "YES\n",
      30_000,
    );
  }

  async function printed(command: string, format: OutputFormat): Promise<string> {
    const { args, shape } = PRINTING[command] ?? assert.fail(command);
    const held = ["leases", "release", "successor"].includes(command) ? await holding() : null;
    const line = [...command.split(" "), ...args.map((word) => (word === "LEASE" ? (held?.id ?? "") : word)), "-o", format];
    if (shape === "list" || shape === "one") {
      const { code, out, err } = await aperturectl(daemon.socket, line);
      assert.equal(code, 0, err);
      assert.match(err, /^\*\*\* SIMULATED HOST/);
      if (held !== null) await letGo(held.holder);
      const reserved = /ticket for lease (\S+), /.exec(err)?.[1];
      if (command === "reserve") assert.equal((await aperturectl(daemon.socket, ["release", reserved ?? ""])).code, 0);
      return out;
    }
    const cli = new CliProcess(daemon.socket, line);
    // The first word of what it prints, then what it says when everything has been printed; nobody sleeps.
    if (shape === "held") await cli.message(/holding lease/);
    else await cli.line(format === "name" ? /./ : /SYNCED/);
    cli.signal("SIGINT");
    assert.equal(await cli.ended(), 0);
    while ((await cli.out.next()) !== null);
    return `${cli.out.all.join("\n")}\n`;
  }

  for (const [command, { shape, name }] of Object.entries(PRINTING)) {
    it(`${command}: ${OUTPUT_FORMATS.join(", ")}`, async () => {
      const texts = Object.fromEntries(
        await inTurn(OUTPUT_FORMATS, async (format) => [format, await printed(command, format)] as const),
      ) as Record<OutputFormat, string>;
      const streamed = shape === "stream";
      const json: unknown = streamed
        ? texts.json
            .trim()
            .split("\n")
            .map((line) => JSON.parse(line) as unknown)
        : JSON.parse(texts.json);
      const lines = texts.jsonl
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as unknown);
      const yaml: unknown = streamed ? parseAllDocuments(texts.yaml).map((document) => document.toJS() as unknown) : parse(texts.yaml);
      const many = shape === "list" || streamed;
      assert.equal(Array.isArray(json), many);
      assert.deepEqual(shapeOf(many ? lines : lines[0]), shapeOf(json), "jsonl says what json says");
      assert.deepEqual(shapeOf(yaml), shapeOf(json), "yaml says what json says");
      for (const line of texts.name.trim().split("\n")) assert.match(line, name);
      assert.match(texts.table, /\S/);
      assert.ok(!Object.values(texts).join("").includes("\u001b"));
      assert.doesNotMatch(Object.values(texts).join(""), /undefined|\[object/);
    });
  }

  it("a terminal gets colour and its width, a pipe neither; NO_COLOR and TERM=dumb switch colour off", async () => {
    const shown = async (columns: number, env: Readonly<Record<string, string>>, ...args: readonly string[]): Promise<string> => {
      const terminal = new TerminalProcess(columns, [process.execPath, CLI, "--socket", daemon.socket, ...args], env);
      assert.equal(await terminal.ended(), 0, terminal.shown);
      return terminal.shown;
    };
    const coloured = await shown(80, {}, "device", GPU);
    assert.ok(coloured.includes("\u001b[32m█"), coloured);
    for (const env of [{ NO_COLOR: "1" }, { TERM: "dumb" }] as const) assert.ok(!(await shown(80, env, "device", GPU)).includes("\u001b"));
    for (const columns of [60, 80, 200]) {
      for (const line of (await shown(columns, { NO_COLOR: "1" }, "device", GPU)).split("\r\n")) {
        // The columns of a table that may not be cut are wider than 60.
        assert.ok([...line].length <= (columns < 80 ? 82 : columns), `${columns}: ${line}`);
      }
      assert.ok(
        (await shown(columns, { NO_COLOR: "1" }, "devices")).split("\r\n").every((line) => [...line].length <= Math.max(columns, 80)),
      );
    }
    // biome-ignore lint/suspicious/noControlCharactersInRegex: ASCII is the range that is meant.
    assert.match(await shown(80, { LC_ALL: "C", NO_COLOR: "1" }, "device", GPU), /^[\x00-\x7f]*$/);
  });
});

async function inTurn<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<readonly R[]> {
  const results: R[] = [];
  for (const item of items) results.push(await work(item));
  return results;
}

/** Keys and types, of lists the first: ids and times differ from run to run. */
function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return [value.length > 0, shapeOf(value[0])];
  if (value === null || typeof value !== "object") return value === null ? null : typeof value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, shapeOf(part)]));
}
