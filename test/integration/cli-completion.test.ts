// Completion in a real bash on a real terminal; test/shells has zsh and fish, which not every machine has.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { after, before, describe, it } from "node:test";
import { COMPLETION_SCRIPTS } from "../../src/cli/completion-scripts.js";
import { DaemonProcess } from "../harness/daemon.js";
import { TypingShell } from "../harness/typing.js";

describe("[real processes, simulated host] completion in bash", () => {
  let daemon: DaemonProcess;
  let shell: TypingShell;
  before(async () => {
    daemon = await DaemonProcess.start();
    shell = new TypingShell(daemon.socket, ["bash", "--norc", "--noprofile", "-i"], "source <(aperturectl completion bash)");
    await shell.ready();
  });
  after(async () => {
    shell.close();
    await daemon.isAsBefore();
    await daemon.stop();
  });

  it("has no mistake of syntax", () => {
    assert.equal(spawnSync("bash", ["-n"], { input: COMPLETION_SCRIPTS.bash }).status, 0);
  });

  it("completes commands, options and values", async () => {
    await shell.becomes("aperturectl expl\t", /aperturectl explain /);
    await shell.becomes("aperturectl devices --leas\t", /--leasable /);
    await shell.becomes("aperturectl devices --output=ya\t", /--output=yaml /);
    await shell.becomes("aperturectl devices -o na\t", /-o name /);
  });

  it("completes an address across its colons, from the daemon, and what is left of it", async () => {
    await shell.becomes("aperturectl device 0009\t", /device 0009:01:00\.0 /);
    await shell.becomes("aperturectl device 0000:c1\t", /device 0000:c1:00\.0 /);
    await shell.becomes("aperturectl exec 0009:01:00.0 0019\t", /0009:01:00\.0 0019:01:00\.0 /);
  });

  it("completes commands and files behind `--`", async () => {
    await shell.becomes("aperturectl exec 0009:01:00.0 -- basena\t", /-- basename /);
    await shell.becomes("aperturectl exec 0009:01:00.0 -- cat /etc/hostn\t", /cat \/etc\/hostname /);
    await shell.becomes("aperturectl --socket /etc/hostn\t", /--socket \/etc\/hostname /);
  });
});
