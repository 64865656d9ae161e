// Debian packages without touching the machine's own package sources: an apt whose source list, indexes and cache lie in a folder of ours. The
// list repeats the mirror that the machine already uses, with other suites, so no address is known here and a machine behind a mirror of its
// own works as it is.

import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "./process.js";

export interface DebianRelease {
  /** 12, 13 */
  readonly version: number;
  readonly codename: string;
}

interface Mirror {
  readonly uris: string;
  /** A keyring's path or a whole key, as the sources say it; empty for apt's own trust. */
  readonly signedBy: string;
}

/** null on anything but Debian. */
export async function debianRelease(): Promise<DebianRelease | null> {
  const text = await readFile("/etc/os-release", "utf8");
  const field = (name: string) => new RegExp(`^${name}="?([^"\n]*)`, "m").exec(text)?.[1] ?? "";
  if (field("ID") !== "debian") return null;
  return { version: Number.parseInt(field("VERSION_ID"), 10), codename: field("VERSION_CODENAME") };
}

/** The stanzas of a *.sources file: field name in lower case to value, continuation lines included. */
function stanzas(text: string): Map<string, string>[] {
  return text
    .replace(/^#.*\n/gm, "")
    .split(/\n\s*\n/)
    .map(
      (stanza) =>
        new Map(
          [...stanza.matchAll(/^([\w-]+):[ \t]*((?:.*)(?:\n[ \t].*)*)/gm)].map((match) => [(match[1] ?? "").toLowerCase(), match[2] ?? ""]),
        ),
    );
}

function mirrorInSources(text: string, suite: string): Mirror | null {
  const words = (stanza: Map<string, string>, field: string) => (stanza.get(field) ?? "").split(/\s+/);
  const found = stanzas(text).find(
    (stanza) =>
      words(stanza, "types").includes("deb") &&
      words(stanza, "suites").includes(suite) &&
      words(stanza, "components").includes("main") &&
      stanza.get("enabled") !== "no",
  );
  return found === undefined ? null : { uris: found.get("uris") ?? "", signedBy: found.get("signed-by") ?? "" };
}

function mirrorInList(text: string, suite: string): Mirror | null {
  for (const match of text.matchAll(/^deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+(.*)$/gm)) {
    const [, options = "", uri = "", inSuite, components = ""] = match;
    if (inSuite === suite && components.split(/\s+/).includes("main"))
      return { uris: uri, signedBy: /signed-by=(\S+)/.exec(options)?.[1] ?? "" };
  }
  return null;
}

async function machinesMirror(suite: string): Promise<Mirror> {
  const folder = "/etc/apt/sources.list.d";
  const names = await readdir(folder).catch(() => []);
  for (const path of ["/etc/apt/sources.list", ...names.sort().map((name) => join(folder, name))]) {
    if (!path.endsWith(".list") && !path.endsWith(".sources")) continue;
    const text = await readFile(path, "utf8").catch(() => "");
    const mirror = path.endsWith(".sources") ? mirrorInSources(text, suite) : mirrorInList(text, suite);
    if (mirror !== null) return mirror;
  }
  throw new Error(`no package source in /etc/apt offers the suite ${suite}, component main`);
}

export class PrivateApt {
  readonly #options: readonly string[];

  private constructor(options: readonly string[]) {
    this.#options = options;
  }

  /** With fresh indexes. */
  static async open(folder: string, release: DebianRelease, suites: readonly string[]): Promise<PrivateApt> {
    const mirror = await machinesMirror(release.codename);
    const lists = join(folder, "lists");
    const cache = join(folder, "cache");
    await mkdir(join(lists, "partial"), { recursive: true });
    await mkdir(join(cache, "archives", "partial"), { recursive: true });
    const sources = join(folder, "lab.sources");
    const fields = ["Types: deb", `URIs: ${mirror.uris}`, `Suites: ${suites.join(" ")}`, "Components: main"];
    if (mirror.signedBy !== "") fields.push(`Signed-By: ${mirror.signedBy}`);
    await writeFile(sources, `${fields.join("\n")}\n`);
    const settings = {
      "Dir::Etc::SourceList": sources,
      "Dir::Etc::SourceParts": "/dev/null",
      "Dir::State::Lists": lists,
      "Dir::Cache": cache,
      // apt's own user may not read a folder below somebody's home.
      "APT::Sandbox::User": "root",
      "DPkg::Lock::Timeout": "300",
    };
    const apt = new PrivateApt(Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]));
    await apt.#run("apt-get", ["update", "--error-on=any"]);
    return apt;
  }

  async #run(command: string, args: readonly string[], cwd?: string): Promise<string> {
    const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive", LC_ALL: "C" };
    return run(command, ["-q", ...this.#options, ...args], cwd === undefined ? { env } : { env, cwd });
  }

  /** The names of packages that match, oldest version number in the name first. */
  async packageNames(pattern: RegExp): Promise<string[]> {
    const names = (await this.#run("apt-cache", ["pkgnames"])).split("\n").filter((name) => pattern.test(name));
    return names.sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  }

  async install(packages: readonly string[], preferredSuite: string): Promise<void> {
    await this.#run("apt-get", ["install", "--yes", "--no-install-recommends", "--target-release", preferredSuite, ...packages]);
  }

  /** Unpacks a package into a folder, without installing it. */
  async unpack(packageName: string, folder: string): Promise<void> {
    await mkdir(folder, { recursive: true });
    await this.#run("apt-get", ["download", packageName], folder);
    const file = (await readdir(folder)).find((name) => name.endsWith(".deb"));
    if (file === undefined) throw new Error(`apt-get download ${packageName} left no file`);
    await run("dpkg", ["-x", join(folder, file), folder]);
    await run("rm", [join(folder, file)]);
  }
}
