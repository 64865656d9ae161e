// Who is calling, as policy asks it: groups, executable and cgroup of real processes, and policy asked in advance.

import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { connect } from "../../src/client/index.js";
import { DaemonProcess, socketFolder } from "../harness/daemon.js";
import { HolderProcess } from "../harness/holder.js";
import { HostService, Rpc } from "../harness/rpc.js";
import { until } from "../harness/until.js";

const GPU = "0009:01:00.0";
const asRoot = process.geteuid?.() === 0;
const NOT_ROOT = asRoot ? false : "needs to become another user";

/** A cgroup of the v2 hierarchy that this process may make and fill; null: there is none. */
function makeCgroup(): string | null {
  const mount = readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .find((line) => line.split(" ")[2] === "cgroup2")
    ?.split(" ")[1];
  if (!mount) return null;
  const folder = join(mount, `aperture-test-${process.pid}`);
  try {
    mkdirSync(join(folder, "vm"), { recursive: true });
    return folder;
  } catch {
    return null;
  }
}

describe("[real processes, simulated host] policy by group, executable and cgroup", () => {
  let daemon: DaemonProcess;
  let folder = "";
  const cgroup = makeCgroup();
  before(async () => {
    folder = socketFolder();
    daemon = await DaemonProcess.start({
      config: `
[[policy]]
name = "by group"
gid = [4242]
device = "${GPU}"
[[policy]]
name = "by program"
uid = [65534]
executable = "${folder}/allowed-*"
device = "${GPU}"
[[policy]]
name = "by cgroup"
uid = [65533]
cgroup = "/aperture-test-${process.pid}/*"
device = "${GPU}"
`,
    });
  });
  afterEach(async () => {
    await HolderProcess.killAll();
    Rpc.closeAll();
    await daemon.isAsBefore();
  });
  after(async () => {
    await daemon.stop();
    rmSync(folder, { recursive: true, force: true });
    if (cgroup !== null) {
      rmdirSync(join(cgroup, "vm"));
      rmdirSync(cgroup);
    }
  });

  /** What a holder that runs under the command is told: the rule that allowed it is not told, so ok or the reason. */
  async function asks(under: readonly string[], uid: number | null = null): Promise<string> {
    const holder = await HolderProcess.start(daemon.socket, uid, under);
    const answer = await holder.say(`acquire ${GPU}`);
    if (answer.ok) await holder.must("release");
    await holder.exit();
    return answer.ok ? "ok" : String(answer["reason"]);
  }

  const setpriv = (...words: string[]): readonly string[] => ["setpriv", ...words, process.execPath];

  it("counts primary and supplementary groups, as the kernel saw them at connect time", { skip: NOT_ROOT }, async () => {
    assert.equal(await asks(setpriv("--reuid=1234", "--regid=1234", "--groups=1,4242,70000")), "ok");
    assert.equal(await asks(setpriv("--reuid=1234", "--regid=4242", "--clear-groups")), "ok");
    assert.equal(await asks(setpriv("--reuid=1234", "--regid=1234", "--groups=1,4241,70000")), "POLICY_DENIED");
  });

  it("counts none of more than 4,096 supplementary groups, and the primary one still", { skip: NOT_ROOT }, async () => {
    const groups = (count: number): string => `--groups=${Array.from({ length: count }, (_, i) => i + 4242).join(",")}`;
    assert.equal(await asks(setpriv("--reuid=1234", "--regid=1234", groups(4096))), "ok");
    assert.equal(await asks(setpriv("--reuid=1234", "--regid=1234", groups(4097))), "POLICY_DENIED");
    assert.equal(await asks(setpriv("--reuid=1234", "--regid=4242", groups(4097))), "ok");
  });

  it("tells two programs apart by their path", { skip: NOT_ROOT }, async () => {
    const allowed = join(folder, "allowed-node");
    copyFileSync(process.execPath, allowed);
    assert.equal(await asks([allowed], 65534), "ok");
    assert.equal(await asks([process.execPath], 65534), "POLICY_DENIED");
    assert.equal(await asks([allowed], 1234), "POLICY_DENIED", "another user");
    rmSync(allowed);
  });

  it("knows no program whose file is gone, or that is another file for the daemon", { skip: NOT_ROOT }, async () => {
    const allowed = join(folder, "allowed-node");
    copyFileSync(process.execPath, allowed);
    const upgraded = await HolderProcess.start(daemon.socket, 65534, [allowed]);
    rmSync(allowed);
    assert.equal((await upgraded.say(`acquire ${GPU}`))["reason"], "POLICY_DENIED");
    await upgraded.exit();
    // A user's own mount namespace, in which the allowed path is a program of theirs.
    copyFileSync(process.execPath, allowed);
    const mounted = `mount --bind ${process.execPath} ${allowed} && exec setpriv --reuid=65534 --regid=65534 --clear-groups ${allowed} "$@"`;
    assert.equal(await asks(["unshare", "-m", "sh", "-c", mounted, "sh"]), "POLICY_DENIED");
    const same = `exec setpriv --reuid=65534 --regid=65534 --clear-groups ${allowed} "$@"`;
    assert.equal(await asks(["unshare", "-m", "sh", "-c", same, "sh"]), "ok", "a namespace alone is no matter, while the file is the same");
    rmSync(allowed);
  });

  it("tells processes of one user apart by their cgroup", {
    skip: NOT_ROOT || (cgroup ? false : "no writable cgroup v2 here"),
  }, async () => {
    const inner = join(cgroup ?? "", "vm");
    const inside = `echo $$ > ${inner}/cgroup.procs && exec setpriv --reuid=65533 --regid=65533 --clear-groups ${process.execPath} "$@"`;
    assert.equal(await asks(["sh", "-c", inside, "sh"]), "ok");
    assert.equal(await asks(setpriv("--reuid=65533", "--regid=65533", "--clear-groups")), "POLICY_DENIED");
    await until(
      "an empty cgroup",
      () => readFileSync(join(inner, "cgroup.procs"), "utf8"),
      (text) => text === "",
    );
  });

  it("answers in advance what it would answer, and names the rule", async () => {
    const client = await connect({ socket: daemon.socket });
    const question = { uid: 1234, address: GPU };
    const allowed = await client.testPolicy({ ...question, gids: [4242] });
    assert.deepEqual([allowed.allowed, allowed.rule, allowed.reason, allowed.steps.length], [true, "by group", "", 1]);
    const program = await client.testPolicy({ ...question, uid: 65534, executable: `${folder}/allowed-x` });
    assert.deepEqual([program.allowed, program.rule], [true, "by program"]);
    const denied = await client.testPolicy(question);
    assert.deepEqual([denied.allowed, denied.rule, denied.reason], [false, "", "POLICY_DENIED"]);
    assert.equal(denied.steps.length, 3);
    const retained = await client.testPolicy({ ...question, gids: [4242], mode: "RETAIN" });
    assert.match(retained.message, /mode retain is not allowed by policy rule "by group"/);
    await client.close();
  });

  it("refuses questions that make no sense, each with its field", async () => {
    const rpc = new Rpc(daemon.socket);
    const cases: readonly (readonly [object, string, string])[] = [
      [{ uid: 0xffffffff }, "INVALID_FIELD", "uid"],
      [{ gids: [0xffffffff] }, "INVALID_FIELD", "gids"],
      [{ gids: Array.from({ length: 4097 }, (_, i) => i) }, "INVALID_FIELD", "gids"],
      [{ executable: "qemu" }, "INVALID_FIELD", "executable"],
      [{ executable: "/a\0b" }, "INVALID_FIELD", "executable"],
      [{ executable: `/${"a".repeat(4095)}` }, "INVALID_FIELD", "executable"],
      [{ cgroup: "../x" }, "INVALID_FIELD", "cgroup"],
      [{ kind: 99 }, "INVALID_FIELD", "kind"],
      [{ mode: 99 }, "INVALID_FIELD", "mode"],
      [{ kind: 2, mode: 2 }, "INVALID_FIELD", "mode"],
      [{ address: "../x" }, "MALFORMED_ADDRESS", "address"],
      [{ address: "0000:ff:1f.7" }, "DEVICE_NOT_FOUND", ""],
    ];
    for (const [part, reason, field] of cases) {
      const result = await rpc.call(HostService, "TestPolicy", { uid: 0, address: GPU, ...part });
      assert.equal(result.reason, reason, JSON.stringify(part).slice(0, 80));
      if (field !== "") assert.deepEqual(result.fields, [field]);
    }
  });

  it("lets others ask about themselves only, and tell the daemon nothing", { skip: NOT_ROOT }, async () => {
    const script = `
      const { connect } = await import(${JSON.stringify(new URL("../../src/client/index.js", import.meta.url).href)});
      const client = await connect({ socket: ${JSON.stringify(daemon.socket)} });
      const said = [];
      for (const work of [() => client.testPolicy({ uid: 1234, address: "${GPU}" }), () => client.testPolicy({ uid: 0, address: "${GPU}" }), () => client.reloadConfig(), () => client.rescan()])
        said.push(await work().then((answer) => answer.reason, (error) => error.reason));
      process.stdout.write(said.join());
      await client.close();
    `;
    const file = join(folder, "ask.mjs");
    writeFileSync(file, script);
    const { execFileSync } = await import("node:child_process");
    const said = execFileSync(process.execPath, [file], { uid: 1234, gid: 1234, encoding: "utf8" });
    assert.equal(said, "POLICY_DENIED,NOT_OPERATOR,NOT_OPERATOR,NOT_OPERATOR");
  });
});
