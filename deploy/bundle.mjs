// Makes dist/daemon.cjs, all modules of the daemon in one file, and dist/daemon.cjs.cache, V8's code cache of it. src/daemon/launch.ts starts from them.
// The cache is taken from a daemon that has started: it then holds the functions that a start needs, and not only the outermost ones.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const dist = join(root, "dist");
const bundle = join(dist, "daemon.cjs");

/**
 * Modules that read a file beside them go on finding it: each asks for its own old place, from the bundle's folder on. What src/rpc/libraries.ts requires late becomes a part
 * of the bundle that runs late: esbuild knows a require only by its own name.
 */
const places = {
  name: "places",
  setup(build) {
    build.onLoad({ filter: /\/dist\/src\/rpc\/libraries\.js$/ }, ({ path }) => {
      const [before, after] = readFileSync(path, "utf8").split("const require = createRequire(import.meta.url);");
      if (after === undefined) throw new Error(`${path} makes no require of its own any more`);
      return { contents: before + after };
    });
    build.onLoad({ filter: /\/dist\/src\/.*\.js$/ }, ({ path }) => ({
      contents: readFileSync(path, "utf8").replaceAll("import.meta.url", `moduleUrl(${JSON.stringify(relative(dist, path))})`),
    }));
    build.onLoad({ filter: /\/node_modules\/(grpc-health-check|@grpc\/reflection)\/.*\.js$/ }, ({ path }) => ({
      contents: readFileSync(path, "utf8").replaceAll("__dirname", `moduleFolder(${JSON.stringify(relative(dist, dirname(path)))})`),
    }));
  },
};

const head = `(function (require, directory) {
const moduleFolder = (path) => require("node:path").join(directory, path);
const moduleUrl = (path) => require("node:url").pathToFileURL(moduleFolder(path)).href;
`;

await build({
  entryPoints: [join(dist, "src/daemon/main.js")],
  outfile: bundle,
  bundle: true,
  platform: "node",
  target: "node20",
  format: "cjs",
  legalComments: "none",
  logLevel: "warning",
  plugins: [places],
  banner: { js: head },
  footer: { js: "})" },
});
// In ASCII, V8 needs one byte a character; one character that is not (esbuild leaves those of comments) would double the whole.
const text = readFileSync(bundle, "utf8");
writeFileSync(
  bundle,
  text.replaceAll(/[\u0080-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`),
);

const folder = mkdtempSync(join(tmpdir(), "aperture-bundle-"));
try {
  // V8 takes a cache only with the flags that it was made with.
  const { daemon_node_flags: nodeFlags } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")).config;
  const flags = ["--host", "simulated", "--metrics", "127.0.0.1:0", "--log-level", "warn", "--socket", join(folder, "a.sock")];
  const made = spawnSync(process.execPath, [...nodeFlags.split(" "), join(root, "deploy/code-cache.cjs"), bundle, ...flags], {
    encoding: "utf8",
    timeout: 60_000,
  });
  if (made.status !== 0) {
    process.stderr.write(made.stderr);
    throw new Error(`no code cache could be made (exit status ${made.status ?? made.signal})`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
