// The only file that loads the addon, and the whole of what crosses the bridge.
//
// Rules of the bridge (native/README.md has the reasons):
//   * plain data only; every field present; null means "none", undefined never crosses;
//   * declarations here stand in the order of native/js/addon.cc, with the same names;
//   * uint64 is bigint; descriptors are numbers here and nowhere else: callers wrap them in a FileDescriptor (below) at once;
//   * a system call that fails is a value (SysResult); a wrong argument is a programming fault and throws TypeError or RangeError.

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

/** A failed system call: made in one place (native/sys/result.h), so that no errno is ever lost on the way. */
export interface SysError {
  /** System call or ioctl, for example `VFIO_DEVICE_BIND_IOMMUFD`. */
  readonly operation: string;
  /** errno as the kernel gave it; 0 when the addon refused an answer of the kernel (code tells). */
  readonly errno: number;
  /** Symbolic name (`EBUSY`), or one of ours: `BAD_CAPABILITY_CHAIN`, `BAD_ANSWER`, `NOT_UNIX`, `UNSAFE_DIRECTORY`, `IS_SYMLINK`, `FOREIGN_FILE`, `NO_ORACLE`, `FOREIGN_NAMESPACE`, `CLOSED`. */
  readonly code: string;
  /** What it was about: a path, a PCI address, a region. */
  readonly subject: string;
}

export type SysResult<T> = { readonly value: T; readonly error: null } | { readonly value: null; readonly error: SysError };

/** struct vfio_device_info. */
export interface VfioDeviceInfo {
  readonly flags: number;
  readonly numRegions: number;
  readonly numIrqs: number;
}

export interface VfioArea {
  readonly offset: bigint;
  readonly size: bigint;
}

/** struct vfio_region_info with its capability chain walked. */
export interface VfioRegionInfo {
  readonly index: number;
  /** VFIO_REGION_INFO_FLAG_*: 1 read, 2 write, 4 mmap, 8 caps. */
  readonly flags: number;
  readonly size: bigint;
  readonly offset: bigint;
  /** null: the driver sent no sparse-mmap capability. Zero-sized areas are kept: the caller decides. */
  readonly sparse: readonly VfioArea[] | null;
  /** VFIO_REGION_INFO_CAP_TYPE. */
  readonly type: { readonly type: number; readonly subtype: number } | null;
  /** VFIO_REGION_INFO_CAP_MSIX_MAPPABLE. */
  readonly msixMappable: boolean;
}

/** struct iommu_hw_info. */
export interface IommuInfo {
  /** enum iommu_hw_info_type. */
  readonly kind: number;
  /** IOMMU_HW_CAP_*. */
  readonly capabilities: bigint;
  /** 0: no PASID, or a kernel before 6.15. */
  readonly maxPasidLog2: number;
  /** The vendor's structure, at most 256 bytes. */
  readonly data: Uint8Array;
}

/** One row of struct vfio_pci_hot_reset_info; the kernel keeps 16 bits of the segment (PCI domain). */
export interface ResetFunction {
  readonly segment: number;
  readonly bus: number;
  /** Device × 8 + function. */
  readonly devfn: number;
}

/** struct vfio_irq_info. */
export interface VfioIrqInfo {
  readonly index: number;
  readonly flags: number;
  readonly count: number;
}

/** What a process runs, and where. Paths are bytes: a file name need not be UTF-8. */
export interface ProgramFacts {
  /** Target of /proc/PID/exe; empty: executableError has the errno's name. A path in the file's own mount namespace. */
  readonly executable: Uint8Array;
  readonly executableError: string;
  /** Identity of the executable file. */
  readonly device: bigint;
  readonly inode: bigint;
  /** Path in the cgroup v2 hierarchy; empty: cgroupError has the errno's name, ENODATA when there is no such hierarchy. */
  readonly cgroup: Uint8Array;
  readonly cgroupError: string;
}

/** One thing to read in a folder. */
export interface FolderEntry {
  /**
   * text: a file's contents, EFBIG beyond 4096 bytes; link: the target; names: of a folder's entries, each ended by NUL, EFBIG beyond 1 MiB; inode: of what the name itself is, 8 bytes.
   * What finds no room in an answer of 16 MiB: EMSGSIZE.
   */
  readonly kind: "text" | "link" | "names" | "inode";
  /** In the folder; empty: the folder itself, which then may be a link. */
  readonly name: string;
}

/**
 * One FIFO of blocking operations, run on a native thread that it has only while there is work. BIND, RESET, the last
 * close of a device and a read of a device that is not ready can take 0.1 to 256 s in the kernel: they never run on the event loop nor on
 * libuv's pool (four threads: one slow device would stop the others). One queue a device; operations of one queue never overlap.
 */
export interface BlockingQueue {
  /** open(2) with O_CLOEXEC. */
  open(path: string, access: "read" | "write" | "readwrite"): Promise<SysResult<number>>;
  /** close(2). The last close of a VFIO device resets it, so this can take as long as a reset. */
  close(fd: number): Promise<SysResult<null>>;
  /** close(2) of each in this order (at most 1024), as one operation: the thread is woken once. All are closed whatever one answers; error: the first. */
  closeAll(fds: readonly number[]): Promise<SysResult<null>>;
  /** VFIO_DEVICE_BIND_IOMMUFD; value: device id in the iommufd. token: VF token as a UUID string, or null. */
  bindIommufd(deviceFd: number, iommufd: number, token: string | null, subject: string): Promise<SysResult<number>>;
  /** IOMMU_OPTION_RLIMIT_MODE = 1: pinned memory counts against the process that maps it, as with the container, not against its user; only on a fresh iommufd, needs CAP_SYS_RESOURCE. */
  iommufdSetRlimitMode(iommufd: number): Promise<SysResult<null>>;
  /** IOMMU_GET_HW_INFO of a device bound to the iommufd; device: the value of bindIommufd. */
  iommuInfo(iommufd: number, device: number, subject: string): Promise<SysResult<IommuInfo>>;
  deviceInfo(deviceFd: number, subject: string): Promise<SysResult<VfioDeviceInfo>>;
  regionInfo(deviceFd: number, index: number, subject: string): Promise<SysResult<VfioRegionInfo>>;
  irqInfo(deviceFd: number, index: number, subject: string): Promise<SysResult<VfioIrqInfo>>;
  /** VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, the device's own function among them. ENODEV: neither its slot nor its bus can be reset. */
  hotResetInfo(deviceFd: number, subject: string): Promise<SysResult<readonly ResetFunction[]>>;
  /** VFIO_DEVICE_RESET. */
  reset(deviceFd: number, subject: string): Promise<SysResult<null>>;
  /** VFIO_DEVICE_FEATURE with PROBE; value false: ENOTTY, the kernel or driver has no such feature. get/set: which direction to probe. */
  featureProbe(deviceFd: number, feature: number, direction: "get" | "set", subject: string): Promise<SysResult<boolean>>;
  /** VFIO_DEVICE_FEATURE_MIGRATION: VFIO_MIGRATION_*; 0: the driver cannot migrate it. */
  migrationFlags(deviceFd: number, subject: string): Promise<SysResult<bigint>>;
  /** VFIO_DEVICE_FEATURE_DMA_BUF for one range of one region; value: dma-buf descriptor. */
  dmaBufExport(deviceFd: number, region: number, offset: bigint, length: bigint, subject: string): Promise<SysResult<number>>;
  /** VFIO_GET_API_VERSION on a container. */
  containerApiVersion(containerFd: number): Promise<SysResult<number>>;
  /** VFIO_CHECK_EXTENSION. */
  containerCheckExtension(containerFd: number, extension: number): Promise<SysResult<boolean>>;
  /** VFIO_SET_IOMMU. */
  containerSetIommu(containerFd: number, type: number): Promise<SysResult<null>>;
  /** VFIO_GROUP_GET_STATUS: flags, 1 viable, 2 container set. */
  groupStatus(groupFd: number, subject: string): Promise<SysResult<number>>;
  /** VFIO_GROUP_SET_CONTAINER. */
  groupSetContainer(groupFd: number, containerFd: number, subject: string): Promise<SysResult<null>>;
  /** VFIO_GROUP_GET_DEVICE_FD; name is the PCI address, or an mdev UUID, with ` vf_token=UUID` when there is one. */
  groupGetDevice(groupFd: number, name: string): Promise<SysResult<number>>;
  /** pread(2) until length bytes are there or the kernel gives no more; value holds what was read (shorter at the end of a region). At most 64 MiB, as every read and write here. */
  pread(fd: number, offset: bigint, length: number, subject: string): Promise<SysResult<Uint8Array>>;
  /** pwrite(2) of all bytes; value: bytes written. */
  pwrite(fd: number, offset: bigint, data: Uint8Array, subject: string): Promise<SysResult<number>>;
  /** Executable and cgroup of a process, from /proc. The number may be another process's by the time of the answer: ask its pidfd afterwards. */
  program(pid: number): Promise<SysResult<ProgramFacts>>;
  /** Whether path is, here, the very file (not a link) with this identity. Looks the path up: a file system that hangs keeps the thread. */
  isFile(path: string, device: bigint, inode: bigint): Promise<SysResult<boolean>>;
  /**
   * The same entries of many folders below parent, for a scan of sysfs. value: of every folder every entry in the order asked for, each 4 bytes and as many bytes as they say, or minus
   * its errno; little-endian (host/folder-reader.ts walks through it). Nothing that is not there, cannot be read or is too long fails the call. At most 4096 folders and 64 entries.
   */
  readFolders(parent: string, folders: readonly string[], entries: readonly FolderEntry[]): Promise<SysResult<Uint8Array>>;
  /** Refuses new operations (code CLOSED); resolves when the last one has ended. */
  finish(): Promise<null>;
}

/**
 * A padded aperture in this process: `size` bytes of address space, each area mapped MAP_SHARED over it, the rest PROT_NONE.
 * The base is congruent with the offset at 1 GiB, so that the kernel can use huge mappings.
 */
export interface Mapping {
  /** Bytes of address space: the padded size. */
  readonly size: bigint;
  /**
   * Copies out of the mapping on the mapping's own thread. In the tail: 0xFF. Every access is naturally aligned and as wide as
   * alignment and rest allow (8, 4, 2, 1), so 4 aligned bytes are one 32-bit load. SIGBUS and SIGSEGV become an error
   * (EFAULT, subject names region offset); so does a hole between two areas, which is not tail. Beyond size: RangeError.
   */
  read(offset: bigint, length: number): Promise<SysResult<Uint8Array>>;
  /** Copies into the mapping; bytes that fall into the tail are dropped. */
  write(offset: bigint, data: Uint8Array): Promise<SysResult<null>>;
  /**
   * A view of [offset, offset+length), which must lie in one area (RangeError else). It is detached (length 0) by close().
   * After close() it throws an Error with code CLOSED. Writing to a view of a mapping without write ends the process (SIGSEGV).
   * Touching a view of a device that is in reset or poisoned is a SIGBUS that nobody can catch: use read and write for devices.
   */
  view(offset: bigint, length: number): ArrayBuffer;
  /** Detaches every view, waits for running copies, unmaps. Twice is harmless; any other call after it: error CLOSED. */
  close(): Promise<SysResult<null>>;
}

/** Facts of a connected peer, taken at accept. */
export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** SO_PEERPIDFD; -1 when the kernel has none (before 6.5). The receiver owns it. */
  readonly pidfd: number;
}

/** Kinds of Poller events; the values are those of native/sys/poller.h. */
export const PollEvent = {
  /**
   * A connection was accepted. a: descriptor, b: pid, c: uid, d: gid (uint32: use >>> 0), e: pidfd or -1. Whoever reads the row owns a and e,
   * also when the listener was removed earlier in the batch: close both then.
   */
  accepted: 1,
  /** A frame arrived on a channel. a: byte count (in the frame buffer at slot × frameBytes), b: 1 when the sending process is the one that connected, else 0. */
  frame: 2,
  /** The channel is gone (EOF or error) and its descriptor closed. a: errno or 0. */
  hangup: 3,
  /** The process of a watched pidfd has exited; its watch is over (the pidfd stays open). */
  exited: 4,
  /** The peer sent descriptors (all closed at once), an oversized frame or truncated control data: channel closed. a: errno-like code, EPROTO. */
  violation: 5,
  /** A watched descriptor (an eventfd) became readable and was drained. a: low 31 bits of its counter. */
  signalled: 6,
  /** A listener failed to accept for want of descriptors or memory. a: errno. The one waiting connection was accepted and closed by a spare descriptor. */
  starved: 7,
  /** A watched descriptor is readable: whoever is told reads it, or is told again. a: EPOLL* bits. */
  readable: 8,
} as const;

/** Int32 columns of one row of PollBatch.rows. */
export const PollColumn = { kind: 0, id: 1, a: 2, b: 3, c: 4, d: 5, e: 6, width: 7 } as const;

/** The buffers through which a Poller and JavaScript talk; allocated once, reused for every batch. */
export interface PollBuffers {
  /** Events of one batch: batchSize rows of PollColumn.width. */
  readonly rows: Int32Array;
  /** Frames that arrived: batchSize × frameBytes. */
  readonly frames: Uint8Array;
  /** Outgoing: rows of [channel id, frame length, descriptor count, errno (written by flush, 0 = sent)]. */
  readonly out: Int32Array;
  /** Outgoing frames: batchSize × frameBytes. */
  readonly outFrames: Uint8Array;
  /** Outgoing descriptors: batchSize × maxDescriptors. The sender keeps its copies. */
  readonly outDescriptors: Int32Array;
}

/**
 * One epoll set behind one uv_poll handle: listeners, descriptor channels, pidfds. Up to batchSize (64) events reach JavaScript in one
 * call. Nothing in it blocks. What add* takes over stays the caller's when it fails. Ids are 0 to 2^31-1, one source each (EEXIST).
 * Watches and channels hold a duplicate of the pidfd or eventfd: one descriptor more each.
 */
export interface Poller {
  readonly buffers: PollBuffers;
  readonly batchSize: number;
  readonly frameBytes: number;
  readonly maxDescriptors: number;
  /** Adds a listening socket (the Poller owns it from now on); its events carry id. kind: what to do with what it accepts: nothing more than report it. */
  addListener(fd: number, id: number): SysResult<null>;
  /** Adds a connected SOCK_SEQPACKET socket (owned from now on) whose peer is the process of pidfd (not owned). Sets SO_PASSCRED, and SO_PASSPIDFD where the pid tells nothing. */
  addChannel(fd: number, id: number, pid: number, uid: number, pidfd: number): SysResult<null>;
  /** Reports `exited` once when the process of pidfd is gone. The pidfd stays the caller's. */
  watchExit(pidfd: number, id: number): SysResult<null>;
  /** Reports `signalled` whenever the eventfd is written. The eventfd stays the caller's. */
  watchEventfd(fd: number, id: number): SysResult<null>;
  /** Reports `readable` at each wake-up while fd is readable or has failed. The descriptor stays the caller's. */
  watchReadable(fd: number, id: number): SysResult<null>;
  /** Ends a watch or closes a listener or channel. No event of id comes afterwards (later rows of the batch get kind 0; `accepted` stays). Unknown id: nothing happens. */
  remove(id: number): null;
  /** Sends the first count staged rows, one sendmsg each with MSG_DONTWAIT | MSG_NOSIGNAL; writes each row's errno. */
  flush(count: number): null;
  /** Keeps (true) or does not keep (false) the process alive. */
  ref(alive: boolean): null;
  /** Closes everything it owns. */
  close(): null;
}

/** What arrives on the client's side of a channel in one recvmsg. */
export interface ReceivedFrame {
  /** Empty at end of file. */
  readonly frame: Uint8Array;
  /** In order of the message; empty when truncated. The receiver owns them. */
  readonly descriptors: readonly number[];
  /** MSG_CTRUNC: not all descriptors fitted (buffer, or RLIMIT_NOFILE). Those that had arrived are closed already. */
  readonly truncated: boolean;
}

/** What the kernel said of its devices. */
export interface UeventBatch {
  /** `ACTION@DEVPATH`, then KEY=VALUE, each ended by NUL; from the kernel only. At most 64. */
  readonly messages: readonly Uint8Array[];
  /** The kernel had no room for some, or one was too long: what is known may be old. */
  readonly lost: boolean;
  /** Nothing was left to read. After a loss the kernel drops all that comes until a reader gets here, and tells of the first loss alone. */
  readonly drained: boolean;
  /** Messages from somebody else than the kernel, dropped. */
  readonly foreign: number;
}

/** What happened to a watched file. */
export interface FileEvent {
  /** As inotifyWatch gave it; -1: events were lost. */
  readonly watch: number;
  /** IN_*: 0x8 closed after writing was possible, 0x10 closed read-only, 0x20 opened, 0x4000 lost, 0x8000 the watch is over. */
  readonly mask: number;
}

export interface Native {
  readonly BlockingQueue: new (name: string) => BlockingQueue;
  readonly Poller: new (onBatch: (count: number) => void) => Poller;

  /**
   * Maps a region. fd stays the caller's. fdOffset: where the region starts in fd; areas as the driver gave them, in region
   * offsets. write false maps PROT_READ only. Runs mmap on a thread (mapping may reset or wake the device).
   */
  mapRegion(
    fd: number,
    fdOffset: bigint,
    size: bigint,
    areas: readonly VfioArea[],
    write: boolean,
    subject: string,
  ): Promise<SysResult<Mapping>>;

  /**
   * Makes a listening UNIX socket at directory/name, CLOEXEC and non-blocking. The directory is opened O_NOFOLLOW and must belong to
   * root or this user and be writable by nobody else (sticky does not help): else EPERM with code UNSAFE_DIRECTORY. What is already at
   * name: nothing: fine; our own socket that nobody listens on (ECONNREFUSED): replaced; a live socket: EADDRINUSE; a
   * symlink: code IS_SYMLINK; anything else or another owner's: code FOREIGN_FILE. Never removes what is not ours. The mode is never
   * wider than `mode` at any instant. gid -1 keeps the group. value: [descriptor, inode of the socket file].
   */
  listenUnix(
    type: "stream" | "seqpacket",
    directory: string,
    name: string,
    mode: number,
    gid: number,
    backlog: number,
  ): SysResult<readonly [number, bigint]>;
  /** Removes directory/name when it is a socket with this inode, else leaves it. */
  unlinkSocket(directory: string, name: string, inode: bigint): SysResult<null>;
  /** Connects a CLOEXEC SOCK_SEQPACKET socket, non-blocking. */
  connectSeqpacket(path: string): SysResult<number>;
  /** Connects a CLOEXEC SOCK_STREAM socket, non-blocking. EAGAIN: the listener's backlog is full. */
  connectStream(path: string): SysResult<number>;
  /** SO_PEERCRED and SO_PEERPIDFD of a connected UNIX socket; refuses other domains (code NOT_UNIX). */
  peerCredentials(fd: number): SysResult<PeerCredentials>;
  /** SO_PEERGROUPS: supplementary groups of the connecting process at connect time. More than most: ERANGE. */
  peerGroups(fd: number, most: number): SysResult<readonly number[]>;
  /** poll(2) with timeout 0 on a pidfd: false once the process has exited. */
  isAlive(pidfd: number): boolean;
  /** pidfd_open(2). */
  pidfdOpen(pid: number): SysResult<number>;
  /** Inode of a pidfd when the kernel has pidfs (6.9 and later: unique for the machine's life), else null. */
  pidfdInode(pidfd: number): bigint | null;

  /** One sendmsg on a connected socket with descriptors (may be empty). EAGAIN is an error value. On a SOCK_STREAM socket one byte only: of more, the kernel may take a part. */
  sendFrame(fd: number, frame: Uint8Array, descriptors: readonly number[]): SysResult<null>;
  /**
   * One recvmsg with MSG_CMSG_CLOEXEC, at most maxFrame bytes and maxDescriptors descriptors, control buffer of exactly that size. A frame
   * longer than maxFrame (MSG_TRUNC) is code BAD_ANSWER, its descriptors closed. Of a SOCK_STREAM socket: what is there, up to maxFrame. Nothing there yet: EAGAIN.
   */
  receiveFrame(fd: number, maxFrame: number, maxDescriptors: number): SysResult<ReceivedFrame>;
  /** Calls back once when fd becomes readable or hangs up (uv_poll); the returned function cancels. Does not own fd. */
  onReadable(fd: number, callback: () => void): () => void;

  /** A sparse memfd, nothing allocated, whose size is sealed: no holder can truncate it under another's mapping, nor add seals. */
  memfdCreate(name: string, size: bigint): SysResult<number>;
  /** A second open file of the same memfd (open of /proc/self/fd/N): what is handed out is never what we use. */
  reopen(fd: number, access: "read" | "readwrite"): SysResult<number>;
  /** True when any open file of the memfd other than fd's own exists, one that only a mapping holds included (F_SETLEASE F_WRLCK, then F_UNLCK). Kernel without leases: code NO_ORACLE. */
  memfdShared(fd: number): SysResult<boolean>;
  /** eventfd2(0, EFD_CLOEXEC | EFD_NONBLOCK). */
  eventfdCreate(): SysResult<number>;
  /** close(2) of what never blocks: sockets, pidfds, memfds, eventfds. VFIO descriptors go through a BlockingQueue. */
  closeDescriptor(fd: number): SysResult<null>;
  /** poll(2) for POLLOUT without waiting. Of a pipe: at least 4096 bytes (PIPE_BUF) can be written without blocking. False also when fd is not open. */
  isWritable(fd: number): boolean;
  /** dup3-like F_DUPFD_CLOEXEC. */
  duplicate(fd: number): SysResult<number>;
  /** Clears FD_CLOEXEC so that a child inherits fd (spawn). */
  inherit(fd: number): SysResult<null>;
  /** Soft and hard RLIMIT_NOFILE. */
  nofileLimit(): SysResult<readonly [bigint, bigint]>;
  /**
   * Raises RLIMIT_MEMLOCK of this process, which its children inherit, to at least so many bytes: up to the hard limit, with CAP_SYS_RESOURCE beyond it, and
   * without as far as it goes. value: soft and hard limit then; 2^64 - 1: none.
   */
  raiseMemlock(bytes: bigint): SysResult<readonly [bigint, bigint]>;

  /** A non-blocking socket of NETLINK_KOBJECT_UEVENT, group 1. Code FOREIGN_NAMESPACE: the kernel sends this network namespace no events. */
  ueventsOpen(): SysResult<number>;
  /** What has arrived on it; nothing is no error. */
  ueventsReceive(fd: number): SysResult<UeventBatch>;
  /** inotify_init1(IN_CLOEXEC | IN_NONBLOCK). */
  inotifyCreate(): SysResult<number>;
  /** Watches opens and closes of a file; the same file again: the same number. */
  inotifyWatch(fd: number, path: string): SysResult<number>;
  /** All that has happened, in order; nothing is no error. Two equal events that nobody read in between are one. */
  inotifyRead(fd: number): SysResult<readonly FileEvent[]>;
}

const require = createRequire(import.meta.url);
const addonPath = fileURLToPath(new URL("../../native/build/Release/aperture.node", import.meta.url));

function load(): Native {
  if (!existsSync(addonPath)) {
    throw new Error(`the native helper is not built (${addonPath} is missing): run "npm run build", which needs python3, make and g++`);
  }
  return require(addonPath) as Native;
}

export const native: Native = load();
