// What one process leases and another gets, on the command line.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { aperturectl, CliProcess, type CliResult } from "../harness/cli.js";
import { DaemonProcess } from "../harness/daemon.js";

const GPU = "0009:01:00.0";
const NVME = "0000:02:00.0";
const OTHER = process.geteuid?.() === 0 ? 65534 : null;

describe("[real processes, simulated host] tickets on the command line", () => {
  let daemon: DaemonProcess;
  before(async () => {
    const rule = '[[policy]]\nname = "the orchestrator"\nuid = [0, 1000]\ndevice = "*"\nmode = ["hand_off", "retain"]\ndelegate = true\n';
    daemon = await DaemonProcess.start({
      config: `[limits]\nrecall_grace_ms = 100\nretry_min_ms = 50\n${rule}`.replace("1000", String(process.getuid?.())),
    });
  });
  afterEach(async () => {
    await CliProcess.killAll();
    await daemon.isAsBefore();
  });
  after(() => daemon.stop());

  const run = (args: readonly string[], options: Parameters<typeof aperturectl>[2] = {}): Promise<CliResult> =>
    aperturectl(daemon.socket, args, options);

  async function reserve(...more: readonly string[]): Promise<string> {
    const { code, out, err } = await run(["reserve", NVME, "-o", "name", ...more]);
    assert.equal(code, 0, err);
    return out.trim();
  }

  const show = ["--", "sh", "-c", "stat -L -c %s /proc/self/fd/@region:0"];

  it("give what was reserved to whoever has the ticket: from stdin, from a file, from the environment", async () => {
    const folder = mkdtempSync(join(tmpdir(), "aperture-ticket-"));
    const file = join(folder, "ticket");
    const ways = [
      (ticket: string) => run(["exec", "--ticket", "-", ...show], { input: `${ticket}\n` }),
      (ticket: string) => {
        writeFileSync(file, `${ticket}\n`, { mode: 0o600 });
        return run(["exec", "--ticket", file, ...show]);
      },
      (ticket: string) => run(["exec", "--ticket", "env", ...show], { env: { APERTURE_TICKET: ticket } }),
    ];
    for (const way of ways) {
      const { code, out, err } = await way(await reserve());
      assert.deepEqual([code, out], [0, "16384\n"], err);
    }
    rmSync(folder, { recursive: true });
  });

  it("give a device to a user whom no rule covers", { skip: OTHER === null ? "needs root for a second user" : false }, async () => {
    assert.ok(OTHER !== null);
    assert.equal((await run(["exec", NVME, ...show], { uid: OTHER })).code, 4);
    const ticket = await reserve("--uid", String(OTHER));
    const stolen = await run(["exec", "--ticket", "-", ...show], { input: ticket });
    assert.match(stolen.err, /TICKET_OTHER_USER/);
    const { code, out, err } = await run(["exec", "--ticket", "-", ...show], { input: ticket, uid: OTHER });
    assert.deepEqual([code, out], [0, "16384\n"], err);
  });

  it("are refused on the command line itself, malformed, beside addresses, and the second time", async () => {
    const ticket = await reserve();
    for (const [args, input, says] of [
      [["--ticket", ticket], "", /`ps` would show it/],
      [["--ticket", "-"], "not a ticket", /no ticket in stdin/],
      [["--ticket", "env"], "", /no ticket in APERTURE_TICKET/],
      [["--ticket", "/nonexistent"], "", /ENOENT/],
      [["--ticket", "-", NVME], ticket, /leave out the addresses/],
      [["--ticket", "-", "--mode", "retain"], ticket, /leave out --mode/],
      [[], "", /which devices\?/],
    ] as const) {
      const { code, err } = await run(["exec", ...args, "--", "true"], { input });
      assert.equal(code, 2, err);
      assert.match(err, says);
    }
    assert.equal((await run(["exec", "--ticket", "-", ...show], { input: ticket })).code, 0);
    const again = await run(["exec", "--ticket", "-", ...show], { input: ticket });
    assert.match(again.err, /reason: TICKET_USED/);
    assert.equal(again.code, 6, again.err);
    assert.ok(!daemon.log.all.join("").includes(ticket), "a ticket is in the daemon's log");
  });

  it("pass a lease on to a successor, and the command of the first one ends without ending it", async () => {
    const first = new CliProcess(daemon.socket, ["exec", GPU, "--mode", "retain", "--", "sh", "-c", "echo $APERTURE_LEASE; read end"]);
    const id = await first.line(/^[0-9a-f-]{36}$/);
    const { code, out, err } = await run(["successor", id, "-o", "name"]);
    assert.equal(code, 0, err);
    const second = new CliProcess(daemon.socket, ["exec", "--ticket", "env", "--", "sh", "-c", "echo $APERTURE_LEASE; read end"], {
      env: { APERTURE_TICKET: out.trim() },
    });
    assert.equal(await second.line(/^[0-9a-f-]{36}$/), id);
    await first.message(/SUCCEEDED/);
    first.child.stdin.end("\n");
    assert.equal(await first.ended(), 0);
    const leases = JSON.parse((await run(["leases", "-o", "json"])).out) as readonly { id: string; state: string; holderPid: number }[];
    assert.deepEqual(
      leases.map((lease) => [lease.id, lease.state, lease.holderPid]),
      [[id, "HELD", second.pid]],
    );
    second.child.stdin.end("\n");
    assert.equal(await second.ended(), 0);
  });

  it("a recall is told, the command goes on, and leases --watch shows how it went", async () => {
    const watch = new CliProcess(daemon.socket, ["leases", "--watch", "-o", "jsonl"]);
    await watch.line(/SYNCED/);
    const holder = new CliProcess(daemon.socket, ["exec", NVME, "--max-duration", "1", "--", "sh", "-c", "read end"]);
    await holder.message(/asks for lease \S+ back \(its time is over\)/);
    await holder.message(/has ended: EXPIRED; the command goes on/);
    holder.child.stdin.end("\n");
    assert.equal(await holder.ended(), 0);
    const last = JSON.parse(await watch.line(/"kind":"ENDED"/)) as { lease: { endCause: string } };
    assert.equal(last.lease.endCause, "EXPIRED");
    watch.signal("SIGINT");
    assert.equal(await watch.ended(), 0);
  });
});
