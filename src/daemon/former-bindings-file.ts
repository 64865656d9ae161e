// What devices had before the daemon took them, in a file beside its socket: there it outlives the daemon and not the machine's boot, as bindings do. It is read as what it is, a file that decides
// which driver gets a device: one that others could have written is nothing.

import { constants } from "node:fs";
import { open, readFile, rename } from "node:fs/promises";
import { type Address, parseAddress } from "../broker/address.js";
import type { BackendName } from "../broker/device.js";
import type { FormerBinding, FormerBindings } from "../broker/driver-control.js";

const BOOT_ID = "/proc/sys/kernel/random/boot_id";
const MOST_BYTES = 1024 * 1024;
const NAME = /^[\x21-\x7e]{0,64}$/;

export class FormerBindingsFile implements FormerBindings {
  readonly #path: string;
  readonly #uid: number;
  readonly #backend: BackendName;

  /** backend: made-up devices have the addresses of real ones. */
  constructor(path: string, uid: number, backend: BackendName) {
    this.#path = path;
    this.#uid = uid;
    this.#backend = backend;
  }

  async load(): Promise<readonly FormerBinding[]> {
    const file = await open(this.#path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
      (error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT") return null;
        throw error;
      },
    );
    if (file === null) return [];
    try {
      const { uid, mode, size } = await file.stat();
      if ((mode & constants.S_IFMT) !== constants.S_IFREG || uid !== this.#uid || (mode & 0o022) !== 0 || size > MOST_BYTES) {
        throw new Error(`${this.#path} is not the daemon's own file, and is not read`);
      }
      const kept: unknown = JSON.parse(await file.readFile("utf8"));
      const { boot, simulated, devices } = kept as { readonly [Key in "boot" | "simulated" | "devices"]?: unknown };
      if (boot !== (await bootId()) || simulated !== this.#isSimulated || !Array.isArray(devices)) return [];
      return devices.flatMap((each: unknown) => read(each) ?? []);
    } finally {
      await file.close();
    }
  }

  async save(all: readonly FormerBinding[]): Promise<void> {
    // Renamed over the old one: a daemon that dies in between leaves one or the other, whole.
    const next = `${this.#path}.new`;
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW;
    const file = await open(next, flags, 0o600);
    try {
      await file.writeFile(`${JSON.stringify({ boot: await bootId(), simulated: this.#isSimulated, devices: all }, null, 2)}\n`);
    } finally {
      await file.close();
    }
    await rename(next, this.#path);
  }

  get #isSimulated(): boolean {
    return this.#backend === "SIMULATED";
  }
}

async function bootId(): Promise<string> {
  return (await readFile(BOOT_ID, "latin1").catch(() => "")).trim();
}

function read(value: unknown): FormerBinding | null {
  if (typeof value !== "object" || value === null) return null;
  const { address: text, driver, override, boundTo } = value as { readonly [Key in keyof FormerBinding]?: unknown };
  const address: Address | null = typeof text === "string" ? parseAddress(text) : null;
  const names = [driver, override, boundTo];
  if (address === null || !names.every((name): name is string => typeof name === "string" && NAME.test(name))) return null;
  const [before = "", only = "", to = ""] = names;
  return { address, driver: before, override: only, boundTo: to };
}
