#!/usr/bin/env -S node --max-semi-space-size=4
// What npm links as `apertured`, as aperturectl.mjs beside it. The flag is package.json's config.daemon_node_flags. A daemon's young objects are those of the calls under way, and V8 would give them
// 48 MiB for good: with semi-spaces of 4 MiB a daemon that has become idle gives memory back, and leases take no longer.
import { existsSync } from "node:fs";

const program = new URL("../dist/src/daemon/launch.js", import.meta.url);
if (existsSync(program)) await import(program.href);
else {
  process.stderr.write("apertured: not built yet: run `npm run build` in the checkout, or `npm start`\n");
  process.exitCode = 1;
}
