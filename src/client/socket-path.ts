// Where the daemon listens when nobody says. The order mirrors the daemon's own default, which depends on the user it runs as: the system's
// daemon first, then a daemon of this user.

import { existsSync } from "node:fs";
import { join, resolve } from "node:path";

/** sockaddr_un.sun_path holds 108 bytes with the closing NUL. */
const LONGEST_SOCKET_PATH = 107;

/** Suffix of the descriptor channel's socket (docs/PROTOCOL.md). */
const CHANNEL_SUFFIX = ".channel";

const SYSTEM_SOCKET = "/run/aperture/aperture.sock";

/** The facts that the default depends on. */
export interface SocketSurroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly uid: number;
  readonly exists: (path: string) => boolean;
}

/**
 * Path of the daemon's gRPC socket: the environment variable APERTURE_SOCKET; else the system's daemon when its socket is there; else the one of
 * a daemon that this user started.
 */
export function defaultSocketPath(surroundings: SocketSurroundings = hostSurroundings()): string {
  const { env, uid, exists } = surroundings;
  if (env["APERTURE_SOCKET"]) return resolve(env["APERTURE_SOCKET"]);
  if (uid === 0 || exists(SYSTEM_SOCKET)) return SYSTEM_SOCKET;
  if (env["XDG_RUNTIME_DIR"]) return join(env["XDG_RUNTIME_DIR"], "aperture/aperture.sock");
  return `/tmp/aperture-${uid}/aperture.sock`;
}

/** Path of the descriptor channel that belongs to a gRPC socket. */
export function channelPath(socketPath: string): string {
  return `${socketPath}${CHANNEL_SUFFIX}`;
}

/** False when the kernel could not bind or connect the descriptor channel of this socket: its path would be cut. */
export function fitsSocketAddress(socketPath: string): boolean {
  return Buffer.byteLength(channelPath(socketPath)) <= LONGEST_SOCKET_PATH;
}

function hostSurroundings(): SocketSurroundings {
  return { env: process.env, uid: process.getuid?.() ?? 0, exists: existsSync };
}
