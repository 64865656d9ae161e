#!/usr/bin/env node
import { run } from "./run.js";
import { openTerminal } from "./terminal.js";

// `aperturectl devices | head -1`: the reader has what it wanted.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(0);
});

process.exitCode = await run(process.argv.slice(2), openTerminal(process.stdout, process.stderr, process.env));
