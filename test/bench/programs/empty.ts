// A Node process that listens and does nothing else: what no daemon in Node can start faster than.
// Usage: empty.js SOCKET

import { createServer } from "node:net";

createServer().listen(process.argv[2], () => process.stdout.write("READY\n"));
process.on("SIGTERM", () => process.exit(0));
