// A client process of these tests: does what the lines on its standard input say, one JSON answer a line. Ends with its input.

import { spawnSync } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { native } from "../../../src/native.js";

let socket = -1;

/** Sends from a process that is not the one that connected: a child that inherits the socket. */
function sendFromChild(text: string): number | null {
  native.inherit(socket);
  const child = spawnSync(process.execPath, [fileURLToPath(import.meta.url), "send", text], {
    stdio: ["ignore", "ignore", "inherit", socket],
  });
  return child.status;
}

function send(fd: number, text: string, descriptors: readonly number[]): string {
  return native.sendFrame(fd, Buffer.from(text), descriptors).error?.code ?? "";
}

const commands: Record<string, (argument: string) => unknown> = {
  connect: (path) => {
    const result = native.connectSeqpacket(path);
    socket = result.value ?? -1;
    return result.error?.code ?? "";
  },
  send: (text) => send(socket, text, []),
  /** A frame with that many descriptors. */
  sendDescriptors: (count) => send(socket, "with descriptors", new Array<number>(Number(count)).fill(0)),
  sendLong: (bytes) => send(socket, "x".repeat(Number(bytes)), []),
  sendFromChild,
  receive: () => {
    const result = native.receiveFrame(socket, 4096, 32);
    if (result.error) return result.error.code;
    const { frame, descriptors, truncated } = result.value;
    for (const fd of descriptors) native.closeDescriptor(fd);
    return { text: Buffer.from(frame).toString(), descriptors: descriptors.length, truncated };
  },
  close: () => native.closeDescriptor(socket).error?.code ?? "",
  /** The socket lives on in a process that outlives this one; its pid. */
  leaveSocketBehind: () => {
    native.inherit(socket);
    const child = spawnSync("sh", ["-c", "sleep 60 <&- >/dev/null 2>&1 & echo $!"], { stdio: ["ignore", "pipe", "inherit", socket] });
    return Number(child.stdout.toString());
  },
};

if (process.argv[2] === "send") {
  process.exit(native.sendFrame(3, Buffer.from(process.argv[3] ?? ""), []).error?.errno ?? 0);
} else if (process.argv[2] === "connect") {
  process.exit(native.connectSeqpacket(process.argv[3] ?? "").error?.errno ?? 0);
} else {
  createInterface({ input: process.stdin }).on("line", (line) => {
    const [name = "", argument = ""] = line.split("\t");
    const command = commands[name];
    process.stdout.write(`${JSON.stringify(command ? command(argument) : `no command ${name}`)}\n`);
  });
}
