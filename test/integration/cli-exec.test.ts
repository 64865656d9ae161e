// `aperturectl exec` with a real daemon and real children; the devices are simulated, signals, terminals and deaths are real.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { aperturectl, CLI, CliProcess } from "../harness/cli.js";
import { DaemonProcess } from "../harness/daemon.js";
import { Lines } from "../harness/lines.js";
import { TerminalProcess } from "../harness/terminal.js";
import { until } from "../harness/until.js";

const GPU = "0009:01:00.0";
const NVME = "0000:02:00.0";
const ECHO = [process.execPath, fileURLToPath(new URL("../harness/signal-echo.js", import.meta.url))] as const;

interface Told {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly open: number;
}

/** State letter of a process (proc_pid_stat(5)); null: it is gone. */
function stateOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return stat.slice(stat.lastIndexOf(")") + 2)[0] ?? null;
  } catch {
    return null;
  }
}

async function become(pid: number, states: readonly (string | null)[]): Promise<void> {
  await until(
    `process ${pid}`,
    () => stateOf(pid),
    (state) => states.includes(state),
  );
}

describe("[real processes, simulated host] aperturectl exec", () => {
  let daemon: DaemonProcess;
  let folder: string;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "aperture-exec-"));
    daemon = await DaemonProcess.start();
  });
  afterEach(async () => {
    await CliProcess.killAll();
    await free();
    await daemon.isAsBefore();
  });
  after(async () => {
    await daemon.stop();
    rmSync(folder, { recursive: true });
  });

  /** Nothing is leased any more. */
  async function free(): Promise<void> {
    await until(
      "devices",
      async () => (await aperturectl(daemon.socket, ["devices", "-o", "json"])).out,
      (out) => (JSON.parse(out) as { state: string }[]).every(({ state }) => state === "FREE"),
      30_000,
    );
  }

  async function start(...args: readonly string[]): Promise<{ cli: CliProcess; pid: number; told: Told }> {
    const cli = new CliProcess(daemon.socket, ["exec", ...args]);
    const [, pid, told] = /^ready (\d+) (.*)$/.exec(await cli.line(/^ready/)) ?? [];
    return { cli, pid: Number(pid), told: JSON.parse(told ?? "") as Told };
  }

  it("gives the child exactly the descriptors, their numbers in words and in its environment, and ends the lease with it", async () => {
    const { cli, pid, told } = await start(
      NVME,
      GPU,
      "--",
      ...ECHO,
      `fd=@region:${GPU}:4,x`,
      "@@device",
      "user@device",
      `@region:${NVME}:0`,
    );
    const numbers = Object.entries(told.env).filter(([name]) => name.startsWith("APERTURE_FD_"));
    const gpu = told.env["APERTURE_FD_REGION_0009_01_00_0_4"];
    assert.deepEqual(told.argv, [`fd=${gpu},x`, "@device", "user@device", told.env["APERTURE_FD_REGION_0000_02_00_0_0"]]);
    const lease = JSON.parse((await aperturectl(daemon.socket, ["leases", "-o", "jsonl"])).out) as { id: string; descriptors: unknown[] };
    assert.equal(told.env["APERTURE_LEASE"], lease.id);
    assert.equal(numbers.length, lease.descriptors.length);
    const open = [...Array(lease.descriptors.length).keys()].map((index) => String(index + 3));
    assert.deepEqual(numbers.map(([, number]) => number).sort(), open.sort());
    await until(
      "descriptors of aperturectl",
      () => readFileSync(`/proc/${cli.pid}/maps`, "latin1"),
      (maps) => !maps.includes("memfd:"),
    );
    cli.signal("SIGTERM");
    assert.equal(await cli.ended(), 41);
    assert.equal(stateOf(pid), null);
  });

  it("passes every signal on, once, and returns the child's status", async () => {
    const { cli } = await start(NVME, "--", ...ECHO);
    for (const signal of ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGWINCH", "SIGQUIT", "SIGINT"] as const) {
      cli.signal(signal);
      assert.equal(await cli.line(/^/), `got ${signal}`);
    }
    cli.signal("SIGTERM");
    assert.equal(await cli.line(/^/), "got SIGTERM");
    assert.equal(await cli.ended(), 41);
    assert.equal(await cli.out.next(), null, "nothing came twice");
  });

  it("returns what the child returns: any status, 128 + N for a signal", async () => {
    for (const [script, code] of [
      ["exit 0", 0],
      ["exit 7", 7],
      ["exit 255", 255],
      ["kill -KILL $$", 137],
      ["kill -SEGV $$", 139],
    ] as const) {
      assert.equal((await aperturectl(daemon.socket, ["exec", NVME, "--", "sh", "-c", script])).code, code, script);
    }
  });

  it("takes nothing for a command that is not there or cannot be executed, and for a word that is no placeholder", async () => {
    const script = join(folder, "no-interpreter");
    writeFileSync(script, "#!/nonexistent/interpreter\n");
    chmodSync(script, 0o755);
    const plain = join(folder, "plain");
    writeFileSync(plain, "no program");
    const refused: readonly (readonly [readonly string[], number, RegExp])[] = [
      [["no-such-command-at-all"], 127, /there is no command `no-such-command-at-all`/],
      [["/nonexistent/command"], 127, /there is no command/],
      [[plain], 126, /cannot be executed/],
      [[folder], 126, /cannot be executed/],
      [["true", "fd=@devcie"], 2, /did you mean `@device`/],
      [["true", `@device:${GPU}`], 2, /not to be leased/],
    ];
    for (const [command, code, message] of refused) {
      const result = await aperturectl(daemon.socket, ["exec", NVME, "--", ...command]);
      assert.equal(result.code, code, result.err);
      assert.match(result.err, message);
    }
    // What only the kernel can tell is found out with the lease in hand, which is given back.
    assert.equal((await aperturectl(daemon.socket, ["exec", NVME, "--", script])).code, 127);
    assert.equal((await aperturectl(daemon.socket, ["exec", NVME, "--", "echo", "@iommufd"])).code, 6);
    const granted = daemon.records().filter(({ event, fields }) => event === "lease.held" && fields["pid"] !== undefined).length;
    assert.ok(granted <= 20);
  });

  it("the end of the lease by somebody else is told, and the child goes on", async () => {
    const { cli, told } = await start(NVME, "--", ...ECHO);
    const lease = told.env["APERTURE_LEASE"] ?? "";
    const released = await aperturectl(daemon.socket, ["release", lease]);
    assert.equal(released.code, 0);
    assert.match(released.err, /0000:02:00\.0 is in quarantine/);
    await cli.message(new RegExp(`lease ${lease} has ended: RELEASED; the command goes on`));
    cli.signal("SIGUSR1");
    assert.equal(await cli.line(/^/), "got SIGUSR1");
    cli.signal("SIGTERM");
    assert.equal(await cli.ended(), 41);
  });

  it("killed itself, the lease ends with it; the device is in quarantine as long as the child has it", async () => {
    const { cli, pid } = await start(NVME, "--", ...ECHO);
    cli.signal("SIGKILL");
    assert.equal(await cli.ended(), 137);
    const states = async (): Promise<string> => {
      const { out } = await aperturectl(daemon.socket, ["device", NVME, "-o", "json"]);
      return (JSON.parse(out) as { state: string }).state;
    };
    await until("device", states, (state) => state === "QUARANTINED");
    assert.equal((await aperturectl(daemon.socket, ["leases", "-o", "name"])).out, "");
    assert.notEqual(stateOf(pid), null, "the child goes on");
    process.kill(pid, "SIGKILL");
    await until("device", states, (state) => state === "FREE", 30_000);
  });

  it("SIGTSTP to aperturectl alone stops both, SIGCONT continues both", async () => {
    // The job needs a group of its own with a parent outside of it: the kernel ignores SIGTSTP in an orphaned one.
    const shell = spawn("bash", [
      "-c",
      'set -m; "$@" & echo "cli $!"; wait -f $!',
      "bash",
      process.execPath,
      CLI,
      "--socket",
      daemon.socket,
      "exec",
      NVME,
      "--",
      ...ECHO,
    ]);
    const lines = new Lines(shell.stdout);
    const seen: string[] = [];
    while (seen.length < 2) seen.push((await lines.next()) ?? assert.fail("it ended"));
    const numbers = ["cli", "ready"].map((word) => Number(seen.find((line) => line.startsWith(word))?.split(" ")[1]));
    const [cli = 0, child = 0] = numbers;
    for (let round = 0; round < 3; round++) {
      process.kill(cli, "SIGTSTP");
      await become(child, ["T"]);
      await become(cli, ["T"]);
      process.kill(cli, "SIGCONT");
      await become(cli, ["S", "R"]);
      await become(child, ["S", "R"]);
    }
    process.kill(cli, "SIGTERM");
    assert.equal(await lines.next(), "got SIGTERM");
    await become(cli, [null]);
  });

  it("on a terminal: Ctrl-Z stops the job, fg continues it, Ctrl-C reaches the child once, the shell sees its status", async () => {
    const terminal = new TerminalProcess(120, ["bash", "--norc", "--noprofile", "-i"], { PS1: "$ " });
    try {
      const command = [process.execPath, CLI, "--socket", daemon.socket, "exec", NVME, "--", ...ECHO].join(" ");
      terminal.type(`${command}\n`);
      const child = Number((await terminal.see(/ready (\d+) /))[1]);
      await terminal.see(/\n/);
      for (let round = 0; round < 2; round++) {
        terminal.type("\x1a");
        await terminal.see(/Stopped/);
        await become(child, ["T"]);
        terminal.type("fg\n");
        await become(child, ["S", "R"]);
      }
      terminal.type("\x03");
      await terminal.see(/got SIGINT/);
      process.kill(child, "SIGTERM");
      await terminal.see(/got SIGTERM/);
      terminal.type("echo status=$?\n");
      await terminal.see(/status=41/);
      assert.equal(terminal.shown.split("got SIGINT").length, 2, terminal.shown);
      terminal.type("exit\n");
      assert.equal(await terminal.ended(), 0);
    } finally {
      terminal.kill();
    }
  });
});
