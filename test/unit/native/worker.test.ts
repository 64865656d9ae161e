// Workers that end while the addon is at work for them. The main thread of these processes does not load the addon: Node then closes it with
// the last worker.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { until } from "../../harness/until.js";
import { inFolder, NATIVE, Script, threads } from "./support.js";

/** A script that starts workers with this body, one after the other, and terminates each at a moment of its own. */
function terminating(rounds: number, body: string): Script {
  const source = `import(${JSON.stringify(NATIVE)}).then(({ native }) => {
    ${body}
    require("node:worker_threads").parentPort.postMessage("busy");
  });`;
  return new Script(
    `
    import { Worker } from "node:worker_threads";
    for (let round = 0; round < ${rounds}; round += 1) {
      const worker = new Worker(${JSON.stringify(source)}, { eval: true, execArgv: [] });
      await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
      await new Promise((resolve) => setTimeout(resolve, round % 10));
      await worker.terminate();
    }
    process.stdout.write("survived\\n");`,
    { bare: true },
  );
}

describe("[real processes] workers that are terminated", () => {
  it("with everything under load", async () => {
    const script = terminating(
      30,
      `
      const { writeSync } = require("node:fs");
      const poller = new native.Poller(() => {});
      const eventfd = native.eventfdCreate().value;
      poller.watchEventfd(eventfd, 1);
      const queue = new native.BlockingQueue("load");
      const memory = native.memfdCreate("load", 65536n).value;
      const areas = [{ offset: 0n, size: 65536n }];
      let turn = 0;
      const load = () => {
        writeSync(eventfd, new BigUint64Array([1n]));
        for (let i = 0; i < 20; i += 1) queue.pread(memory, 0n, 100, "load").then(() => {});
        native.mapRegion(memory, 0n, 65536n, areas, true, "load").then(({ value }) => {
          if (!value) return;
          value.view(0n, 8);
          value.read(0n, 10);
          if ((turn += 1) % 2) value.close();
        });
        native.onReadable(eventfd, () => {});
        setImmediate(load);
      };
      load();`,
    );
    assert.deepEqual(await script.ended(), { status: 0, signal: null, stdout: "survived" });
  });

  it("with a thread still in the kernel", async () => {
    await inFolder(async (folder) => {
      const path = join(folder, "fifo");
      execFileSync("mkfifo", [path]);
      const script = new Script(
        `
        import { Worker } from "node:worker_threads";
        const source = ${JSON.stringify(`import(${JSON.stringify(NATIVE)}).then(({ native }) => {
          new native.BlockingQueue("orphan").open(${JSON.stringify(path)}, "read");
          require("node:worker_threads").parentPort.postMessage("opening");
        });`)};
        const worker = new Worker(source, { eval: true, execArgv: [] });
        await new Promise((resolve) => worker.once("message", resolve));
        await worker.terminate();
        process.stdout.write("terminated\\n");
        await new Promise((resolve) => process.stdin.once("end", resolve).resume());`,
        { bare: true },
      );
      assert.equal(await script.line(), "terminated");
      const names = (): string[] => threads(script.pid);
      await until("the thread", names, (all) => all.includes("orphan"));
      closeSync(openSync(path, "w"));
      await until("its end", names, (all) => !all.includes("orphan"));
      assert.deepEqual(await script.ended(), { status: 0, signal: null, stdout: "terminated" });
    });
  });
});
