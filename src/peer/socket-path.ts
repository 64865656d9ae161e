// Where the daemon listens. The rules of the path are the addon's (native/sys/socket.cc); here each way it can go wrong becomes a sentence that says what to do.

import { basename, dirname } from "node:path";
import { native, type SysError } from "../native.js";

export interface ListeningSocket {
  readonly fd: number;
  readonly path: string;
  /** Removes the socket file when it is still the one we made. */
  unlink(): void;
}

export interface ListenOptions {
  readonly path: string;
  readonly type: "stream" | "seqpacket";
  /** Permission bits of the socket file. */
  readonly mode: number;
  /** -1 keeps the group. */
  readonly gid: number;
}

export type ListenOutcome =
  | { readonly socket: ListeningSocket; readonly problem: null }
  | { readonly socket: null; readonly problem: string };

/** Connections that wait to be accepted: more than the connection limit is of no use. */
const BACKLOG = 128;

export function listenAt(options: ListenOptions): ListenOutcome {
  const directory = dirname(options.path);
  const name = basename(options.path);
  const made = native.listenUnix(options.type, directory, name, options.mode, options.gid, BACKLOG);
  if (made.error) return { socket: null, problem: explain(options.path, directory, made.error) };
  const [fd, inode] = made.value;
  return { socket: { fd, path: options.path, unlink: () => void native.unlinkSocket(directory, name, inode) }, problem: null };
}

function explain(path: string, directory: string, error: SysError): string {
  const said = `${error.operation}: ${error.code}`;
  switch (error.code) {
    case "EADDRINUSE":
      return `another daemon listens on ${path} (${said}). Stop it first, or give this one another path with --socket`;
    case "IS_SYMLINK":
      if (error.subject === directory) return `${directory} is a symbolic link (${said}). Name the real folder with --socket`;
      return `${path} is a symbolic link (${said}). Remove it: a socket is never made through a link, which could point anywhere`;
    case "FOREIGN_FILE":
      return `${path} exists and is not a socket of this user (${said}). Remove it, or choose another path with --socket; nothing was changed`;
    case "UNSAFE_DIRECTORY":
      return `${directory} belongs to another user or is writable by others (${said}), who could put their own socket in its place. Make it owned by the daemon's user with mode 0755 or narrower`;
    case "ENOENT":
      return `the folder ${directory} does not exist (${said}). Make it, or choose another path with --socket`;
    case "ELOOP":
    case "ENOTDIR":
      return `${directory} is a symbolic link or no folder (${said}). Name the real folder with --socket`;
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return `no permission to make a socket in ${directory} (${said}). Run the daemon as a user who may, or choose another path with --socket`;
    case "ENAMETOOLONG":
      return `the name of ${path} is too long for a socket (${said}). Choose a shorter name with --socket; .channel is appended to it`;
    default:
      return `cannot listen on ${path}: ${said} (${error.subject})`;
  }
}
