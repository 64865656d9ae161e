// What needs shells and a manual reader that not every machine has: run by CI, which installs them (.ci/run), and by `npm run test:shells`. One that is missing fails.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { COMPLETION_SCRIPTS } from "../../src/cli/completion-scripts.js";
import { PAGES } from "../../src/docs/pages.js";
import { DaemonProcess } from "../harness/daemon.js";
import { TypingShell } from "../harness/typing.js";

function accepts(command: string, args: readonly string[], input: string): void {
  const { status, stdout, stderr, error } = spawnSync(command, args, { input, encoding: "utf8" });
  assert.equal(error, undefined);
  assert.deepEqual([status, stdout, stderr], [0, "", ""], command);
}

describe("[real processes, simulated host] completion in zsh and fish", () => {
  let daemon: DaemonProcess;
  before(async () => {
    daemon = await DaemonProcess.start();
  });
  after(async () => {
    await daemon.isAsBefore();
    await daemon.stop();
  });

  it("has no mistake of syntax", () => {
    accepts("zsh", ["-n"], COMPLETION_SCRIPTS.zsh);
    // fish reads no program from a pipe.
    accepts("bash", ["-c", "fish --no-execute <(cat)"], COMPLETION_SCRIPTS.fish);
  });

  it("zsh completes commands, options, addresses from the daemon, and the other command's line", async () => {
    // -D: no dump file; with -d, compinit would move one over whatever is named, as root also over a device.
    const start = "autoload -Uz compinit && compinit -u -D; source <(aperturectl completion zsh)";
    const shell = new TypingShell(daemon.socket, ["zsh", "-f", "-i"], start);
    try {
      await shell.ready();
      await shell.becomes("aperturectl expl\t", /ain/);
      await shell.becomes("aperturectl devices --leas\t", /able/);
      await shell.becomes("aperturectl device 0009\t", /:01\\?:00\.0/);
      await shell.becomes("aperturectl exec 0009:01:00.0 -- cat /etc/hostn\t", /ame/);
    } finally {
      shell.close();
    }
  });

  it("fish completes the same", () => {
    const script = `source (${process.execPath} ${fileURLToPath(new URL("../../src/cli/main.js", import.meta.url))} completion fish | psub)
function aperturectl; ${process.execPath} ${fileURLToPath(new URL("../../src/cli/main.js", import.meta.url))} $argv; end
for line in "aperturectl expl" "aperturectl devices --leas" "aperturectl device 0009" "aperturectl exec 0009:01:00.0 -- cat /etc/hostn"
  complete -C "$line"
end`;
    const { stdout, stderr } = spawnSync("fish", ["--no-config", "-c", script], {
      encoding: "utf8",
      env: { ...process.env, APERTURE_SOCKET: daemon.socket },
    });
    const words = stdout.split("\n").map((line) => line.split("\t")[0]);
    for (const word of ["explain", "--leasable", "0009:01:00.0", "/etc/hostname"])
      assert.ok(words.includes(word), `${word}: ${stdout}${stderr}`);
  });
});

describe("manual pages", () => {
  const pages = PAGES.filter(({ path }) => /\.\d$/.test(path));
  it("are there", () => {
    assert.ok(pages.some(({ path }) => path.endsWith("aperturectl.1")));
  });
  for (const { path, text } of pages) {
    it(`${path} is read without a warning by mandoc and by groff`, () => {
      const lint = spawnSync("mandoc", ["-T", "lint", "-W", "warning"], { input: text(), encoding: "utf8" });
      assert.equal(lint.error, undefined);
      assert.deepEqual([lint.status, lint.stdout, lint.stderr], [0, "", ""]);
      const groff = spawnSync("groff", ["-man", "-Tutf8", "-ww", "-z"], { input: text(), encoding: "utf8" });
      assert.equal(groff.error, undefined);
      assert.deepEqual([groff.status, groff.stderr], [0, ""]);
    });
  }
});
