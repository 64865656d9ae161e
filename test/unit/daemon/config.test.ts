import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, describe, it } from "node:test";
import { type Config, loadConfig } from "../../../src/daemon/config.js";
import { readConfig } from "../../../src/daemon/config-file.js";
import { dumpConfig } from "../../../src/daemon/config-print.js";
import { readFlags } from "../../../src/daemon/flags.js";
import { checkSetting, SETTING_NAMES, SETTINGS } from "../../../src/daemon/settings.js";
import { nearest } from "../../../src/nearest.js";

const folder = mkdtempSync(join(tmpdir(), "aperture-config-"));
after(() => rmSync(folder, { recursive: true }));

const OWN_UID = process.geteuid?.() ?? 0;

function write(name: string, source: string): string {
  const file = join(folder, name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, source);
  chmodSync(file, 0o644);
  return file;
}

function load(argv: readonly string[], env: NodeJS.ProcessEnv = {}, uid = OWN_UID): ReturnType<typeof loadConfig> {
  const flags = readFlags(argv);
  if (flags.kind !== "run") assert.fail(JSON.stringify(flags));
  return loadConfig(flags.flags, env, uid);
}

function good(argv: readonly string[], env: NodeJS.ProcessEnv = {}, uid = OWN_UID): Config {
  const outcome = load(argv, env, uid);
  if (outcome.problems) assert.fail(outcome.problems.join("\n"));
  return outcome.config;
}

function problems(source: string): readonly string[] {
  return readConfig("a.toml", source).problems ?? [];
}

describe("[pure] declared peers", () => {
  const set = (name: string, devices: string): string => `[[peers]]\nname = "${name}"\ndevices = ${devices}\n`;

  it("are read, and printed as they are read", () => {
    const file = write("peers.toml", `host = "auto"\n${set("nvlink", '["0009:01:00.0", "0019:01:00.0"]')}`);
    const config = good(["--config", file]);
    assert.deepEqual(config.peers, [{ set: { name: "nvlink", devices: ["0009:01:00.0", "0019:01:00.0"] }, origin: `${file}:2` }]);
    const again = write("again.toml", dumpConfig(config));
    assert.deepEqual(
      good(["--config", again]).peers.map((one) => one.set),
      config.peers.map((one) => one.set),
    );
  });

  it("each mistake is told at its line, also behind a table of another name", () => {
    assert.deepEqual(problems("peers = 3\n"), ["a.toml:1: peers: write each set as a [[peers]] table"]);
    assert.deepEqual(problems('[[peers]]\ndevices = ["0009:01:00.0", "0019:01:00.0"]\n'), [
      "a.toml:1: peers.name: expected a string of 1 to 1024 characters",
    ]);
    assert.deepEqual(problems(set("a", '["0009:01:00.0"]')), ["a.toml:3: peers.devices: expected a list of 2 to 64 addresses"]);
    assert.deepEqual(problems(`[[policy]]\ndevice = "*"\n${set("a", '["0009:01:00.0", "gpu", "0009:01:00.0"]')}`), [
      'a.toml:5: peers.devices: "gpu" is no PCI address, for example "0009:01:00.0"',
      "a.toml:5: peers.devices: 0009:01:00.0 is named twice",
    ]);
    assert.deepEqual(problems(`${set("a", '["0009:01:00.0", "0019:01:00.0"]')}device = 1\n[[policy]]\ndevice = "*"\n`), [
      "a.toml:4: unknown key peers.device; did you mean peers.devices?",
    ]);
  });

  it("need names of their own", () => {
    const two = set("a", '["0009:01:00.0", "0019:01:00.0"]').repeat(2);
    const outcome = load(["--config", write("twice.toml", two)]);
    assert.match(outcome.problems?.join() ?? "", /twice\.toml:4: peers\.name: "a" is the set at .*:1 already/);
  });
});

describe("[pure] configuration file", () => {
  it("reads settings, tables and policy rules", () => {
    const source = `
host = "simulated"
[limits]
connections = 7
[[policy]]
name = "vmm"
uid = [1000, 1001]
device = ["10de:2342", "0000:01:00.0"]
kind = ["region"]
allow_device_scope = true
max_leases = 2
`;
    const { config } = readConfig("a.toml", source);
    assert.deepEqual(Object.fromEntries(config?.settings ?? []), {
      host: { value: "simulated", line: 2 },
      "limits.connections": { value: 7, line: 4 },
    });
    assert.equal(config?.policy?.[0]?.line, 5);
    assert.deepEqual(config?.policy?.[0]?.rule, {
      ...{ name: "vmm", uids: [1000, 1001], gids: null, executables: null, cgroups: null, kinds: ["REGION"], modes: ["HAND_OFF"] },
      ...{ delegate: false, allowDeviceScope: true, allowUnreset: false, maxLeases: 2, maxDurationMs: null },
      devices: [
        { by: "id", vendorId: 0x10de, deviceId: 0x2342 },
        { by: "address", address: "0000:01:00.0" },
      ],
    });
  });

  it("names file, line and the nearest known key", () => {
    assert.deepEqual(problems('host = "auto"\n\nsokcet = "x"\n'), ["a.toml:3: unknown key sokcet; did you mean socket?"]);
    assert.deepEqual(problems("[limits]\n# a comment\nconections = 3\n"), [
      "a.toml:3: unknown key limits.conections; did you mean limits.connections?",
    ]);
    assert.deepEqual(problems('[[policy]]\ndevice = "*"\n[[policy]]\ndevice = "*"\nuids = [1]\n'), [
      "a.toml:5: unknown key policy.uids; did you mean policy.uid?",
    ]);
    assert.deepEqual(problems("zzzzzzzzzzzz = 1\n"), ["a.toml:1: unknown key zzzzzzzzzzzz"]);
  });

  it("names file and line of a wrong value", () => {
    assert.deepEqual(problems('host = "iommu"\n'), ['a.toml:1: host: "iommu" is none of auto, iommufd, legacy, simulated']);
    assert.deepEqual(problems("[limits]\nack_ms = 5\n"), ["a.toml:2: limits.ack_ms: 5 is outside 100 to 600000 milliseconds"]);
    assert.deepEqual(problems("[limits]\nack_ms = 1.5\n"), ["a.toml:2: limits.ack_ms: expected a whole number of milliseconds"]);
    assert.match(problems("[[policy]]\nname = 'x'\n")[0] ?? "", /^a\.toml:1: policy\.device: a rule names its devices/);
    assert.match(
      problems("[[policy]]\ndevice = ['10de']\n")[0] ?? "",
      /^a\.toml:2: policy\.device: "10de" names no device; write an address/,
    );
    assert.match(problems("[[policy]]\ndevice = '*'\nuid = ['root']\n")[0] ?? "", /^a\.toml:3: policy\.uid: expected a list of numbers/);
    assert.match(problems("policy = 3\n")[0] ?? "", /^a\.toml:1: policy: write each rule/);
  });

  it("names the line of what is no TOML", () => {
    assert.match(problems('host = "auto"\nsocket = \n')[0] ?? "", /^a\.toml:2: /);
  });

  it("tells all problems at once", () => {
    assert.equal(problems("a1 = 1\nb2 = 2\n[limits]\nack_ms = 0\n").length, 3);
  });
});

describe("[pure] where the configuration comes from", () => {
  it("lets the file win over defaults, the environment over the file, flags over all", () => {
    const file = write("c.toml", 'socket = "/from/file"\nhost = "legacy"\n');
    const read = (argv: string[], env: NodeJS.ProcessEnv): string => {
      const { settings } = good(["--config", file, ...argv], env);
      return `${settings.socket} ${settings.host}`;
    };
    assert.equal(read([], {}), "/from/file legacy");
    assert.equal(read([], { APERTURE_SOCKET: "/from/env" }), "/from/env legacy");
    assert.equal(read(["--socket", "/from/flag", "--host", "simulated"], { APERTURE_SOCKET: "/from/env" }), "/from/flag simulated");
  });

  it("has a default socket for each kind of user", () => {
    const socket = (uid: number, env: NodeJS.ProcessEnv): string => {
      return good(["--config", write("empty.toml", "")], env, uid).settings.socket;
    };
    assert.equal(socket(0, {}), "/run/aperture/aperture.sock");
    assert.equal(socket(1000, { XDG_RUNTIME_DIR: "/run/user/1000" }), "/run/user/1000/aperture/aperture.sock");
    assert.equal(socket(1000, {}), "/tmp/aperture-1000/aperture.sock");
  });

  it("says what is wrong with a flag or a file that is not there", () => {
    const said = (argv: string[]): string => {
      const flags = readFlags(argv);
      if (flags.kind === "problem") return flags.problem;
      return flags.kind === "run" ? (loadConfig(flags.flags, {}, OWN_UID).problems?.join() ?? "good") : flags.kind;
    };
    assert.match(said(["--sokcet", "x"]), /Unknown option '--sokcet'; did you mean --socket\?/);
    assert.match(said(["--host", "x"]), /--host: "x" is none of/);
    assert.match(said(["--config", "/nowhere/a.toml"]), /\/nowhere\/a\.toml cannot be read: ENOENT/);
  });
});

describe("[pure] settings", () => {
  it("accept their own defaults and bounds, and nothing beyond", () => {
    for (const name of SETTING_NAMES) {
      const setting = SETTINGS[name];
      assert.equal(checkSetting(name, setting.default), null, name);
      if (setting.type !== "number") continue;
      for (const good of [setting.min, setting.max]) assert.equal(checkSetting(name, good), null, name);
      for (const bad of [setting.min - 1, setting.max + 1, 1.5, Number.NaN, "7", null])
        assert.notEqual(checkSetting(name, bad), null, `${name} ${bad}`);
    }
  });

  it("suggest only what is near", () => {
    assert.equal(nearest("sokcet", ["socket", "host"]), "socket");
    assert.equal(nearest("xyz", ["socket", "host"]), null);
  });
});
