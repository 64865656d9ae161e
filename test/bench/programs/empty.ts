// A Node process that listens and does nothing else: what no daemon in Node can start faster than.
// Usage: empty.js SOCKET

import { createServer } from "node:net";

const server = createServer().listen(process.argv[2], () => process.stdout.write("READY\n"));
// Closing takes the socket's name away, for the next turn.
process.on("SIGTERM", () => server.close(() => process.exit(0)));
