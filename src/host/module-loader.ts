// Loading a kernel module: modprobe, which knows what a module needs and what the administrator has forbidden (modprobe.d).

import { spawn } from "node:child_process";

/** Of what modprobe says. */
const MOST_TEXT = 400;

/** null: it is loaded; else why not, in words. */
export type LoadModule = (module: string, limitMs: number) => Promise<string | null>;

export const loadModule: LoadModule = (module, limitMs) =>
  new Promise((resolve) => {
    // Where modprobe is by the file system's standard: a daemon's PATH often has no sbin.
    const child = spawn("modprobe", ["--", module], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { PATH: "/usr/sbin:/sbin:/usr/bin:/bin" },
    });
    let said = "";
    child.stderr.on("data", (piece: Buffer) => {
      said = (said + piece.toString("latin1")).slice(0, MOST_TEXT);
    });
    const timer = setTimeout(() => {
      // In the kernel's hands it cannot be killed, and nobody waits for it.
      child.kill("SIGKILL");
      child.unref();
      child.stderr.destroy();
      resolve(`modprobe ${module} has not ended after ${limitMs / 1000} s`);
    }, limitMs);
    let failed: string | null = null;
    child.once("error", (error: NodeJS.ErrnoException) => {
      failed =
        error.code === "ENOENT" ? "there is no modprobe on this machine" : `modprobe could not be started: ${error.code ?? error.message}`;
    });
    // Comes after an error too, when its pipe is closed.
    child.once("close", (status, signal) => {
      clearTimeout(timer);
      const words = said.replaceAll(/[^\x20-\x7e]+/g, " ").trim();
      const ended = status === 0 ? null : `modprobe ${module} ended with ${status ?? signal}${words === "" ? "" : `: ${words}`}`;
      resolve(failed ?? ended);
    });
  });
