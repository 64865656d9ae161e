// gRPC says "UNAVAILABLE" for a missing daemon, a refused one and a lost one alike. One more connect, only after a failure, tells which it is and
// so what to do about it.

import { connect } from "node:net";
import { ApertureConnectionError } from "./errors.js";
import { fitsSocketAddress } from "./socket-path.js";

const CONNECT_MS = 1000;

/** Why the daemon at path cannot be called. */
export async function diagnoseConnection(path: string): Promise<ApertureConnectionError> {
  if (!fitsSocketAddress(path)) return connectionError(path, "ENAMETOOLONG");
  return connectionError(path, await tryConnect(path));
}

/** The error for one errno name. */
export function connectionError(path: string, errnoName: string): ApertureConnectionError {
  const { what, next } = explain(path, errnoName);
  return new ApertureConnectionError(path, errnoName, `cannot reach the Aperture daemon at ${path}: ${what}`, next);
}

function explain(path: string, errnoName: string): { readonly what: string; readonly next: string } {
  switch (errnoName) {
    case "ENOENT":
      return {
        what: "there is no such socket (ENOENT)",
        next: "start the daemon (`apertured`), or name its socket with --socket or APERTURE_SOCKET",
      };
    case "EACCES":
    case "EPERM":
      return {
        what: `this user (uid ${process.getuid?.() ?? "?"}) may not connect (${errnoName})`,
        next: `run as a member of the socket's group (\`stat ${path}\` names it), or ask the operator to let this user in`,
      };
    case "ECONNREFUSED":
      return {
        what: "the socket is there, nobody listens on it (ECONNREFUSED)",
        next: "the daemon ended without cleaning up: start it again (`apertured`); it replaces its own stale socket",
      };
    case "ENOTSOCK":
      return { what: "this is not a socket (ENOTSOCK)", next: "name the daemon's socket with --socket or APERTURE_SOCKET" };
    case "EPROTOTYPE":
      return {
        what: "this is a socket of another type (EPROTOTYPE)",
        next: "name the gRPC socket, not its descriptor channel (the path without .channel)",
      };
    case "ENAMETOOLONG":
      return {
        what: "the path is too long for a UNIX socket (107 bytes with `.channel` appended)",
        next: "let the daemon listen at a shorter path",
      };
    case "EAGAIN":
      return {
        what: "its queue of waiting connections is full (EAGAIN)",
        next: "try again; the daemon's log tells why it does not accept",
      };
    default:
      return {
        what: errnoName === "CLOSED" ? "it closed the connection" : errnoName,
        next: "try again; the daemon's log tells whether it is stopping, restarting or refusing this process",
      };
  }
}

/** errno name of connect(2), or CLOSED when it succeeds now: then it was there and the call's connection was lost. */
function tryConnect(path: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ path, timeout: CONNECT_MS });
    const finish = (errnoName: string): void => {
      socket.destroy();
      resolve(errnoName);
    };
    socket.once("connect", () => finish("CLOSED"));
    socket.once("timeout", () => finish("ETIMEDOUT"));
    socket.once("error", (error: NodeJS.ErrnoException) => finish(error.code ?? "UNKNOWN"));
  });
}
