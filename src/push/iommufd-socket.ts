// The socket at which KubeVirt's virt-launcher fetches an iommufd (its source calls it an extension point for device plugins): a SOCK_STREAM socket at a path that is mounted into
// one pod. Who connects gets one byte 0 with one descriptor, and answers one byte 0. One VM, one socket, one connection: whoever else comes finds nothing.

import { lchownSync, lstatSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { OwnedDescriptor } from "../descriptor.js";
import { native, type SysError } from "../native.js";
import { type Accepted, PollSet } from "../poll-set.js";
import { PushError } from "./errors.js";
import { forVmm, type PushedLease } from "./pushed-lease.js";

/** KubeVirt's own: between the allocation and the start of virt-launcher an image may have to be pulled. */
const TAKE_MS = 900_000;
const ACKNOWLEDGE_MS = 10_000;
/** Byte of the message and of its acknowledgement. */
const BYTE = 0;

export interface IommufdSocketOptions {
  /** Where the socket is made; nothing may be there, and nobody else may be able to write to its folder. */
  readonly path: string;
  /** Mode of the socket file. Default 0600. */
  readonly mode?: number;
  /** User who owns the socket file, and so may connect to it. Default: this process's. */
  readonly owner?: number;
  /** Milliseconds until somebody has to have come. Default 900,000. */
  readonly takeMs?: number;
  /** Milliseconds from there to the acknowledgement. Default 10,000. */
  readonly acknowledgeMs?: number;
}

/** The process that took the iommufd, as the kernel named it when it connected. */
export interface IommufdTaker {
  readonly pid: number;
  readonly uid: number;
}

/** A socket for one iommufd. */
export class IommufdSocket {
  readonly #options: IommufdSocketOptions;
  readonly #path: string;
  readonly #listening: OwnedDescriptor;
  readonly #inode: bigint;
  #cancel: (why: PushError) => void = () => undefined;

  private constructor(options: IommufdSocketOptions, path: string, listening: OwnedDescriptor, inode: bigint) {
    this.#options = options;
    this.#path = path;
    this.#listening = listening;
    this.#inode = inode;
  }

  /** Makes the socket. Throws PushError SOCKET_EXISTS, SOCKET_REFUSED. */
  static listen(options: IommufdSocketOptions): IommufdSocket {
    const path = resolve(options.path);
    if (exists(path))
      throw new PushError("SOCKET_EXISTS", `there is something at ${path} already`, "each VM needs a socket of its own, at a new path");
    const made = native.listenUnix("stream", dirname(path), basename(path), options.mode ?? 0o600, -1, 1);
    if (made.error !== null) throw refused(path, made.error);
    const [fd, inode] = made.value;
    const socket = new IommufdSocket(options, path, new OwnedDescriptor(fd, `the socket ${path}`), inode);
    try {
      // Nobody else can have put another file there: the folder belongs to root or to this user alone.
      if (options.owner !== undefined) lchownSync(path, options.owner, -1);
    } catch (error) {
      socket.close();
      const { code = "UNKNOWN" } = error as NodeJS.ErrnoException;
      throw new PushError(
        "SOCKET_REFUSED",
        `${path} cannot be given to user ${options.owner}: ${code}`,
        "only root may give a file away",
        "PERMISSION_DENIED",
      );
    }
    return socket;
  }

  get path(): string {
    return this.#path;
  }

  /**
   * Gives the lease's iommufd to the first process that connects, and closes this process's own descriptors of the lease; the path is gone as soon as somebody has come. Once.
   * Throws PushError LEASE_NOT_FOR_VMM, RECEIVER_SILENT, RECEIVER_PROTOCOL, SOCKET_REFUSED: release the lease then, because its iommufd may be with somebody else.
   */
  async give(lease: PushedLease): Promise<IommufdTaker> {
    const iommufd = forVmm(lease, undefined).iommufd;
    const { fd, pid, uid } = await this.#accept();
    const connection = new OwnedDescriptor(fd, "the connection of who takes an iommufd");
    try {
      const sent = native.sendFrame(connection.borrow(), Uint8Array.of(BYTE), [iommufd.borrow()]);
      if (sent.error !== null) throw left(`process ${pid} came and was gone before it was given the iommufd (${sent.error.code})`);
      await this.#acknowledged(connection, pid);
      await lease.closeDescriptors();
      return { pid, uid };
    } finally {
      connection.close();
    }
  }

  /** Removes the socket; give() then fails. Twice is harmless. */
  close(): void {
    if (!this.#listening.isOpen) return;
    this.#listening.close();
    native.unlinkSocket(dirname(this.#path), basename(this.#path), this.#inode);
    this.#cancel(new PushError("RECEIVER_SILENT", `the socket ${this.#path} was closed before anybody came`));
  }

  #accept(): Promise<Accepted> {
    const takeMs = this.#options.takeMs ?? TAKE_MS;
    return new Promise<Accepted>((resolve, reject) => {
      // The poller gets a copy: this object goes on owning the socket, and close() its path.
      const copy = native.duplicate(this.#listening.borrow());
      if (copy.error !== null) return reject(refused(this.#path, copy.error));
      const polls = new PollSet(reject);
      const end = (): void => {
        clearTimeout(timer);
        polls.close();
        this.close();
      };
      const timer = setTimeout(
        () => this.#cancel(new PushError("RECEIVER_SILENT", `nobody came to ${this.#path} within ${takeMs / 1000} s`)),
        takeMs,
      );
      let over = false;
      this.#cancel = (why) => {
        if (over) return;
        over = true;
        end();
        reject(why);
      };
      const listening = polls.listen(copy.value, {
        accepted: (connection) => {
          if (connection.pidfd >= 0) native.closeDescriptor(connection.pidfd);
          // More than one can have come in one wake-up.
          if (over) {
            native.closeDescriptor(connection.fd);
            return;
          }
          over = true;
          end();
          resolve(connection);
        },
        starved: () =>
          this.#cancel(new PushError("SOCKET_REFUSED", "this process has no descriptor left for who came", "raise RLIMIT_NOFILE")),
      });
      if (listening.error !== null) {
        native.closeDescriptor(copy.value);
        this.#cancel(refused(this.#path, listening.error));
      }
    });
  }

  async #acknowledged(connection: OwnedDescriptor, pid: number): Promise<void> {
    const acknowledgeMs = this.#options.acknowledgeMs ?? ACKNOWLEDGE_MS;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        cancel();
        reject(
          new PushError(
            "RECEIVER_SILENT",
            `process ${pid} was given the iommufd and did not acknowledge it within ${acknowledgeMs / 1000} s`,
          ),
        );
      }, acknowledgeMs);
      const cancel = native.onReadable(connection.borrow(), () => {
        clearTimeout(timer);
        resolve();
      });
    });
    // Two: to see that there is no second.
    const { value, error } = native.receiveFrame(connection.borrow(), 2, 0);
    if (error !== null) throw left(`process ${pid} broke its connection off instead of acknowledging the iommufd (${error.code})`);
    if (value.frame.length === 0) throw left(`process ${pid} left without acknowledging the iommufd`);
    if (value.frame.length > 1 || value.frame[0] !== BYTE || value.truncated)
      throw left(`process ${pid} answered the iommufd with something else than one byte 0`);
  }
}

function left(message: string): PushError {
  return new PushError("RECEIVER_PROTOCOL", message, "release the lease; an iommufd alone opens no device");
}

function exists(path: string): boolean {
  try {
    lstatSync(path);
    return true;
  } catch {
    return false;
  }
}

function refused(path: string, { code, operation }: SysError): PushError {
  const next =
    code === "UNSAFE_DIRECTORY"
      ? "make the folder belong to root or to this user, and writable by nobody else (chmod 755)"
      : code === "ENOENT"
        ? "make its folder first"
        : null;
  return new PushError(
    "SOCKET_REFUSED",
    `no socket can be made at ${path}: ${operation}: ${code}`,
    next,
    code === "EACCES" ? "PERMISSION_DENIED" : "FAILED_PRECONDITION",
  );
}
