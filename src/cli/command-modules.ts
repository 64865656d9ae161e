// The module behind each command, loaded when it is called: help needs neither gRPC nor the native helper. Apart from the table, because help reads the table.

import type { CommandModule, CommandName } from "./command.js";

export const COMMAND_MODULES: Readonly<Record<CommandName, () => Promise<CommandModule>>> = {
  devices: () => import("./commands/devices.js"),
  device: () => import("./commands/device.js"),
  explain: () => import("./commands/explain.js"),
  acquire: () => import("./commands/acquire.js"),
  reserve: () => import("./commands/reserve.js"),
  successor: () => import("./commands/successor.js"),
  release: () => import("./commands/release.js"),
  leases: () => import("./commands/leases.js"),
  args: () => import("./commands/args.js"),
  exec: () => import("./commands/exec.js"),
  plug: () => import("./commands/plug.js"),
  "serve-iommufd": () => import("./commands/serve-iommufd.js"),
  host: () => import("./commands/host.js"),
  "policy test": () => import("./commands/policy-test.js"),
  "policy reload": () => import("./commands/policy-reload.js"),
  "driver bind": () => import("./commands/driver-bind.js"),
  "driver restore": () => import("./commands/driver-restore.js"),
  vfs: () => import("./commands/vfs.js"),
  watch: () => import("./commands/watch.js"),
  rescan: () => import("./commands/rescan.js"),
  doctor: () => import("./commands/doctor.js"),
  completion: () => import("./commands/completion.js"),
  help: () => import("./commands/help.js"),
  version: () => import("./commands/version.js"),
};
