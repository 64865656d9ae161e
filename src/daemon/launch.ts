// Starts apertured from one file and its code cache (deploy/bundle.mjs makes both): about 250 modules are neither looked up nor compiled again at each start. Where the
// bundle is missing, the modules themselves are loaded. A cache of another Node or other V8 flags is rejected by V8 and then merely not used.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { Script } from "node:vm";

function read(file: string): Buffer | undefined {
  try {
    return readFileSync(file);
  } catch {
    return undefined;
  }
}

const folder = fileURLToPath(new URL("../../", import.meta.url));
const filename = `${folder}daemon.cjs`;
const code = read(filename);
if (code === undefined) {
  await import("./main.js");
} else {
  const cachedData = read(`${filename}.cache`);
  // deploy/bundle.mjs sees to it that it is ASCII.
  const script = new Script(code.toString("latin1"), { filename, ...(cachedData ? { cachedData } : {}) });
  (script.runInThisContext() as (require: NodeJS.Require, folder: string) => void)(createRequire(import.meta.url), folder);
}
