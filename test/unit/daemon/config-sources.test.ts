// Which files are read and trusted, what stands over what, and what is printed of it; on real files.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { type Config, loadConfig } from "../../../src/daemon/config.js";
import { warningsOf } from "../../../src/daemon/config-check.js";
import { runConfigCommand } from "../../../src/daemon/config-command.js";
import { readConfig } from "../../../src/daemon/config-file.js";
import { defaultConfig, dumpConfig } from "../../../src/daemon/config-print.js";
import { readFlags } from "../../../src/daemon/flags.js";
import { LiveSettings } from "../../../src/daemon/live-settings.js";
import { defaultSettings, environmentName, SETTING_NAMES, SETTINGS } from "../../../src/daemon/settings.js";

const UID = process.geteuid?.() ?? 0;
const RULE = '[[policy]]\ndevice = "*"\n';

describe("[pure] configuration files", () => {
  let folder = "";
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "aperture-conf-"));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  function put(name: string, source: string | Buffer, mode = 0o644): string {
    const file = join(folder, name);
    mkdirSync(dirname(file), { recursive: true, mode: 0o755 });
    writeFileSync(file, source);
    chmodSync(file, mode);
    return file;
  }

  function load(argv: readonly string[] = [], env: NodeJS.ProcessEnv = {}, uid = UID): ReturnType<typeof loadConfig> {
    const flags = readFlags(["--config", join(folder, "a.toml"), ...argv]);
    if (flags.kind !== "run") assert.fail(JSON.stringify(flags));
    return loadConfig(flags.flags, env, uid);
  }

  function good(argv: readonly string[] = [], env: NodeJS.ProcessEnv = {}): Config {
    const outcome = load(argv, env);
    if (outcome.problems) assert.fail(outcome.problems.join("\n"));
    return outcome.config;
  }

  function problem(uid = UID): string {
    return load([], {}, uid).problems?.join("\n") ?? "";
  }

  it("are the file, then its drop-ins in the order of their names; the later wins, and rules are appended", () => {
    put(
      "a.toml",
      'version = 1\nhost = "legacy"\n[limits]\nack_ms = 200\nwatchers = 7\n[[policy]]\nname = "first"\ndevice = "*"\nuid = [1]\n',
    );
    put("conf.d/20.toml", '[limits]\nack_ms = 400\n[[policy]]\nname = "third"\ndevice = "*"\n');
    put("conf.d/10.toml", 'limits.ack_ms = 300\n[[policy]]\nname = "second"\ndevice = "*"\n');
    put("conf.d/.30.toml", "nonsense = 1\n");
    put("conf.d/40.toml.bak", "nonsense = 1\n");
    const config = good();
    assert.deepEqual([config.settings["limits.ack_ms"], config.settings["limits.watchers"], config.settings.host], [400, 7, "legacy"]);
    assert.deepEqual(
      config.policy.map(({ name }) => name),
      ["first", "second", "third"],
    );
    assert.deepEqual(
      config.files.map((file) => file.slice(folder.length + 1)),
      ["a.toml", "conf.d/10.toml", "conf.d/20.toml"],
    );
    const origin = config.origins.get("limits.ack_ms");
    assert.deepEqual(
      [origin?.from, ...(origin?.over ?? [])],
      [`${folder}/conf.d/20.toml:2`, `${folder}/conf.d/10.toml:1`, `${folder}/a.toml:4`],
    );
    assert.deepEqual(config.ruleOrigins, [`${folder}/a.toml:6`, `${folder}/conf.d/10.toml:2`, `${folder}/conf.d/20.toml:3`]);
  });

  it("stand below the environment, and that below flags, for every setting", () => {
    put("a.toml", "[limits]\nack_ms = 200\n");
    assert.equal(good([], { APERTURE_LIMITS__ACK_MS: "300" }).settings["limits.ack_ms"], 300);
    const config = good(["--set", "limits.ack_ms=4_00", "--set", "socket=a=b"], { APERTURE_LIMITS__ACK_MS: "300" });
    assert.deepEqual([config.settings["limits.ack_ms"], config.settings.socket], [400, "a=b"]);
    assert.deepEqual(config.origins.get("limits.ack_ms"), {
      from: "--set limits.ack_ms",
      over: ["APERTURE_LIMITS__ACK_MS", `${folder}/a.toml:2`],
    });
    for (const name of SETTING_NAMES) {
      const setting = SETTINGS[name];
      const value = setting.type === "number" ? setting.min : setting.default;
      if (value === "") continue;
      // The smallest of one may be more than that of another, which is checked after all.
      const outcome = load([], { [environmentName(name)]: String(value) });
      const set = outcome.config ? [outcome.config.settings[name], outcome.config.origins.get(name)?.from] : outcome.problems;
      if (outcome.config) assert.deepEqual(set, [value, environmentName(name)]);
      else assert.match(outcome.problems.join(), /is more than/);
    }
  });

  it("are not read where a flag or variable is wrong: that is told as wrong usage", () => {
    put("a.toml", "");
    const said = (argv: readonly string[], env: NodeJS.ProcessEnv = {}): string => {
      const outcome = load(argv, env);
      return outcome.problems && outcome.usage ? outcome.problems.join() : JSON.stringify(outcome);
    };
    assert.match(said([], { APERTURE_LIMITS__ACK_MS: "soon" }), /^APERTURE_LIMITS__ACK_MS: expected a whole number of milliseconds$/);
    assert.match(said(["--set", "limits.ack_ms=1"]), /^--set limits\.ack_ms: 1 is outside 100 to 600000 milliseconds$/);
    const flags = readFlags(["--set", "limits.ack=1"]);
    assert.match(flags.kind === "problem" ? flags.problem : "", /there is no such setting; did you mean limits\.ack_ms\?/);
    assert.match(readFlags(["--set", "x"]).kind, /problem/);
    assert.deepEqual(good([], { APERTURE_LIMITS__ACK_MSS: "1", APERTURE_PORT_8080_TCP: "tcp://10.0.0.1" }).warnings, [
      "APERTURE_LIMITS__ACK_MSS in the environment sets nothing; did you mean APERTURE_LIMITS__ACK_MS?",
    ]);
  });

  it("are refused when anybody else has a hand in them", () => {
    put("a.toml", "", 0o664);
    assert.match(problem(), /a\.toml can be written by others \(mode 0664\).*chmod go-w/);
    put("a.toml", "", 0o646);
    assert.match(problem(), /a\.toml can be written by others/);
    put("a.toml", "");
    put("conf.d/1.toml", "", 0o622);
    assert.match(problem(), /1\.toml can be written by others/);
    put("conf.d/1.toml", "");
    chmodSync(join(folder, "conf.d"), 0o775);
    assert.match(problem(), /conf\.d can be written by others/);
    chmodSync(join(folder, "conf.d"), 0o755);
    assert.equal(problem(), "");
    // Not of the daemon's user, and not root's.
    if (UID === 0) {
      chownSync(join(folder, "a.toml"), 1000, 0);
      assert.match(problem(), /a\.toml belongs to uid 1000/);
      assert.equal(problem(1000), "");
      chownSync(join(folder, "a.toml"), 0, 0);
      chownSync(join(folder, "conf.d"), 1000, 0);
      assert.match(problem(), /conf\.d belongs to uid 1000/);
    } else {
      assert.match(problem(UID + 1), /a\.toml belongs to uid/);
    }
  });

  it("are never waited for: what is no regular file is told as what it is", async () => {
    put("a.toml", "");
    mkdirSync(join(folder, "conf.d"));
    const drop = join(folder, "conf.d/1.toml");
    execFileSync("mkfifo", [drop]);
    assert.match(problem(), /1\.toml is a FIFO, and no configuration can be read from that/);
    rmSync(drop);
    mkdirSync(drop);
    assert.match(problem(), /1\.toml is a folder/);
    rmSync(drop, { recursive: true });
    const server = createServer().listen(drop);
    await new Promise((resolve) => server.once("listening", resolve));
    assert.match(problem(), /1\.toml is a socket/);
    await new Promise((resolve) => server.close(resolve));
    symlinkSync("/dev/zero", drop);
    assert.match(problem(), /1\.toml is a device/);
    rmSync(drop);
    rmSync(join(folder, "conf.d"), { recursive: true });
    put("conf.d", "");
    assert.match(problem(), /conf\.d is a file, not the folder of drop-in files/);
  });

  it("may be links, but none that lead in a circle or nowhere", () => {
    put("a.toml", "");
    put("elsewhere/real.toml", "limits.watchers = 9\n");
    mkdirSync(join(folder, "conf.d"));
    const drop = join(folder, "conf.d/1.toml");
    symlinkSync("../elsewhere/real.toml", drop);
    assert.equal(good().settings["limits.watchers"], 9);
    rmSync(drop);
    symlinkSync("2.toml", drop);
    symlinkSync("1.toml", join(folder, "conf.d/2.toml"));
    assert.match(problem(), /1\.toml cannot be read: ELOOP \(symbolic links that lead in a circle\)[\s\S]*2\.toml cannot be read: ELOOP/);
    rmSync(join(folder, "conf.d/2.toml"));
    assert.match(problem(), /1\.toml cannot be read: ENOENT/);
    rmSync(join(folder, "conf.d"), { recursive: true });
    symlinkSync("conf.d", join(folder, "conf.d"));
    assert.match(problem(), /the folder .*conf\.d cannot be read: ELOOP/);
  });

  it("are refused when they are too large, too many, or no text", () => {
    put("a.toml", Buffer.alloc((1 << 20) + 1, "#"));
    assert.match(problem(), /larger than 1048576 bytes, or no UTF-8/);
    put("a.toml", Buffer.alloc(1 << 20, "#"));
    assert.equal(problem(), "");
    put("a.toml", Buffer.from([0x23, 0xff, 0xfe]));
    assert.match(problem(), /or no UTF-8/);
    put("a.toml", 'socket = "a\0b"');
    assert.match(problem(), /a\.toml:1: /);
    put("a.toml", 'socket = "a\\u0000b"');
    assert.match(problem(), /a\.toml:1: socket: holds a NUL/);
    put("a.toml", "");
    for (let i = 0; i < 257; i += 1) put(`conf.d/${i}.toml`, "");
    assert.match(problem(), /holds 257 files, where 256 are the most/);
  });

  it("name each rule once, over all of them", () => {
    put("a.toml", '[[policy]]\nname = "vmm"\ndevice = "*"\n');
    put("conf.d/1.toml", '[[policy]]\nname = "vmm"\ndevice = "*"\n');
    assert.equal(
      problem(),
      `${folder}/conf.d/1.toml:1: policy.name: "vmm" is the rule at ${folder}/a.toml:1 already; a denial names its rule, so each needs a name of its own`,
    );
    put("a.toml", RULE + RULE);
    put("conf.d/1.toml", RULE);
    assert.deepEqual(
      good().policy.map(({ name }) => name),
      ["rule 1 of a.toml", "rule 2 of a.toml", "rule 1 of 1.toml"],
    );
  });

  it("give no rule, and the default holds; an empty policy, and everything is denied", () => {
    put("a.toml", "");
    assert.equal(good().policy.length, 1);
    put("a.toml", "policy = []\n");
    assert.equal(good().policy.length, 0);
  });

  it("must fit together", () => {
    put("a.toml", "[limits]\nretry_min_ms = 50000\n");
    assert.match(problem(), /limits\.retry_min_ms \(50000\) is more than limits\.retry_max_ms \(30000\)/);
  });

  it("tell what looks like a mistake", () => {
    put(
      "a.toml",
      [
        '[[policy]]\nname = "nvidia"\ndevice = "10de:*"\nuid = [1, 2]',
        '[[policy]]\nname = "one"\ndevice = "10de:2342"\nuid = [1]\nexecutable = "/usr/bin/qemu"',
        '[[policy]]\nname = "none"\ndevice = "*"\nuid = []',
        '[[policy]]\nname = "anybody"\ndevice = "8086:*"\nexecutable = "/usr/bin/qemu"',
        '[[policy]]\nname = "not him"\ndevice = "*"\nexecutable = "/usr/bin/evil"\nkind = []',
      ].join("\n"),
    );
    const told = warningsOf(good()).join("\n");
    assert.match(told, /a\.toml:5: policy rule "one" can never match: whatever it matches, "nvidia" before it matches first/);
    assert.match(told, /policy rule "none" matches nobody/);
    assert.match(told, /policy rule "anybody" allows any user who can run that program/);
    assert.match(told, /policy rule "not him" denies by executable: a copy/);
    assert.equal(told.split("\n").length, 4);
  });

  it("are printed so that the same is read back", () => {
    put("a.toml", 'socket = "/a b\\"c\\n\\u007f"\n[limits]\nack_ms = 500\n');
    put(
      "conf.d/1.toml",
      '[[policy]]\nname = "all \\"of\\" it"\nuid = [1]\ngid = [2, 3]\nexecutable = ["/a*"]\ncgroup = "/b/**"\ndevice = ["10de:*", "class:03", "driver:x", "group:4", "0000:01:00.0", "8086:1234", "*"]\nkind = "region"\nmode = ["retain"]\ndelegate = true\nallow_device_scope = true\nallow_unreset = true\nmax_leases = 0\nmax_duration = 60\n[[policy]]\nname = "deny"\ndevice = "*"\nkind = []\n',
    );
    const before = good();
    const text = dumpConfig(before);
    assert.match(text, /ack_ms = 500 # .*a\.toml:3\n/);
    rmSync(join(folder, "conf.d"), { recursive: true });
    put("a.toml", text);
    const after = good();
    assert.deepEqual(after.settings, before.settings);
    assert.deepEqual(after.policy, before.policy);
    assert.equal(readConfig("default.toml", defaultConfig()).problems, null);
    put("a.toml", defaultConfig().replaceAll(/^#(?=[a-z_]+ = |\[\[)/gm, ""));
    assert.deepEqual({ ...good().settings, socket: "" }, defaultSettings());
  });

  it("are checked, printed and defaulted by commands that need no daemon", () => {
    put("a.toml", "host = 3\n");
    const run = (...words: string[]): ReturnType<typeof runConfigCommand> => {
      const flags = readFlags(["config", ...words, "--config", join(folder, "a.toml")]);
      if (flags.kind !== "config") assert.fail(JSON.stringify(flags));
      return runConfigCommand(flags.command, flags.flags, {}, UID);
    };
    assert.deepEqual(run("check"), { out: "", messages: [`${folder}/a.toml:1: host: expected a string`], status: 1 });
    assert.equal(run("default").status, 0);
    assert.equal(run("dump").status, 1);
    assert.equal(run("dump", "--set", "limits.ack_ms=x").status, 1, "the file is wrong, too");
    put("a.toml", 'host = "simulated"\n');
    assert.match(run("check").out, /^good: .*a\.toml; 1 policy rule\n$/);
    assert.equal(run("check", "--set", "limits.ack_ms=x").status, 2);
    assert.match(run("dump").out, /^host = "simulated" # .*a\.toml:1$/m);
    const flags = readFlags(["config", "chekc"]);
    assert.match(flags.kind === "problem" ? flags.problem : "", /did you mean check\?/);
  });

  it("change a running daemon only where that can be done", () => {
    put("a.toml", 'host = "legacy"\n[limits]\nack_ms = 500\n');
    const live = new LiveSettings(defaultSettings());
    const { changed, needsRestart } = live.apply({ ...good(), settings: { ...good().settings, socket: "" } });
    assert.deepEqual(changed, [{ name: "limits.ack_ms", from: "2000", to: "500" }]);
    assert.deepEqual(needsRestart, [{ name: "host", from: "auto", to: "legacy" }]);
    assert.deepEqual([live.now["limits.ack_ms"], live.now.host], [500, "auto"]);
  });
});
