#!/usr/bin/env node
// What npm links as `aperturectl`. It is here before anything is built, because npx links a command only if it is there when the package is first asked for one.
import { existsSync } from "node:fs";

const program = new URL("../dist/src/cli/main.js", import.meta.url);
if (existsSync(program)) await import(program.href);
else {
  process.stderr.write(
    "aperturectl: not built yet: run `npm run build` in the checkout, or wait until `npm start` says that the daemon is ready\n",
  );
  process.exitCode = 1;
}
