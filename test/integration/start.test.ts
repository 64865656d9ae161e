// Everything that can be wrong when the daemon starts: each time one clear sentence with what to do next, the right exit status, and nothing left behind.

import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { DaemonProcess, NODE_FLAGS, socketFolder } from "../harness/daemon.js";
import { type Run, runDaemon } from "../harness/run.js";

const NO_VFIO = !existsSync("/dev/vfio") && !existsSync("/dev/iommu");

/** One problem is one line, and a stack is no way to talk to an operator. */
function assertPlain(run: Run): void {
  assert.doesNotMatch(run.stderr, /\n\s+at /, "a stack trace");
  assert.equal(run.signal, null);
  assert.equal(run.stdout, "");
}

describe("[real processes, simulated host] a start that cannot be", () => {
  let folder: string;
  before(() => {
    folder = socketFolder();
  });
  afterEach(() => {
    const left = readdirSync(folder).filter((name) => !name.endsWith(".toml"));
    assert.deepEqual(left, [], "something was left behind");
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  let files = 0;
  function configured(toml: string): readonly string[] {
    files += 1;
    const file = join(folder, `${files}.toml`);
    writeFileSync(file, toml);
    return ["--config", file, "--socket", join(folder, `${files}.sock`), "--metrics", "127.0.0.1:0"];
  }

  it("tells file, line and the key that was meant", async () => {
    const cases: readonly (readonly [string, readonly RegExp[]])[] = [
      [
        'host = "simulated"\n\n[limits]\nconnections_per_user = 3\nack_ms = 1\n',
        [
          /\.toml:4: unknown key limits\.connections_per_user; did you mean limits\.connections_per_uid\?/,
          /\.toml:5: limits\.ack_ms: 1 is outside 100 to 600000 milliseconds/,
        ],
      ],
      [
        '[[policy]]\ndevice = "*"\n[[policy]]\ndevice = "01:00.0"\nuuid = [0]\n',
        [
          /\.toml:5: unknown key policy\.uuid; did you mean policy\.uid\?/,
          /\.toml:4: policy\.device: "01:00\.0" names no device; write an address/,
        ],
      ],
      ['host = "simulated\n', [/\.toml:1: /]],
    ];
    const runs = cases.map(async ([toml, expected]) => {
      const run = await runDaemon(configured(toml));
      for (const line of expected) assert.match(run.stderr, line);
      assert.equal(run.stderr.trim().split("\n").length, expected.length, "one line for each mistake");
      assert.equal(run.status, 1);
      assertPlain(run);
    });
    await Promise.all(runs);
  });

  it("says which file is missing", async () => {
    const run = await runDaemon(["--config", join(folder, "none.toml")]);
    assert.match(run.stderr, /the configuration file .*none\.toml cannot be read: ENOENT/);
    assert.equal(run.status, 1);
    assertPlain(run);
  });

  it("answers wrong flags with exit status 2", async () => {
    const cases: readonly (readonly [readonly string[], RegExp])[] = [
      [["--sockett", "x"], /did you mean --socket\?/],
      [["--host", "iommu"], /--host: "iommu" is none of auto, iommufd, legacy, simulated/],
      [["stray"], /stray/],
    ];
    const runs = cases.map(async ([flags, expected]) => {
      const run = await runDaemon(flags);
      assert.match(run.stderr, expected);
      assert.match(run.stderr, /--help shows the options/);
      assert.equal(run.status, 2);
      assertPlain(run);
    });
    await Promise.all(runs);
  });

  it("prints its version, and its options, and nothing else", async () => {
    const [version, help] = await Promise.all([runDaemon(["--version"]), runDaemon(["--help"])]);
    assert.match(version.stdout, /^apertured \d+\.\d+\.\d+\n$/);
    for (const flag of ["--config", "--host", "--socket", "--metrics", "--log-level", "--version"])
      assert.ok(help.stdout.includes(flag), flag);
    assert.deepEqual([version.status, version.stderr, help.status, help.stderr], [0, "", 0, ""]);
  });

  it("puts no simulated devices in the place of real ones that were asked for", {
    skip: NO_VFIO ? false : "this machine has VFIO",
  }, async () => {
    const cases = [
      ["iommufd", /the iommufd interface is not there: \/dev\/iommu does not exist.*Next: .*host = "legacy"/],
      ["legacy", /the legacy VFIO interface is not there: \/dev\/vfio\/vfio does not exist.*Next: load the modules/],
    ] as const;
    const runs = cases.map(async ([host, expected]) => {
      const run = await runDaemon([...configured(""), "--host", host]);
      assert.match(run.stderr, expected);
      assert.equal(run.status, 1);
      assertPlain(withoutLog(run));
    });
    await Promise.all(runs);
  });

  it("refuses an RLIMIT_NOFILE that its limits do not fit into, with both figures", async () => {
    const flags = [...configured("[limits]\nconnections = 100\nleases_per_uid = 10\ndescriptors_in_flight = 32\n"), "--host", "simulated"];
    // 64 + 3 * 100 + 4 * 2 * 10 + 32
    const needed = 476;
    const run = await runDaemon(flags, { under: ["prlimit", `--nofile=${needed - 1}`] });
    assert.match(
      run.stderr,
      /RLIMIT_NOFILE is 475 \(hard limit 475\), and the configured limits need 476 descriptors\. Raise it .*or lower limits\.connections/,
    );
    assert.equal(run.status, 1);
    const enough = await DaemonProcess.start({
      config: "[limits]\nconnections = 100\nleases_per_uid = 10\ndescriptors_in_flight = 32\n",
      under: ["prlimit", `--nofile=${needed}`],
    });
    await enough.stop();
  });

  it("says that the metrics port is taken, and takes its sockets away again", async () => {
    const first = await DaemonProcess.start();
    const address = new URL(first.metricsAddress).host;
    const run = await runDaemon([...configured('host = "simulated"\n'), "--metrics", address]);
    await first.stop();
    assert.match(
      run.stderr,
      new RegExp(`cannot listen on ${address} for metrics: EADDRINUSE\\. Another program listens there: .*--metrics off`),
    );
    assert.equal(run.status, 1);
  });

  it("says what is wrong with an address, a mode, a group", async () => {
    const cases: readonly (readonly [string, RegExp])[] = [
      ['metrics.listen = "9476"', /metrics\.listen: "9476" is no HOST:PORT/],
      ['metrics.listen = "127.0.0.1:70000"', /metrics\.listen: "127\.0\.0\.1:70000" is no HOST:PORT/],
      [
        'metrics.listen = "192.0.2.1:9476"',
        /cannot listen on 192\.0\.2\.1:9476 for metrics: EADDRNOTAVAIL\. Choose another with --metrics/,
      ],
      ['socket_mode = "rw-"', /socket_mode: "rw-" is no octal mode such as 0660/],
      ['socket_group = "no-such-group"', /socket_group: there is no group "no-such-group" in \/etc\/group/],
    ];
    const runs = cases.map(async ([line, expected]) => {
      const metrics = line.startsWith("metrics") ? "" : 'metrics.listen = "off"\n';
      const [config = "", file = "", ...rest] = configured(`host = "simulated"\n${metrics}${line}\n`);
      const run = await runDaemon([config, file, ...rest.slice(0, 2)]);
      assert.match(run.stderr, expected);
      assert.equal(run.status, 1);
      assertPlain(withoutLog(run));
    });
    await Promise.all(runs);
  });

  it("says loudly that its devices are made of memory", { skip: NO_VFIO ? false : "this machine has VFIO" }, async () => {
    const daemon = await DaemonProcess.start({ host: "auto" });
    const loud = daemon.records().find((record) => record.event === "host.simulated");
    assert.equal(loud?.level, "warn");
    assert.match(loud?.message ?? "", /SIMULATED HOST/);
    await daemon.stop();
  });

  it("makes no folder that was named and is not there", async () => {
    const missing = join(folder, "missing");
    const run = await runDaemon(["--host", "simulated", "--metrics", "off", "--socket", join(missing, "a.sock")]);
    assert.match(run.stderr, /the folder .*missing does not exist .*Make it, or choose another path with --socket/);
    assert.equal(run.status, 1);
    assert.equal(existsSync(missing), false);
  });
});

/** Its words without the records of its log. */
function withoutLog(run: Run): Run {
  const stderr = run.stderr
    .split("\n")
    .filter((line) => !line.startsWith("{"))
    .join("\n");
  return { ...run, stderr };
}

describe("[pure] the daemon's program", () => {
  it("names the Node flags with which its code cache is made", () => {
    const program = readFileSync(new URL("../../../deploy/apertured.mjs", import.meta.url), "utf8");
    assert.equal(program.slice(0, program.indexOf("\n")), `#!/usr/bin/env -S node ${NODE_FLAGS.join(" ")}`);
  });
});
