// A command for `exec` that says what it was given and which signals it gets. SIGTERM ends it with status 41; what stops and continues a process is left to the kernel.

import { readdirSync } from "node:fs";

const TOLD = ["SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGWINCH", "SIGTERM"] as const;

for (const signal of TOLD) {
  process.on(signal, () => {
    process.stdout.write(`got ${signal}\n`);
    if (signal === "SIGTERM") process.exit(41);
  });
}
setInterval(() => undefined, 1 << 30);
const environment = Object.entries(process.env).filter(([name]) => name.startsWith("APERTURE_"));
const open = readdirSync("/proc/self/fd").length;
process.stdout.write(
  `ready ${process.pid} ${JSON.stringify({ argv: process.argv.slice(2), env: Object.fromEntries(environment), open })}\n`,
);
