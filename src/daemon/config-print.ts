// The configuration as TOML: what is in effect, with where each value comes from; and the defaults, with what each setting means.

import { selectorWords } from "../broker/device-selector.js";
import type { PolicyRule } from "../broker/policy.js";
import type { Config, Origin } from "./config.js";
import { environmentName, SETTING_NAMES, SETTINGS, type Setting, type SettingName } from "./settings.js";

/** The configuration in effect. What it prints is a file that says the same. */
export function dumpConfig({ settings, origins, policy, ruleOrigins, peers, files }: Config): string {
  const lines = [
    "# Configuration of apertured in effect. Behind each value: where it comes from, and what it stands over.",
    files.length === 0 ? "# No file was read." : `# Files, in order: ${files.join(", ")}`,
    "version = 1",
  ];
  const origin = ({ from, over }: Origin): string => (over.length === 0 ? from : `${from}, over ${over.join(", ")}`);
  inTables(
    (name, key) => lines.push(`${key} = ${toml(settings[name])} # ${comment(origin(origins.get(name) ?? { from: "default", over: [] }))}`),
    lines,
  );
  for (const [index, rule] of policy.entries()) lines.push("", `# ${comment(ruleOrigins[index] ?? "")}`, ...ruleLines(rule));
  for (const { set, origin: where } of peers) {
    lines.push("", `# ${comment(where)}`, "[[peers]]", `name = ${toml(set.name)}`, `devices = ${toml(set.devices)}`);
  }
  return `${lines.join("\n")}\n`;
}

/** Every setting with its default, as comments: a file to start from that changes nothing. */
export function defaultConfig(): string {
  const lines = [
    "# Every setting of apertured with its default. To change one, remove the # before it.",
    "# Drop-ins: conf.d/*.toml beside this file, in the order of their names; the later is the stronger.",
    "version = 1",
  ];
  inTables((name, key) => {
    lines.push(
      "",
      `# ${SETTINGS[name].help}`,
      `# ${rangeWords(name)}; ${whenWords(name)}; ${environmentName(name)}`,
      `#${key} = ${toml(SETTINGS[name].default)}`,
    );
  }, lines);
  lines.push(
    "",
    "# Who may lease what: the first rule that matches decides, and without one the answer is no.",
    "# Without any rule: the daemon's own user, every device. docs/CONFIG.md has every key.",
    "#[[policy]]",
    '#name = "vmm"',
    "#uid = [1000]",
    '#device = ["10de:*", "class:0302"]',
    '#kind = ["device"]',
    '#mode = ["hand_off", "retain"]',
    "#max_leases = 4",
    "",
    "# Devices that are locked together because of a tie that the kernel does not tell, such as NVLink or a shared EGM.",
    "#[[peers]]",
    '#name = "nvlink"',
    '#devices = ["0009:01:00.0", "0019:01:00.0"]',
  );
  return `${lines.join("\n")}\n`;
}

/** Calls back for each setting, those without a table first, and writes a header before each table. */
function inTables(write: (name: SettingName, key: string) => void, lines: string[]): void {
  let table = "";
  for (const name of SETTING_NAMES) {
    const dot = name.indexOf(".");
    const of = dot < 0 ? "" : name.slice(0, dot);
    if (of !== table) lines.push("", `[${of}]`);
    table = of;
    write(name, name.slice(dot + 1));
  }
}

export function rangeWords(name: SettingName): string {
  const setting: Setting = SETTINGS[name];
  if (setting.type === "number") return `${setting.unit}, ${setting.min} to ${setting.max}`;
  if (setting.oneOf !== null) return `one of ${setting.oneOf.join(", ")}`;
  return setting.form === null ? "text" : setting.form.words;
}

export function whenWords(name: SettingName): string {
  return SETTINGS[name].live ? "reloadable" : "needs a restart";
}

function ruleLines(rule: PolicyRule): readonly string[] {
  const lines = ["[[policy]]", `name = ${toml(rule.name)}`];
  const optional = (key: string, value: Parameters<typeof toml>[0] | null): void => {
    if (value !== null) lines.push(`${key} = ${toml(value)}`);
  };
  optional("uid", rule.uids);
  optional("gid", rule.gids);
  optional("executable", rule.executables);
  optional("cgroup", rule.cgroups);
  optional("device", rule.devices.map(selectorWords));
  optional("kind", rule.kinds.map(lower));
  optional("mode", rule.modes.map(lower));
  optional("delegate", rule.delegate);
  optional("allow_device_scope", rule.allowDeviceScope);
  optional("allow_unreset", rule.allowUnreset);
  optional("max_leases", rule.maxLeases);
  optional("max_duration", rule.maxDurationMs === null ? null : rule.maxDurationMs / 1000);
  return lines;
}

function lower(word: string): string {
  return word.toLowerCase();
}

/** Strings as TOML's basic strings: JSON's escapes are TOML's too, but for DEL. */
function toml(value: string | number | boolean | readonly (string | number)[]): string {
  if (typeof value === "string") return JSON.stringify(value).replaceAll("\x7f", "\\u007f");
  return typeof value === "object" ? `[${value.map(toml).join(", ")}]` : String(value);
}

/** A path may hold a newline, which would end the comment. */
function comment(text: string): string {
  return text.replace(/\p{Cc}/gu, "?");
}
