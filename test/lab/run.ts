// The lab's command: boots the worlds, runs the compiled tests inside and shows their results as this process's own.
// Usage: npm run lab -- [--world iommufd|legacy] [--only PATTERN] [--shell | --exec COMMAND] [--cpus N] [--deadline SECONDS] [--keep]

import { mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { buildCPrograms } from "../harness/c-programs.js";
import { compileAcpiTable } from "./acpi-table.js";
import { type World, worlds } from "./devices.js";
import { eventsInGuest, type GuestEnd, type GuestPlan, runGuest } from "./guest.js";
import { packInitrd } from "./initrd.js";
import { labKernel, stockKernel } from "./kernel.js";
import { ensureRunPackages } from "./packages.js";
import { quoted, say, which } from "./process.js";
import { promtoolSaysNothing } from "./promtool.js";
import { Replay } from "./replay.js";
import { repository } from "./repository.js";
import { libvirtSchemaAccepts, qemuForArmAccepts, qemuForPcAccepts } from "./vmm-judges.js";

const { values: options } = parseArgs({
  options: {
    world: { type: "string" },
    only: { type: "string" },
    shell: { type: "boolean", default: false },
    exec: { type: "string" },
    // With two guests on two processors, a second processor in each makes both slower.
    cpus: { type: "string", default: "1" },
    deadline: { type: "string", default: "1200" },
    keep: { type: "boolean", default: false },
  },
});

/** What needs no guest: other programs' word on what the daemon makes. */
const JUDGES: readonly (readonly [string, () => Promise<void>])[] = [
  ["[real processes, simulated host] promtool check metrics says nothing of the daemon's page", promtoolSaysNothing],
  ["[real processes, no device] qemu-system-x86_64 -M q35 starts with the arguments that are made for it", qemuForPcAccepts],
  ["[real processes, no device] qemu-system-aarch64 -M virt starts with the arguments for four Grace GPUs", qemuForArmAccepts],
  ["[real processes, no device] libvirt's schema accepts the XML that is made for it", libvirtSchemaAccepts],
];

function chosenWorlds(): readonly World[] {
  if (options.world === undefined) return worlds;
  const world = worlds.find((name) => name === options.world);
  if (world === undefined) throw new Error(`--world ${options.world}: there are ${worlds.join(" and ")}`);
  return [world];
}

function number(name: "cpus" | "deadline"): number {
  const value = Number(options[name]);
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} ${options[name]}: a whole number from 1 on`);
  return value;
}

function testCommand(): string {
  const compiled = join(repository, "dist/test/lab");
  const reporter = pathToFileURL(join(compiled, "reporter.js")).href;
  const args = ["--enable-source-maps", `--test-reporter=${reporter}`, `--test-reporter-destination=${eventsInGuest}`];
  if (options.only !== undefined) args.push(`--test-name-pattern=${options.only}`);
  return ["exec", process.execPath, ...args, join(compiled, "guest/all.js")].map(quoted).join(" ");
}

type Prepared = Pick<GuestPlan, "world" | "kernel" | "initrd" | "acpiTable">;

async function prepare(world: World): Promise<Prepared> {
  await ensureRunPackages();
  const kernel = world === "iommufd" ? await labKernel() : await stockKernel();
  const busybox = await which("busybox");
  if (busybox === null) throw new Error("busybox-static is installed and there is no busybox command");
  await buildCPrograms();
  const initrd = await packInitrd({ busybox, init: join(repository, "test/lab/guest-init.sh"), modules: kernel.modules });
  return { world, kernel: kernel.image, initrd, acpiTable: await compileAcpiTable() };
}

async function inGuest(prepared: Prepared, command: string, onEvent: GuestPlan["onEvent"], interactive = false): Promise<GuestEnd> {
  const folder = await mkdtemp(join(tmpdir(), `aperture-lab-${prepared.world}-`));
  const plan = { ...prepared, folder, command, onEvent, interactive, cpus: number("cpus"), deadlineMs: number("deadline") * 1000 };
  try {
    return await runGuest(plan);
  } finally {
    if (options.keep) say(`${prepared.world}: console, QMP socket and results in ${folder}`);
    else await rm(folder, { recursive: true });
  }
}

async function runTests(prepared: Prepared): Promise<void> {
  const replay = new Replay(prepared.world);
  replay.finish(await inGuest(prepared, testCommand(), (event) => replay.accept(event)));
}

/** What keeps a world from being tried is a failing test of that world. */
async function orFail<Result>(world: World, work: () => Promise<Result>): Promise<Result | null> {
  try {
    return await work();
  } catch (error) {
    void test(`${world} › the lab can run`, () => {
      throw error;
    });
    return null;
  }
}

async function testWorlds(chosen: readonly World[]): Promise<void> {
  // All preparation comes first: building a kernel beside a running guest would eat its time.
  const prepared: Prepared[] = [];
  for (const world of chosen) {
    const result = await orFail(world, () => prepare(world));
    if (result !== null) prepared.push(result);
  }
  const start = (world: Prepared) => orFail(world.world, () => runTests(world));
  if (availableParallelism() >= prepared.length * number("cpus")) {
    await Promise.all(prepared.map(start));
  } else {
    for (const world of prepared) await start(world);
  }
}

/** A prompt, or one command, in a guest whose devices are bound. */
async function runCommand(world: World, command: string | undefined): Promise<void> {
  const prepared = await prepare(world);
  if (command === undefined) say(`${world}: a prompt comes in some seconds; exit ends the guest, Ctrl-A X kills it`);
  const end = await inGuest(prepared, command ?? "exec bash", () => {}, command === undefined);
  process.stdout.write(end.output);
  if (end.trouble !== null) process.stderr.write(`${end.console}\nlab: ${end.trouble}\n`);
  process.exitCode = end.status ?? 1;
}

const chosen = chosenWorlds();
if (options.shell || options.exec !== undefined) {
  await runCommand(chosen[0] ?? "iommufd", options.shell ? undefined : options.exec);
} else {
  // Before the guests: they need every processor there is.
  for (const [name, judge] of JUDGES)
    if (options.world === undefined && (options.only === undefined || new RegExp(options.only).test(name))) await test(name, judge);
  await testWorlds(chosen);
}
